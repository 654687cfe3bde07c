"""What takes minutes, and the simulation or a shorter test holds as well: `make soak` alone runs it."""

from __future__ import annotations

import pytest
from deployment import assert_nothing_lost
from fleet import WEB, Fleet, outcomes, table, unreachable

pytestmark = pytest.mark.soak

A, B, _ = WEB


def test_requests_of_thirty_seconds_are_waited_for(fleet: Fleet) -> None:
    slow = ("--slow", "6", "--slow-seconds", "30", "--rate", "20", "--websocket", "0", "--stream", "0")
    with fleet.load("thirty", *slow) as report:
        outcome = fleet.deploy(**fleet.release("thirty"), fastapi_app_drain=60)
        assert outcome.code == 0, outcome.output
    assert_nothing_lost(report)
    assert report["kinds"]["slow"]["total"] >= 6


def test_a_host_that_cannot_be_reached_before_its_batch(fleet: Fleet) -> None:
    before = fleet.states()
    run = fleet.begin(
        "deploy",
        **fleet.release("unreachable at its turn"),
        fastapi_app_soak=20,
        slipway_reconnect=15,
        fastapi_app_canary={"judged": False},
    )
    run.reached("Roll, host by host")
    with unreachable(B):
        assert run.wait() == 2, run.output()
    assert outcomes(run.output()) == ["reverted", "unreachable", "untouched"]
    assert fleet.states() == before


def test_a_host_that_cannot_be_reached_after_its_batch(fleet: Fleet) -> None:
    """It serves the new release then, as the others do; only its settling is missing, which a rerun does."""
    variables = fleet.release("unreachable after its turn")
    run = fleet.begin("deploy", **variables, slipway_reconnect=15)
    run.reached(f"\n{A}  ")
    with unreachable(A):
        assert run.wait() == 2, run.output()
    assert table(run.output())[A]["outcome"] == "unreachable", run.output()
    assert "serves on every host that answers" in " ".join(run.output().split())
    release = fleet.whole()
    assert release, "all hosts serve the new release"
    healed = fleet.deploy(**variables)
    assert healed.code == 0, healed.output
    assert fleet.whole() == release
