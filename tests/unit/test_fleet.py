"""What became of a fleet, from what its hosts reported."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.filter.fleet import edge_urls
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import reported
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict as fleet
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.batches import batch_of

HOSTS = ["web1", "web2", "web3", "web4"]
BATCHES = [1, "25%", "100%"]
GOOD = {"outcome": "good", "release": "new", "tried": "new", "was": "old", "began": 100.0}
FAILED = {"outcome": "failed", "tried": "new", "cause": "answered 500", "diagnosis": "the log", "began": 100.0}
GONE = {"outcome": "unreachable", "tried": "new", "cause": "cannot be reached: timeout", "began": 100.0}
KEPT = {"outcome": "held", "tried": None, "cause": "web2: answered 500"}
BEFORE = {"state": {"release": "old"}, "release": "new", "settled": False}


def settled(now: str, changed: bool = False) -> dict[str, Any]:
    return {"outcome": "good", "changed": changed, "now": {"state": {"release": now}, "drift": []}}


def rows(*reports: tuple[dict[str, Any] | None, dict[str, Any] | None]) -> list[dict[str, Any]]:
    hosts = HOSTS[: len(reports)]
    stopped = bool(reported.trouble({host: report[0] for host, report in zip(hosts, reports, strict=True)}))
    return [
        reported.host_row(host, batch_of(host, hosts, BATCHES), (BEFORE, rolled, last), stopped)
        for host, (rolled, last) in zip(hosts, reports, strict=True)
    ]


def test_a_good_roll() -> None:
    found = rows((GOOD, settled("new")), (GOOD, settled("new")))
    assert [row["outcome"] for row in found] == ["good", "good"]
    assert fleet.verdict(found) == "good"
    assert fleet.wrong(found, "", "new") == {}
    assert fleet.wanted(found) == "new"


def test_a_host_in_the_middle_fails_and_all_return() -> None:
    found = rows((GOOD, settled("old", changed=True)), (FAILED, settled("old")), (KEPT, settled("old")))
    assert [row["outcome"] for row in found] == ["reverted", "failed", "untouched"]
    assert fleet.verdict(found) == "reverted"
    assert [row["now"] for row in found] == ["old", "old", "old"]
    said = fleet.sentence("reverted", found, "new")
    assert said == "release new was refused (web2: answered 500); every host serves what it served before"
    assert set(fleet.wrong(found, said, "new")) == {"web1", "web2", "web3"}
    assert [row["diagnosis"] for row in found] == ["", "the log", ""]


def test_hold_leaves_it_and_says_so() -> None:
    found = rows((GOOD, settled("new")), (FAILED, settled("old")), (KEPT, settled("old")))
    assert [row["outcome"] for row in found] == ["held", "failed", "untouched"]
    assert fleet.verdict(found) == "held"
    assert "fastapi_app_on_failure" in fleet.sentence("held", found, "new")


def test_a_host_that_vanishes_is_named_and_unknown() -> None:
    gone = {"outcome": "unreachable", "cause": "cannot be reached: timeout"}
    found = rows((GOOD, settled("old", changed=True)), (GONE, gone), (KEPT, settled("old")))
    assert [row["outcome"] for row in found] == ["reverted", "unreachable", "untouched"]
    assert found[1]["now"] is None
    assert fleet.verdict(found) == "failed"
    assert "not every host is back" in fleet.sentence("failed", found, "new")


def test_a_host_that_vanishes_after_its_turn_leaves_the_others_on_the_new_release() -> None:
    gone = {"outcome": "unreachable", "cause": "cannot be reached: timeout"}
    found = rows((GOOD, gone), (GOOD, settled("new")))
    assert [row["outcome"] for row in found] == ["unreachable", "good"]
    assert fleet.verdict(found) == "failed"
    said = fleet.sentence("failed", found, "new")
    assert said.startswith("release new serves on every host that answers, but not all do (web1: cannot be reached")


def test_a_host_that_finished_by_itself_while_it_was_away_is_taken_back() -> None:
    found = rows((GONE, settled("old", changed=True)), (KEPT, settled("old")))
    assert [row["outcome"] for row in found] == ["unreachable", "untouched"]
    assert fleet.verdict(found) == "reverted"


def test_a_host_that_cannot_go_back_is_no_clean_return() -> None:
    stuck = {"outcome": "failed", "changed": False, "cause": "the old one ended", "diagnosis": "its log", "now": None}
    found = rows((GOOD, stuck), (FAILED, settled("old")))
    assert found[0]["outcome"] == "failed"
    assert found[0]["cause"] == "the old one ended"
    assert fleet.verdict(found) == "failed"


def test_nothing_to_do() -> None:
    found = rows((None, None), (None, None))
    assert fleet.verdict(found) == "nothing"


def test_trouble_names_the_first_host_and_its_cause() -> None:
    assert reported.trouble({"web1": GOOD, "web2": FAILED, "web3": GONE}) == "web2: answered 500"
    assert reported.trouble({"web1": GOOD, "web2": None}) == ""


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([1, "25%", "100%"], [1, 2, 3, 3]),
        ([1], [1, 2, 3, 4]),
        (["50%"], [1, 1, 2, 2]),
        ([3], [1, 1, 1, 2]),
        (["10%"], [1, 2, 3, 4]),
        ([], [1, 1, 1, 1]),
    ],
)
def test_batches_are_counted_as_ansible_does(batches: list[Any], expected: list[int]) -> None:
    assert [batch_of(host, HOSTS, batches) for host in HOSTS] == expected


def test_phases_are_on_the_controllers_clock() -> None:
    report = GOOD | {"phases": [{"phase": "start", "at": 0.5, "seconds": 1.0}]}
    assert reported.steps_of(report) == [{"phase": "start", "start": 100.5, "seconds": 1.0, "revert": False}]


def test_a_plan_tells_hosts_and_batches() -> None:
    found = rows((None, None), (None, None))
    assert fleet.plan(found, "new").splitlines() == [
        "Plan: release new on 2 of 2 hosts, in this order:",
        "  batch 1: web1 (old)",
        "  batch 2: web2 (old)",
    ]


def test_edges_are_the_balancers_where_there_are_some() -> None:
    hostvars = {"web1": {"ansible_host": "10.0.0.1"}, "lb1": {"slipway_url": "https://app.example"}}
    assert edge_urls(hostvars, {"web": ["web1"]}) == ["http://10.0.0.1"]
    assert edge_urls(hostvars, {"web": ["web1"], "load_balancer": ["lb1"]}) == ["https://app.example"]
