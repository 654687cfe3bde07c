"""A host that is taken back has in its ledger from what, and why."""

from __future__ import annotations

import asyncio

from tests.unit.fleet.memory import Fleet, drive, fleet


def causes(there: Fleet) -> set[str]:
    return {str(asked["about"]["cause"]) for host in there.hosts for asked in host.asked("settle")}


def test_of_an_interrupted_run_it_says_that() -> None:
    began: list[float] = []
    there = fleet()
    there.hosts[1].hooks["activate"] = lambda: began.append(asyncio.get_running_loop().time())
    drive(there.begin(batches=[1]))
    there = fleet()
    assert drive(there.begin(batches=[1]), [began[0] + 1.0]).word == "reverted"
    assert causes(there) == {"back from new: the run was interrupted"}


def test_of_a_host_that_failed_it_names_that_and_its_cause() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    assert drive(there.begin(batches=[1])).word == "reverted"
    (cause,) = causes(there)
    assert cause.startswith("back from new: web2: ")
