# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Hosts are taken to the release batch by batch, until all are or one is not; then they are taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import head
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import GO, HOLD, UNKNOWN
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import number_batches, question
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import (
    PAUSE,
    Member,
    Run,
    before,
    trouble_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.turns import BEFORE, NotBegun, turn, way_back
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import (
    DOUBT,
    GOOD,
    REVERTED,
    UNCHANGED,
    answered,
    serving,
    steps,
)


async def roll(run: Run) -> None:
    """Take the hosts to their release. After the first trouble no further host is begun; nothing is raised."""
    batches = number_batches(run)
    for number, batch in enumerate(batches, 1):
        if run.stopping.is_set():
            return
        run.tell("batch", number=number, of=len(batches), hosts=[member.name for member in batch])
        await run.each(batch, lambda member: take_turn(run, member))


async def take_turn(run: Run, member: Member) -> None:
    """One host's transaction, whatever becomes of it."""
    if run.stopping.is_set():
        return
    run.tell("started", member, release=member.wanted, was=member.before)
    phases = Phases(run, member)
    answer: Result = {}
    try:
        answer = await before(run.turns_late, turn(run, member, lambda: activate(run, member, phases)))
        member.rolled = GOOD if answer.get("changed") else UNCHANGED
        member.switched = member.rolled == GOOD
    except NotBegun:
        run.tell("ended", member, outcome="")
        return
    except Exception as error:  # noqa: BLE001 - whatever it was, the host is not known to be good
        member.trouble = trouble_of(error)
        member.rolled = member.trouble.outcome
        member.untouched = not phases.asked
        member.in_doubt = member.trouble.kind == DOUBT and phases.asked
        answer = dict(error.details) if isinstance(error, Refused) else {}
        member.switched = bool(answer.get("changed"))
        run.stop(f"{member.name}: {member.trouble.cause}")
    ended = answer.get("phases") or phases.ended
    member.steps += steps(phases.began, ended)
    run.changed = run.changed or member.switched or member.in_doubt
    cause = member.trouble.cause if member.trouble else ""
    told = {"outcome": member.rolled, "was": member.before, "phases": ended, "cause": cause}
    told |= {name: answer.get(name) for name in ("recovered", "canary", "api", "replay", "gap")}
    member.gap += float(answer.get("gap") or 0.0)
    member.api = answer.get("api")
    member.replay = answer.get("replay")
    member.canary = answer.get("canary")
    hold_undecided(run, member)
    run.tell("ended", member, release=member.wanted if member.switched else member.before, **told)
    pass_on(run, member, answer)


def hold_undecided(run: Run, member: Member) -> None:
    """Begin no further host where nobody can tell whether the release is worse, and that is what is wanted then."""
    found, wanted = member.canary or {}, member.target.activate.get("canary") or {}
    if found.get("word") == UNKNOWN and wanted.get("unknown") == HOLD:
        run.undecided = True
        run.stop(
            f"whether it is worse on {member.name} is unknown, and fastapi_app_canary_unknown says {HOLD}: "
            f"{found.get('sentence')}; with -e fastapi_app_canary_unknown={GO} a deploy goes on"
        )


async def activate(run: Run, member: Member, phases: Phases) -> Result:
    """The result of the host's transaction. Raises Refused, and Unreachable where nobody knows what became of it."""
    phases.begin()
    try:
        return await run.ask(
            member,
            "activate",
            phases,
            **{**member.target.activate, "about": about(run, member)},
            release=member.wanted,
            expects=member.expects,
            restart=run.policy.operation == "restart",
        )
    except Unreachable as error:
        run.tell("lost", member, cause=f"cannot be reached: {error}")
        return await find_out(run, member, error)


async def find_out(run: Run, member: Member, error: Unreachable) -> Result:
    """What became of a transaction that was under way when the channel broke; it ends by itself.

    Raises Refused where it did not lead to the release, and Unreachable where the host does not come back.
    """
    seen = await at_rest(run, member)
    release = serving(seen)
    if release == member.wanted:
        return {"changed": True, "release": release}
    raise Refused(
        f"it could not be reached in the middle of its turn ({error}), and serves {answered(seen)} and not "
        f"{member.wanted}; slipway.fleet.history tells whether it was refused there",
        "release" if release == member.before else "failed",
    )


async def at_rest(run: Run, member: Member) -> Result:
    """What a host says of itself once no transaction is under way there. Raises Unreachable and Refused."""
    while True:
        seen = await run.ask_again(member, "look", **question(run, member))
        if not seen.get("busy"):
            return seen
        await run.clock.sleep(PAUSE)


async def settle(run: Run) -> None:
    """After trouble take every host back that has switched or may have, as the policy says; nothing is raised."""
    if not run.fell_short:
        return
    back = [member for member in run.changing if may_have_switched(member) and not run.keeps]
    run.tell("settling", hosts=[member.name for member in back], reason=run.reason)
    # What takes hosts out of a balancer is to take out no more at a time than the roll did.
    apart = any(member.target.turn.get(BEFORE) for member in back)
    for batch in sorted({member.batch for member in back}) if apart else [0]:
        await run.each(
            [member for member in back if not apart or member.batch == batch], lambda member: take_back(run, member)
        )


def may_have_switched(member: Member) -> bool:
    """Whether a host may serve something else than before, by what this run did.

    Where nothing served before, there is no way back; where another run holds the host, it is not this one's to go.
    """
    another_holds_it = member.trouble is not None and member.trouble.kind in ("held", "fenced")
    there_is_a_way = bool(member.before) and member.before != member.wanted
    return there_is_a_way and member.rolled not in ("", UNCHANGED) and not (another_holds_it or member.untouched)


async def take_back(run: Run, member: Member) -> None:
    """One host's way back, whatever becomes of it."""
    phases = Phases(run, member, revert=True)
    answer: Result = {}
    try:
        answer = await before(run.late, way_back(run, member, lambda: ask_to_return(run, member, phases)))
        run.changed = run.changed or bool(answer.get("changed"))
        member.in_doubt = False
    except Exception as error:  # noqa: BLE001 - whatever it was, the host is not known to be back
        member.return_trouble = trouble_of(error)
        member.in_doubt = member.in_doubt or member.return_trouble.kind == DOUBT
        answer = dict(error.details) if isinstance(error, Refused) else {}
    ended = answer.get("phases") or phases.ended
    member.gap += float(answer.get("gap") or 0.0)
    member.steps += steps(phases.began, ended, revert=True)
    trouble = member.return_trouble
    outcome = trouble.outcome if trouble else REVERTED if answer.get("changed") else ""
    told = {"outcome": outcome, "was": member.wanted, "phases": ended, "cause": trouble.cause if trouble else ""}
    told["gap"] = answer.get("gap")
    run.tell("settled", member, release=None if trouble else member.before, **told)
    pass_on(run, member, answer)


def pass_on(run: Run, member: Member, answer: Result) -> None:
    """Tell what a host's transaction warned of."""
    for warning in answer.get("warnings") or ():
        run.tell("warning", member, message=str(warning))


async def ask_to_return(run: Run, member: Member, phases: Phases) -> Result:
    phases.begin()
    arguments = {
        **member.target.activate,
        "about": {**who(run), "operation": "revert", "cause": why_back(run, member)},
        "soak": 0.0,
        "contract": None,
        "replay": None,
        "return_to": member.before,
        "expects": None,
        "restart": False,
    }
    return await run.ask_again(member, "settle", phases, **arguments)


def why_back(run: Run, member: Member) -> str:
    """Why a host goes back, for its ledger, which has what it goes back to as the release."""
    return head(f"back from {member.wanted}: {run.reason or 'the run fell short'}", 2000)


def about(run: Run, member: Member) -> Result:
    """What the ledger of a host is to say of its transaction."""
    return {**who(run), "operation": run.policy.operation, **(member.target.activate.get("about") or {})}


def who(run: Run) -> Result:
    """Whose run it is, for the ledger."""
    return {"who": run.policy.run.get("who"), "from": run.policy.run.get("from"), "run": run.policy.run.get("id")}


class Phases:
    """Tells the phases of a transaction while they happen, and keeps those that have ended."""

    def __init__(self, run: Run, member: Member, revert: bool = False) -> None:
        self.ended: list[Mapping[str, Any]] = []
        self.began = run.clock.now()
        self.asked = False
        self._run, self._member, self._revert = run, member, revert

    def begin(self) -> None:
        """The host is asked now, and not before: times of phases count from here."""
        self.began, self.asked = self._run.clock.now(), True

    def __call__(self, phase: Result) -> None:
        seconds: Optional[float] = phase.get("seconds")
        if seconds is not None:
            self.ended.append(phase)
        at = self.began + float(phase.get("at") or 0.0)
        self._run.tell("phase", self._member, phase=phase.get("phase"), at=at, seconds=seconds, revert=self._revert)
