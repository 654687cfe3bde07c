"""What is told about a fleet, and how a run ends that only looks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.callback.exit_code import wanted
from ansible_collections.slipway.fleet.plugins.plugin_utils import told_status
from ansible_collections.slipway.fleet.plugins.plugin_utils.told import inventory_name, silence, silent, table

GONE = {"outcome": "unreachable", "cause": "it cannot be reached: no route to host"}


def observed(release: str, *drift: str, **more: Any) -> dict[str, Any]:
    state = {"release": release, "slot": "blue", "since": "now"}
    return {"state": state, "health": "200", "drift": list(drift), "free_mib": 2048, "certificate_days": None, **more}


def test_a_cell_is_plain_text_on_one_line() -> None:
    assert table([("a", "b"), ("\x1b[31mred", None), ("two\nlines", 3)]).splitlines() == [
        "a          b",
        "red        -",
        "two lines  3",
    ]


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["/x/inventories/fleet"], "fleet"),
        (["/x/inventories/fleet/hosts.yml"], "fleet"),
        (["hosts.yml"], "hosts"),
        (["/x/production.yml"], "production"),
        ([], "inventory"),
    ],
)
def test_reports_are_sorted_by_the_name_of_the_inventory(sources: list[str], name: str) -> None:
    assert inventory_name(sources) == name


def test_hosts_that_told_nothing_are_named_with_the_reason() -> None:
    quiet = silent({"web1": {"records": []}, "web2": GONE, "web3": None, "web4": {"failed": True, "msg": "no root"}})
    assert list(quiet) == ["web2", "web3", "web4"]
    assert "web2: it cannot be reached: no route to host" in silence(quiet)
    assert "web3: it failed earlier" in silence(quiet)
    assert silence({}) == ""


def test_the_status_shows_every_difference() -> None:
    told = told_status.tell(
        {
            "web1": observed("aaa", certificate_days=80),
            "web2": observed("aaa", "one", "two", holder={"what": "a deploy", "who": "ada"}),
            "web3": observed("bbb", freeze={"who": "ada", "reason": "the sale"}),
            "web4": GONE,
        }
    )
    assert told.text.splitlines() == [
        "host  release  slot  health  since  free MiB  certificate  lock                     drift",
        "web1  aaa      blue  ok      now    2048      80 days      -                        none",
        "web2  aaa      blue  ok      now    2048      -            a deploy by ada          one",
        "                                                                                    two",
        "web3  bbb      blue  ok      now    2048      -            frozen by ada: the sale  the fleet runs aaa",
        f"web4  -        -     -       -      -         -            -                        {GONE['cause']}",
    ]
    assert told.code == 3
    assert told.message == "drift on web2, web3; no answer from web4"


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ({"web1": observed("aaa"), "web2": observed("aaa")}, 0),
        ({"web1": observed("aaa", freeze={"who": "ada", "reason": "the sale"})}, 0),
        ({"web1": observed("aaa", "one"), "web2": observed("aaa")}, 3),
        ({"web1": observed("aaa"), "web2": observed("bbb")}, 3),
        ({"web1": observed("aaa"), "web2": GONE}, 4),
        ({"web1": observed("aaa", "one"), "web2": GONE}, 3),
        ({"web1": None}, 4),
    ],
)
def test_drift_and_silence_end_the_run(results: dict[str, Any], code: int) -> None:
    assert told_status.tell(results).code == code


@pytest.mark.parametrize(
    ("asked", "others", "code"), [([], 0, 0), ([3], 0, 3), ([3, 4], 0, 4), ([3], 1, 0), ([], 2, 0)]
)
def test_another_failure_counts_more_than_an_exit_code_of_ours(asked: list[int], others: int, code: int) -> None:
    assert wanted(asked, others) == code
