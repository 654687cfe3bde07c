"""A run that is cut short at any moment ends in order: what was begun is waited for and taken back, and it says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.ending import LAST_WORD
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import FleetReport

from tests.unit.fleet.memory import Fleet, drive, fleet

Story = tuple[Callable[[], Fleet], str]


def failing() -> Fleet:
    there = fleet()
    there.hosts[1].bad = {"new"}
    return there


STORIES: dict[str, Story] = {
    "deploy": (fleet, "deploy"),
    "failing deploy": (failing, "deploy"),
    "rollback": (lambda: fleet(schemas={"older": "0001", "old": "0002"}), "rollback"),
    "restart": (fleet, "restart"),
}


def moments_of(story: Story) -> list[float]:
    """Whenever anything happens in it, just before and just after."""
    make, operation = story
    moments: list[float] = []
    drive(make().begin(operation, batches=[1]), moments=moments)
    return [at + offset for at in sorted(set(moments)) for offset in (-0.001, 0.001)]


def at_rest(there: Fleet, report: FleetReport | None = None) -> None:
    """Every host serves one whole release, and what a report says of it."""
    releases = {"old", "new", "older"}
    assert set(there.serving) <= releases
    assert sum(len(host.asked("run")) for host in there.hosts if "migrate" in str(host.calls)) <= 1
    if report is None:
        return
    for host, row in zip(there.hosts, report.rows, strict=True):
        assert row["now"] in (host.serving, None), (row, host.serving)
    if report.word == "reverted":
        assert all(host.serving == row["was"] for host, row in zip(there.hosts, report.rows, strict=True))
    if report.word == "good":
        assert all(host.serving == report.release for host in there.hosts)


@pytest.mark.parametrize("on_failure", ["revert", "hold"])
@pytest.mark.parametrize("name", STORIES)
def test_it_ends_in_order_whenever_it_is_interrupted(name: str, on_failure: str) -> None:
    make, operation = STORIES[name]
    words = set()
    for at in moments_of(STORIES[name]):
        there = make()
        report = drive(there.begin(operation, batches=[1], on_failure=on_failure), [at])
        at_rest(there, report)
        words.add(report.word)
        assert [host.holder for host in there.hosts] == ["", "", ""], at
        assert report.ended - at < 30, at
        begun = [host for host in there.hosts if host.asked("activate")]
        assert (report.word == "refused") == (not begun), at
        if report.word == "refused":
            assert report.message.endswith("; the run was interrupted")
            assert not any(host.asked("settle") for host in there.hosts)
        if on_failure == "revert":
            assert report.word in ("refused", "reverted", "good"), at
    in_the_middle = "held" if on_failure == "hold" and name != "restart" else "reverted"
    assert words == {"refused", in_the_middle} | ({"good"} if name != "failing deploy" else set())


def test_a_migration_is_waited_for() -> None:
    """Else another run could begin one beside it."""
    there = fleet()
    began: list[float] = []
    there.hosts[0].hooks["run"] = lambda: began.append(asyncio.get_running_loop().time())
    drive(there.begin())
    there = fleet()
    report = drive(there.begin(), [began[0] + 0.5])
    assert report.message == "nothing was switched; the run was interrupted"
    assert there.told("migrated")
    assert not any(host.asked("activate") for host in there.hosts)


def test_nobody_is_waited_for_longer_than_the_patience() -> None:
    """A host whose transaction goes on is not said to serve what it did before."""
    there = fleet()
    began = []
    there.hosts[1].hooks["activate"] = lambda: began.append(asyncio.get_running_loop().time())
    drive(there.begin(batches=[1]))
    there = fleet()
    report = drive(there.begin(batches=[1], patience=0.0), [began[0] + 1.0])
    at_rest(there, report)
    assert report.ended - began[0] < 40
    assert report.word != "good"


def test_whoever_hangs_for_ever_does_not_hold_up_the_end() -> None:
    there = fleet()

    def hang() -> None:
        there.hosts[1].hangs, there.hosts[1].busy = True, "new"

    there.hosts[1].hooks["activate"] = hang
    report = drive(there.begin(batches=[1], patience=20.0), [1030.0])
    assert report.ended - 1030.0 <= 20 + LAST_WORD + 1
    assert [row["outcome"] for row in report.rows] == ["reverted", "failed", "untouched"]
    assert (report.word, report.rows[1]["now"]) == ("failed", None)
    assert "was not waited for any longer" in report.rows[1]["cause"]


def test_a_host_that_hangs_before_the_roll_does_not_hold_up_the_end() -> None:
    there = fleet()
    there.hosts[1].hooks["stage"] = lambda: setattr(there.hosts[1], "hangs", True)
    report = drive(there.begin(), [1020.0])
    assert (report.word, report.message) == ("refused", "nothing was switched; the run was interrupted")
    assert report.ended - 1020.0 <= LAST_WORD + 1
    assert [host.holder for host in there.hosts] == ["", "run-1", ""]


@pytest.mark.parametrize("name", STORIES)
def test_a_second_interruption_ends_it_at_once_and_leaves_whole_hosts(name: str) -> None:
    make, operation = STORIES[name]
    for at in moments_of(STORIES[name]):
        there = make()
        try:
            report = drive(there.begin(operation, batches=[1]), [at, at + 0.002])
        except asyncio.CancelledError:
            at_rest(there)
        else:
            at_rest(there, report)
