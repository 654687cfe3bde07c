"""What the ledger says of a transaction that another one brings to its end: whose it was, and why that was so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.history import merged

from tests.unit.memory import (  # noqa: F401 - a fixture of every test here
    Crash,
    Host,
    deploy,
    effects_of_a_release,
    no_sync,
    stage,
    transaction,
)

ADA = {"who": "ada", "from": "ci-07", "run": "run-1", "operation": "deploy", "image": "registry.example/links:2"}
BOB = {"who": "bob", "from": "bob-1", "run": "run-2", "operation": "revert", "cause": "back from two: it was worse"}
CUT = "interrupted: what took this host there ended before it was recorded as good"


def cut(place: Path, host: Host, release: str, about: dict[str, Any], point: int) -> None:
    """A transaction that is killed after one of its effects."""
    stage(place, release)
    host.crash_at, host.crash_after = host.effects + point, True
    with pytest.raises(Crash):
        transaction(place, host, release, about=about).run()
    host.crash_at = 0


def told(place: Path) -> list[dict[str, Any]]:
    """The lines that people see of one host."""
    return merged({"web1": {"records": Store(place).told()}})


@pytest.mark.parametrize("point", range(2, effects_of_a_release() + 1))
def test_whoever_brings_it_to_its_end_it_says_whose_it_was_and_why(tmp_path: Path, point: int) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    cut(tmp_path, host, "two", ADA, point)
    transaction(tmp_path, host, "one", about=BOB).run()
    line = next(line for line in told(tmp_path) if line["release"] == "two")
    assert {name: line[name] for name in ("who", "from", "operation", "image")} == {
        name: ADA[name] for name in ("who", "from", "operation", "image")
    }
    assert line["result"] in ("good", "failed")
    assert line["result"] == "good" or line["cause"] == f"{CUT}; one serves again"


def test_one_that_is_finished_says_so(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    cut(tmp_path, host, "two", ADA, 5)  # the edge has just switched
    transaction(tmp_path, host, "three", about={}).reconcile()
    assert [(line["release"], line["result"], line["cause"]) for line in told(tmp_path)][1:] == [
        ("two", "good", f"{CUT}; it is well and serves on")
    ]


def test_a_way_back_that_is_cut_keeps_its_own_cause(tmp_path: Path) -> None:
    """And it stays a way back, so that nobody is offered the release that it left."""
    host = Host()
    deploy(tmp_path, host, "one")
    deploy(tmp_path, host, "two")
    cut(tmp_path, host, "one", BOB, 5)
    transaction(tmp_path, host, "three", about={}).reconcile()
    last = told(tmp_path)[-1]
    assert (last["operation"], last["cause"]) == ("revert", f"{BOB['cause']}; {CUT}; it is well and serves on")
    assert Store(tmp_path).good() == ["one"]


def test_one_that_an_earlier_version_began_is_brought_to_its_end_too(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    cut(tmp_path, host, "two", {}, 2)
    transaction(tmp_path, host, "one").reconcile()
    assert told(tmp_path)[-1]["cause"] == f"{CUT}; one serves again"
