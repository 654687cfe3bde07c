# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the operator has run on the controller before and after a host's turn.

It takes the host out of a balancer that is none of Slipway's, such as a cloud's, and puts it back. The command before
is the host's permission: where it fails, nothing of the host is touched. The command after is run whatever became of
the turn, also where the one before failed, which may have done half; and of a host that is left alone, which a run that
was killed may have left out. On the way back both are only told of, since going back is worth more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Member, Run

BEFORE, AFTER = "before", "after"
# What became of the host where the command after its turn failed.
STAYS_OUT = "; so it may be left out of what that command puts it back into"


class NotBegun(Exception):
    """The run is to begin no further host, and this one was not touched yet."""


async def turn(run: Run, member: Member, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of a host's transaction between the two commands. Raises what the work does, Refused and NotBegun."""
    try:
        await leave(run, member)
        answer = await work()
    except BaseException:
        tell(run, member, await command(run, member, AFTER, run.policy.operation))
        raise
    if failure := await command(run, member, AFTER, run.policy.operation):
        raise Refused(failure, details={**answer, "cause": failure})
    return answer


async def leave(run: Run, member: Member) -> None:
    """Raises Refused where the host is not to be touched, and NotBegun where none is any more."""
    if failure := await command(run, member, BEFORE, run.policy.operation):
        raise Refused(f"its turn was not begun: {failure}")
    if run.stopping.is_set():
        raise NotBegun


async def way_back(run: Run, member: Member, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of a host's way back, between the two commands where it is one. Raises what the work does."""
    if not (member.switched or member.in_doubt):
        return await work()
    try:
        tell(run, member, await command(run, member, BEFORE, "revert"))
        return await work()
    finally:
        tell(run, member, await command(run, member, AFTER, "revert"))


async def put_back(run: Run) -> None:
    """Run the command after of the hosts that are left alone; one that fails is told."""

    async def one(member: Member) -> None:
        tell(run, member, await command(run, member, AFTER, run.policy.operation))

    await run.each([member for member in run.members if member.settled], one)


async def command(run: Run, member: Member, when: str, operation: str) -> str:
    """Run the command of that time, where there is one; returns why it failed, empty where it did not.

    It is waited for to its end, or its limit, whatever else is not: the next one may undo what it does.
    """
    wanted = member.target.turn
    words = [str(word) for word in wanted.get(when) or ()]
    if not words or run.commands is None:
        return ""
    variables = {
        "SLIPWAY_HOST": member.name,
        "SLIPWAY_APP": str(member.target.place.get("app") or ""),
        "SLIPWAY_OPERATION": operation,
        "SLIPWAY_RELEASE": (member.before if operation == "revert" else member.wanted) or "",
    }
    began = run.clock.now()
    ending = asyncio.ensure_future(run.commands(words, float(wanted.get("timeout") or 0.0), variables))
    try:
        failure = await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait([ending])
        raise
    finally:
        seconds = run.clock.now() - began
        step = {"phase": f"command {when}", "start": began, "seconds": seconds, "revert": operation == "revert"}
        member.steps.append(step)
    meant = STAYS_OUT if when == AFTER else ""
    return f"the command {when} its turn failed: {failure}{meant}" if failure else ""


def tell(run: Run, member: Member, failure: str) -> None:
    """Say what failed where that ends nothing."""
    if failure:
        run.tell("warning", member, message=failure)
