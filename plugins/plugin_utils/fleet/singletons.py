# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Singletons and jobs run on one host of the fleet: who has them gives them up before another host starts them."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Member, Run, Stopped
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import GOOD, UNCHANGED


def starting(run: Run) -> Optional[Member]:
    """The host on which they are to run, where it takes part."""
    return next((member for member in run.changing if member.target.place.get("singletons")), None)


def rivals(run: Run) -> list[Member]:
    """The other hosts that run some, where that host takes part."""
    its = starting(run)
    return [member for member in run.members if its and member is not its and _its_own(member)]


def _its_own(member: Member) -> list[str]:
    """The singletons that a host runs, and the jobs that it has timers of."""
    return [*(member.seen.get("singletons") or ()), *(member.seen.get("jobs") or ())]


def refuse_strangers(run: Run) -> None:
    """Raise Stopped where another host had them last that is no part of the run, so that nobody asks it to give up.

    By the newest record of any host; each has one of where the singletons ran when it was last released to.
    """
    its = starting(run)
    records = [found for member in run.members if (found := member.seen.get("singletons_at"))]
    if its is None or not records:
        return
    last = str(max(records, key=lambda found: float(found["at"]))["host"])
    known = {*(member.name for member in run.members), *(its.target.singletons_gone)}
    if last and last not in known:
        raise Stopped(
            f"nothing was changed; the singletons ran on {last} last, which is no host of this run, and may run there "
            f"still. Have it in the run; where it is lost for good, say -e '{{fastapi_app_singletons_gone: [{last}]}}'"
        )


def tell_of_lost(run: Run) -> None:
    """Warn where another host ran the jobs last that is no part of the run; it holds up nothing."""
    its = starting(run)
    records = [found for member in run.members if (found := member.seen.get("jobs_at"))]
    if its is None or not records:
        return
    last = str(max(records, key=lambda found: float(found["at"]))["host"])
    if last and last not in {*(member.name for member in run.members), *its.target.singletons_gone}:
        run.tell(
            "warning",
            message=f"the jobs ran on {last} last, which is no host of this run; where it runs still its timers start "
            "them there, too. Have it in the run; where it is lost for good, say -e "
            f"'{{fastapi_app_singletons_gone: [{last}]}}'",
        )


async def hand_over(run: Run) -> None:
    """Before the first turn, where the host of the singletons takes part: whoever else runs some ends them.

    Who has timers of jobs removes them. From then on that host may start them, whatever becomes of its turn. Raises
    Stopped where one does not.
    """
    for other in rivals(run):
        run.changed = True
        try:
            await run.ask(other, "give_up", **other.target.activate)
        except (Refused, Unreachable) as error:
            raise Stopped(
                f"{run.so_far}; {other.name} runs {', '.join(_its_own(other))} and did not give that up ({error}), so "
                "no other host may start it"
            ) from error
        other.gave_up = True
    if (its := starting(run)) and rivals(run):
        its.tends = True


async def hand_back(run: Run) -> None:
    """After a roll that fell short, where the host that was to start them serves nothing: who had them has them again.

    Nothing is raised.
    """
    its = starting(run)
    before = next((member for member in run.members if member.gave_up), None)
    if its is None or before is None or its.before or its.rolled in (GOOD, UNCHANGED):
        return
    its.tends = False
    try:
        await run.ask_again(its, "give_up", **its.target.activate)
    except (Refused, Unreachable) as error:
        run.tell("warning", its, message=f"nobody runs the singletons until the next run, as this may do: {error}")
        return
    place = {**before.target.place, "singletons": True, "singleton_host": before.name}
    before.target, before.tends = replace(before.target, place=place), True
