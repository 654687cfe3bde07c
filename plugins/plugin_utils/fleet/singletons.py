# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Singletons and jobs run on one host of the fleet: who has them gives them up before another host starts them."""

from __future__ import annotations

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Run, Stopped


def refuse_strangers(run: Run) -> None:
    """Raise Stopped where another host had them last that is no part of the run, so that nobody asks it to give up.

    By the newest record of any host; each has one of where the singletons ran when it was last released to.
    """
    starting = next((member for member in run.changing if member.target.place.get("singletons")), None)
    records = [found for member in run.members if (found := member.seen.get("singletons_at"))]
    if starting is None or not records:
        return
    last = str(max(records, key=lambda found: float(found["at"]))["host"])
    known = {*(member.name for member in run.members), *(starting.target.singletons_gone)}
    if last and last not in known:
        raise Stopped(
            f"nothing was changed; the singletons ran on {last} last, which is no host of this run, and may run there "
            f"still. Have it in the run; where it is lost for good, say -e '{{fastapi_app_singletons_gone: [{last}]}}'"
        )


def tell_of_lost(run: Run) -> None:
    """Warn where another host ran the jobs last that is no part of the run; it holds up nothing."""
    starting = next((member for member in run.changing if member.target.place.get("singletons")), None)
    records = [found for member in run.members if (found := member.seen.get("jobs_at"))]
    if starting is None or not records:
        return
    last = str(max(records, key=lambda found: float(found["at"]))["host"])
    if last and last not in {*(member.name for member in run.members), *starting.target.singletons_gone}:
        run.tell(
            "warning",
            message=f"the jobs ran on {last} last, which is no host of this run; where it runs still its timers start "
            "them there, too. Have it in the run, or see that it is gone for good",
        )


async def hand_over(run: Run) -> None:
    """Before the first turn, where the host of the singletons takes part: whoever else runs some ends them.

    Who has timers of jobs removes them. Raises Stopped where one does not.
    """
    starting = next((member for member in run.changing if member.target.place.get("singletons")), None)
    for other in run.members if starting else ():
        names = [*(other.seen.get("singletons") or ()), *(other.seen.get("jobs") or ())]
        if other is starting or not names:
            continue
        try:
            await run.ask(other, "give_up", **other.target.activate)
        except (Refused, Unreachable) as error:
            raise Stopped(
                f"{run.so_far}; {other.name} runs {', '.join(names)} and did not give that up ({error}), so no other "
                "host may start it"
            ) from error
