"""What operators are told of who has a floating address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import balancers

ROOT = Path(__file__).resolve().parents[3]
GONE = {"unreachable": True, "msg": "no route to host"}


def one(holds: bool, *problems: str) -> dict[str, Any]:
    told = {
        "addresses": ["203.0.113.10"],
        "balancers": ["203.0.113.11", "203.0.113.12"],
        "holds": ["203.0.113.10"] if holds else [],
        "state": "MASTER" if holds else "BACKUP",
        "stands_by": not problems,
        "problems": list(problems),
    }
    return {"told": told}


def test_a_balancer_is_a_line() -> None:
    told = balancers.tell({"lb1": one(True), "lb2": one(False), "lb3": one(False, "keepalived does not run")})
    lines = [line.split() for line in told.text.splitlines()]
    assert lines[1] == ["lb1", "203.0.113.10", "-", "MASTER", "none"]
    assert lines[2] == ["lb2", "-", "yes", "BACKUP", "none"]
    assert lines[3] == ["lb3", "-", "-", "BACKUP", "keepalived", "does", "not", "run"]
    assert told.code == 0
    assert [row["holds"] for row in told.rows] == [["203.0.113.10"], [], []]


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        ({"lb1": one(True), "lb2": one(False)}, 0, ""),
        ({"lb1": one(True), "lb2": one(True)}, 3, "split brain: lb1 and lb2 have 203.0.113.10 at the same time"),
        ({"lb1": one(False), "lb2": one(False)}, 3, "no balancer has 203.0.113.10"),
        ({"lb1": one(True), "lb2": one(False, "it was taken out")}, 3, "lb2: it was taken out"),
        ({"lb1": one(True), "lb2": GONE}, 4, "no answer from lb2"),
        # One that did not answer, or was not asked, may have what nobody else has.
        ({"lb1": one(False), "lb2": GONE}, 4, "no answer from lb2"),
        ({"lb1": one(False)}, 0, ""),
        ({"lb1": one(True), "lb2": one(True), "lb3": None}, 3, "split brain: lb1 and lb2"),
    ],
)
def test_how_a_look_ends(results: dict[str, Any], code: int, said: str) -> None:
    told = balancers.tell_problems(results)
    assert told.code == code
    assert told.message.startswith(said)
    assert bool(told.message) == bool(code)


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        ({"lb1": one(True), "lb2": one(False)}, 0, ""),
        ({"lb1": one(True), "lb2": one(False, "it was taken out")}, 0, "lb2: it was taken out"),
        ({"lb1": one(True), "lb2": GONE}, 0, "lb2: "),
        ({"lb1": one(True), "lb2": one(True)}, 3, "split brain: lb1 and lb2"),
        ({"lb1": one(False), "lb2": one(False, "it was taken out")}, 3, "no balancer has 203.0.113.10\nlb2: it was"),
    ],
)
def test_provisioning_fails_where_two_or_none_have_an_address_alone(
    results: dict[str, Any], code: int, said: str
) -> None:
    told = balancers.tell_addresses(results)
    assert told.code == code
    assert told.text.startswith(said)
    assert bool(told.text) == bool(said)
    assert "taken out" not in told.message


def test_provisioning_looks_after_it_let_the_fleet_go() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/provision.yml").read_text())
    names = [play["name"] for play in plays]
    assert names.index("Look who has the floating addresses now") > names.index("Let the fleet go")
