# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""One run at a time: hosts are held from before the first change until the last answer, by one keeper for all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Member, Run, Stopped
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.singletons import rivals
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import UNREACHABLE, Trouble, recorded, serving

# Seconds between two signs of life; a host lets go of a run from which it has heard nothing for 120 s, or for 30 s
# where it saw the channel end.
HEARTBEAT = 15.0


async def hold(run: Run) -> None:
    """Hold all hosts that change, the first one first, so that of two runs one gets them all. Raises Stopped.

    And those that are to give up singletons, which may end still on a host that is left alone.
    """
    first, *others = [*run.changing, *(member for member in rivals(run) if member.settled)]
    await hold_all(run, [first])
    await hold_all(run, others)
    if run.policy.operation != "deploy":
        refuse_changed_meanwhile(run)


async def hold_all(run: Run, members: Sequence[Member]) -> None:
    async def one(member: Member) -> None:
        member.asked_to_hold = True
        answer = await run.ask(member, "hold", run=run.policy.run)
        member.held = True
        remember(member, answer)
        run.tell("held", member, taken_over=answer.get("taken_over"))

    wrong = await run.unless_stopped(run.each(members, one))
    for member, trouble in wrong:
        member.trouble = trouble
    if wrong:
        raise Stopped("nothing was changed; " + "\n".join(refusal(member, trouble) for member, trouble in wrong))


def remember(member: Member, answer: dict[str, object]) -> None:
    """What serves, read under the lease: it is what the transaction expects, and what the host is taken back to."""
    member.before = recorded(answer)
    answering = serving(answer)
    # Where nothing answers but something is recorded, that may come back at any moment.
    member.expects = answering or (None if member.before else "")


def refusal(member: Member, trouble: Trouble) -> str:
    if trouble.outcome == UNREACHABLE:
        return f"{member.name} {trouble.cause}, so the fleet is not held"
    return f"{member.name}: {trouble.cause}"


def refuse_changed_meanwhile(run: Run) -> None:
    """A release to return to was chosen by what served before the hosts were held. Raises Stopped."""
    for member in run.changing:
        if member.before != recorded(member.seen):
            raise Stopped(
                f"nothing was changed; {member.name} serves {member.before or 'nothing'} and served "
                f"{recorded(member.seen) or 'nothing'} a moment ago, so somebody else changed it; look at "
                "slipway.fleet.history and run this one again"
            )


@asynccontextmanager
async def kept(run: Run) -> AsyncIterator[None]:
    """Renew the leases of all hosts that are held, over the channels that are open anyway."""
    keeper = asyncio.ensure_future(keep(run))
    try:
        yield
    finally:
        keeper.cancel()


async def keep(run: Run) -> None:
    await run.clock.sleep(HEARTBEAT)
    while True:
        renewals = [asyncio.ensure_future(renew(run, member)) for member in run.members if member.held]
        try:
            # A host that is slow to answer keeps no other one waiting.
            await run.clock.sleep(HEARTBEAT)
        finally:
            for renewal in renewals:
                renewal.cancel()


async def renew(run: Run, member: Member) -> None:
    """Give a sign of life. A lease that is lost, or a freeze, stops the run; a host that is away is found out later."""
    try:
        answer = await run.ask(member, "renew")
        held, said, frozen = bool(answer.get("held")), "", str(answer.get("frozen") or "")
    except Refused as error:
        if error.kind not in ("held", "fenced"):
            run.tell("warning", member, message=f"the lease could not be renewed: {error}")
            return
        held, said, frozen = False, f": {error}", ""
    except Unreachable:  # whoever asks the host for something next finds out
        return
    except Exception as error:  # noqa: BLE001 - the keeper goes on for the other hosts
        run.tell("warning", member, message=f"the lease could not be renewed: {error}")
        return
    if frozen and member.held:
        run.stop(f"{member.name} was frozen while this run was under way: {frozen}")
    if member.held and not held:
        member.held = False
        run.tell("lost", member, cause=f"this run holds it no longer{said}")
        run.stop(f"{member.name} was freed or taken by somebody else while this run was under way{said}")
