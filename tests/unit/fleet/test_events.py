"""What a terminal shows of a run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.events import Progress, finished, live
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event

from tests.unit.fleet.memory import Fleet, fleet

GOOD: dict[str, Any] = {
    "was": "3f1c09d2a7be",
    "release": "77aa01bc9d10",
    "outcome": "good",
    "phases": [{"phase": "start", "at": 0, "seconds": 0.6}, {"phase": "gate", "at": 0.6, "seconds": 3.84}],
}


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (GOOD, "web2  3f1c09d2 -> 77aa01bc  good  start 0.6 gate 3.8 s"),
        ({**GOOD, "was": None}, "web2  none -> 77aa01bc  good  start 0.6 gate 3.8 s"),
        ({"outcome": "unchanged", "was": "3f1c09d2a7be", "release": "3f1c09d2a7be"}, "web2  3f1c09d2  unchanged"),
        ({"outcome": "unreachable", "cause": "no route\n to host"}, "web2  unreachable  no route to host"),
        ({"outcome": "held", "phases": None}, "web2  held"),
        ({"outcome": "good", "phases": [None, {"phase": "start"}, {}]}, "web2  good  start ? None ? s"),
        ({"changed": True}, ""),
        ({}, ""),
    ],
)
def test_line_of_a_host(result: dict[str, Any], line: str) -> None:
    assert finished("web2", result) == line


@pytest.mark.parametrize(
    ("hosts", "batch", "width", "line"),
    [
        (["web2"], "batch 2 of 3", 80, "  web2  12 s  batch 2 of 3"),
        (["web2", "web3"], "", 80, "  web2, web3  12 s"),
        ([f"web{number}" for number in range(50)], "batch 3 of 3", 40, "  web0 and 49 more  12 s  batch 3 of 3"),
        (["a-host-with-a-very-long-name.example.com"], "", 30, "  a-host-with-a-very-lo  12 s"),
        (["web2"], "batch 2 of 3", 10, "  web2  1"),
    ],
)
def test_live_line_fits(hosts: list[str], batch: str, width: int, line: str) -> None:
    assert live(hosts, 12.3, batch, width) == line
    assert len(line) < width


def shown(there: Fleet) -> list[str]:
    progress = Progress()
    return [line for event in there.events for line, _ in progress.lines(event)]


def test_where_an_image_has_its_app_listen_is_told_once_for_the_fleet() -> None:
    there = fleet(3)
    for host in there.hosts:
        host.answers["stage"] = {"port": 80, "warnings": ["the image has it"]}
    there.run()
    assert "web2: the image has it" in shown(there)
    assert [line for line in shown(there) if "EXPOSE" in line] == ["the app listens on port 80, by EXPOSE of its image"]


def test_a_good_run() -> None:
    there = fleet(2)
    there.run()
    assert shown(there) == [
        "web1: the database is at revision 0003",
        "web1  old -> new  good  start 1.0 gate 2.0 switch 0.5 drain 1.5 s",
        "web2  old -> new  good  start 1.0 gate 2.0 switch 0.5 drain 1.5 s",
    ]


def test_a_run_that_goes_back() -> None:
    there = fleet(2)
    there.hosts[1].bad = {"new"}
    there.run()
    assert shown(there)[1:] == [
        "web1  old -> new  good  start 1.0 gate 2.0 switch 0.5 drain 1.5 s",
        "web2  old  failed  start 1.0 gate 2.0 s  not ready within 2 s",
        "web1  new -> old  reverted  start 1.0 gate 2.0 switch 0.5 drain 1.5 s",
    ]


def test_the_live_line_follows_the_run() -> None:
    there = fleet(3)
    there.hosts[2].bad = {"new"}
    progress, seen = Progress(), []
    there.run()
    for event in there.events:
        progress.lines(event)
        seen.append(progress.live(event.at, 80))
    assert "  web1  0 s  batch 1 of 2" in seen
    assert "  web1  1 s  batch 1 of 2  gate" in seen
    assert "  web2, web3  1 s  batch 2 of 2" in seen
    assert "  web1, web2, web3  0 s  taking back" in seen
    assert seen[-1] == seen[0] == ""


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event("warning", 1.0, "web1", {"message": "it is slow"}), "web1: it is slow"),
        (Event("warning", 1.0, "", {"message": "it is slow"}), "it is slow"),
        (Event("lost", 1.0, "web1", {"cause": "cannot be reached: no route"}), "web1: cannot be reached: no route"),
        (
            Event("held", 1.0, "web1", {"taken_over": {"what": "a deploy", "who": "bob"}}),
            "web1: the lock of a deploy by bob that is gone was taken over",
        ),
    ],
)
def test_what_people_must_see(event: Event, line: str) -> None:
    assert [said for said, _ in Progress().lines(event)] == [line]


def test_what_a_host_did_besides_stands_below_its_line() -> None:
    event = Event(
        "ended",
        1.0,
        "web1",
        {
            **GOOD,
            "gap": 3.14,
            "recovered": "undid the interrupted start of a",
            "canary": {"word": "unknown", "sentence": "too few requests to judge the release"},
        },
    )
    assert [said for said, _ in Progress().lines(event)][1:] == [
        "web1: nobody answered for 3.1 s, as fastapi_app_slots_overlap says",
        "web1: undid the interrupted start of a",
        "web1: canary unknown: too few requests to judge the release",
    ]


def test_a_canary_is_told_once() -> None:
    good = {"word": "good", "sentence": "0.1% of 900 requests failed"}
    lines = Progress().lines(Event("ended", 1.0, "web1", {**GOOD, "canary": good}))
    assert [said for said, _ in lines][1:] == ["web1: canary good: 0.1% of 900 requests failed"]
    cause = "the new release answers worse than the old one: 9.1% of 330 requests failed"
    worse = {"outcome": "failed", "cause": cause, "canary": {"word": "worse", "sentence": "9.1% of 330"}}
    ((line, _),) = Progress().lines(Event("ended", 1.0, "web1", worse))
    assert line.endswith(cause)


def breaking(host: str, *breaks: str, more: int = 0) -> Event:
    return Event("ended", 1.0, host, {**GOOD, "api": {"breaks": list(breaks), "more": more, "note": ""}})


def test_what_breaks_the_api_is_named_once_for_all_hosts() -> None:
    progress = Progress()
    said = [line for host in ("web1", "web2") for line, _ in progress.lines(breaking(host, "GET /a is gone"))]
    assert said[1:3] == ["web1: the new release breaks the API in 1 place:", "  GET /a is gone"]
    assert len(said) == 4
    more = [line for line, _ in progress.lines(breaking("web3", *(f"GET /{n} is gone" for n in range(12)), more=5))]
    assert more[1] == "web3: the new release breaks the API in 17 places:"
    assert more[-1] == "  and 7 more, which the report names"
    assert len(more) == 13


def test_why_an_api_was_not_compared_is_said() -> None:
    event = Event("ended", 1.0, "web1", {**GOOD, "api": {"breaks": [], "more": 0, "note": "it was not compared"}})
    assert [line for line, _ in Progress().lines(event)][1:] == ["web1: it was not compared"]


def test_what_is_worth_no_line() -> None:
    for kind in ("looked", "planned", "held", "prepared", "put", "staged", "migrated", "verdict", "phase"):
        assert Progress().lines(Event(kind, 1.0, "web1", {})) == []
