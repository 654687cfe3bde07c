"""What is run on the controller before and after a host's turn, and what becomes of the fleet where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import FleetReport
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.turns import STAYS_OUT

from tests.unit.fleet.memory import Fleet, drive, fleet, outcomes

TURN = {"turn": {"before": ["leave", "the balancer"], "after": ["join", "the balancer"], "timeout": 30}}


@dataclass
class Balancer:
    """Who is out of it, what it was told in which order, and what it does not do: program and host."""

    fleet: Fleet
    fails: set[tuple[str, str]] = field(default_factory=set)
    out: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)
    slow: dict[str, float] = field(default_factory=dict)  # seconds that it takes to let a host go, where not 3
    most: int = 0  # how many were out at once

    async def __call__(self, words: Sequence[str], seconds: float, variables: Mapping[str, str]) -> str:
        assert (words[1:], seconds) == (["the balancer"], 30.0)
        host, release = variables["SLIPWAY_HOST"], variables["SLIPWAY_RELEASE"]
        await asyncio.sleep(self.slow.get(host, 3.0) if words[0] == "leave" else 3.0)
        serves = self.fleet.host(host).serving
        self.told.append(f"{words[0]} {host} {variables['SLIPWAY_OPERATION']} {release} while {serves} serves")
        if (words[0], host) in self.fails:
            return "no such target"
        (self.out.add if words[0] == "leave" else self.out.discard)(host)
        self.most = max(self.most, len(self.out))
        return ""


def behind(count: int = 2, *fails: tuple[str, str], **usual: object) -> tuple[Fleet, Balancer]:
    there = fleet(count)
    there.usual = {**TURN, **usual}
    balancer = Balancer(there, set(fails))
    there.commands = balancer
    return there, balancer


def warnings(there: Fleet) -> list[str]:
    return [f"{event.host}: {event.about['message']}" for event in there.told("warning")]


def steps(report: FleetReport, host: int) -> list[str]:
    return [f"{'back: ' if step['revert'] else ''}{step['phase']}" for step in report.rows[host]["steps"]]


def test_each_host_leaves_before_its_turn_and_is_back_after_it() -> None:
    there, balancer = behind()
    report = there.run(batches=[1])
    assert report.word == "good"
    assert balancer.told == [
        "leave web1 deploy new while old serves",
        "join web1 deploy new while new serves",
        "leave web2 deploy new while old serves",
        "join web2 deploy new while new serves",
    ]
    assert steps(report, 0) == ["command before", "start", "gate", "switch", "drain", "command after"]
    before, start = report.rows[0]["steps"][:2]
    assert (before["seconds"], start["start"] - before["start"]) == (3.0, 3.0)


def test_one_that_cannot_leave_is_not_touched_and_neither_are_others() -> None:
    there, balancer = behind(3, ("leave", "web2"))
    report = there.run(batches=[1])
    assert (report.word, outcomes(report)) == ("reverted", ["reverted", "failed", "untouched"])
    assert there.serving == ["old"] * 3
    assert "its turn was not begun: the command before its turn failed: no such target" in report.wrong["web2"]
    assert "activate" not in there.host("web2").verbs
    assert "settle" not in there.host("web2").verbs
    # What could not leave may have done so by half.
    assert "join web2 deploy new while old serves" in balancer.told
    assert balancer.told[-2:] == ["leave web1 revert old while new serves", "join web1 revert old while old serves"]
    assert balancer.out == set()
    assert steps(report, 0)[-6:] == [
        *("back: command before", "back: start", "back: gate", "back: switch", "back: drain", "back: command after")
    ]


def test_on_the_way_back_no_more_are_out_than_during_the_roll() -> None:
    there, balancer = behind(4)
    there.host("web4").bad = {"new"}
    report = there.run(batches=[1])
    assert (report.word, there.serving) == ("reverted", ["old"] * 4)
    assert balancer.most == 1
    assert not any("web4 revert" in told for told in balancer.told), "it had refused the release by itself"


def test_one_that_left_while_another_one_failed_is_not_begun() -> None:
    there, balancer = behind(2)
    there.host("web1").bad = {"new"}
    balancer.slow = {"web2": 100.0}
    report = there.run(batches=["100%"])
    assert (report.word, outcomes(report)) == ("reverted", ["failed", "untouched"])
    assert "activate" not in there.host("web2").verbs
    assert balancer.out == set()


def test_what_a_killed_run_left_out_is_put_back_by_the_next_one() -> None:
    there, balancer = behind()
    there.run()
    balancer.out.add("web1")
    assert there.run().word == "nothing"
    assert balancer.out == set()
    balancer.fails = {("join", "web2")}
    assert there.run().word == "nothing"
    assert [told.partition(":")[0] for told in warnings(there)] == ["web2"]


def test_a_turn_that_fails_ends_with_the_host_back_in_the_balancer() -> None:
    there, balancer = behind()
    there.host("web1").bad = {"new"}
    report = there.run()
    assert (report.word, outcomes(report)) == ("reverted", ["failed", "untouched"])
    assert "not ready within 2 s" in report.message
    assert balancer.told[1] == "join web1 deploy new while old serves"
    assert balancer.out == set()


def test_one_that_cannot_come_back_takes_the_fleet_back_and_is_named() -> None:
    there, balancer = behind(2, ("join", "web1"))
    report = there.run(batches=[1])
    assert (report.word, there.serving) == ("reverted", ["old", "old"])
    why = f"the command after its turn failed: no such target{STAYS_OUT}"
    assert why in report.message
    assert warnings(there) == [f"web1: {why}"], "once more, after the way back"
    assert balancer.out == {"web1"}


def test_on_the_way_back_a_command_that_fails_holds_up_nothing() -> None:
    there, balancer = behind(2)
    there.host("web2").bad = {"new"}
    there.host("web2").hooks["activate"] = lambda: balancer.fails.add(("leave", "web1"))
    report = there.run(batches=[1])
    assert (report.word, there.serving) == ("reverted", ["old", "old"])
    assert warnings(there) == ["web1: the command before its turn failed: no such target"]


def test_an_interrupted_run_leaves_no_host_out() -> None:
    there, balancer = behind(2)
    moments: list[float] = []
    drive(there.begin(batches=[1]), moments=moments)
    for at in moments:
        there, balancer = behind(2)
        drive(there.begin(batches=[1]), cancel_at=[at])
        assert balancer.out == set(), f"interrupted at {at}"


def test_nothing_is_run_in_a_dry_run() -> None:
    there, balancer = behind()
    there.run(check_mode=True)
    assert balancer.told == []
