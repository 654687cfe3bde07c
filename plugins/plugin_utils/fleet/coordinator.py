# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Takes a fleet to a release as one transaction: it serves on every host afterwards, or on none that served before.

`story` is what a run does, in its order. It decides from what hosts say that runs, answers and is enabled; a host does
its own part durably and by itself, so a controller that dies leaves whole hosts behind, and no more is lost than time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.ending import Bills, let_go
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.lease import hold, kept
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    Clock,
    Commands,
    Content,
    FleetReport,
    Host,
    Policy,
    Target,
    Tell,
    Unwatchable,
    Watch,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import agree, look
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.roll import roll, settle
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Linter, Member, Pending, Run, Stopped
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.saving import planned
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.singletons import (
    hand_back,
    hand_over,
    refuse_strangers,
    tell_of_lost,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.staging import check_return, migrate, provide, stage
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.turns import put_back


async def run(
    policy: Policy,
    targets: Sequence[Target],
    hosts: Mapping[str, Host],
    contents: Mapping[str, Content],
    release_id: Callable[[str, str], str],
    tell: Tell,
    clock: Clock,
    watch: Optional[Watch] = None,
    pending: Optional[Pending] = None,
    savers: Optional[Mapping[str, Host]] = None,
    commands: Optional[Commands] = None,
    linter: Optional[Linter] = None,
) -> FleetReport:
    """Take the fleet to what its hosts are to serve, and tell how that ended.

    Cancelled once, it ends in order: no further host is begun, those that were are waited for and taken back, and the
    report says so. Cancelled again it ends at once, and leaves the rest to the hosts.

    Args:
        policy: how
        targets: what each host is to serve, in the order in which they take their turns
        hosts: by name; they are not closed
        contents: by host name, one object for all hosts that are to get the same; a deploy needs them
        release_id: from a content and the hash of a configuration to the id of a release
        tell: told of each event while it happens
        clock: the only time there is
        watch: what goes on while hosts turn over
        pending: migrations that a deploy would bring, for the plan, and for a set before a migration of a command
        savers: hosts that back the database up, by name; they are not closed
        commands: runs what the operator wants before and after a host's turn
        linter: what else there is to know of the SQL of pending migrations
    """
    members = [
        Member(name=target.host, target=target, host=hosts[target.host], content=contents.get(target.host))
        for target in targets
    ]
    this = Run(policy, members, clock, tell, release_id, savers or {}, pending, commands, linter)
    whole = asyncio.ensure_future(story(this, watch))
    try:
        return await asyncio.shield(whole)
    except asyncio.CancelledError:
        this.interrupt()
    try:
        return await asyncio.shield(whole)
    except asyncio.CancelledError:
        whole.cancel()
        await asyncio.wait([whole])
        raise
    finally:
        this.over()


async def story(this: Run, watch: Optional[Watch]) -> FleetReport:
    """A run from its first question to its verdict."""
    try:
        this.begin("look")
        await look(this)
        agree(this)
        refuse_strangers(this)
        refuse_besides(this)
        if not this.policy.check_mode:
            await put_back(this)
        if not this.changing:
            return report(this)
        tell_of_lost(this)
        await see_what_is_watched(this, watch)
        if this.policy.check_mode:
            return await plan(this)
        await change(this, watch)
    except Stopped as stopped:
        more = [one for one in this.policy.besides if one not in str(stopped)]
        return report(this, "\n".join([str(stopped), *more]))
    return report(this)


def refuse_besides(this: Run) -> None:
    """Raise Stopped where something else than the hosts refuses the run."""
    if this.policy.besides:
        raise Stopped(f"{this.so_far}; " + "\n".join(this.policy.besides))


async def see_what_is_watched(this: Run, watch: Optional[Watch]) -> None:
    """Tell what cannot be watched. Raises Stopped where the run is not to begin so."""
    if watch is None:
        return
    serving = {
        member.name: str(member.seen.get("path") or "") for member in this.members if verdict.serving(member.seen)
    }
    try:
        for sentence in await this.unless_stopped(watch.look(serving)):
            this.tell("warning", message=sentence)
    except Unwatchable as error:
        raise Stopped(f"{this.so_far}; {error}") from error
    except Stopped:
        raise
    except Exception as error:  # noqa: BLE001 - it is not what the run is about
        this.tell("warning", message=f"the edge will not be watched: {error}")


async def change(this: Run, watch: Optional[Watch]) -> None:
    """All that changes something, from the first lease to the last. Raises Stopped where nothing was switched."""
    async with kept(this):
        try:
            this.begin("hold")
            await hold(this)
            if this.policy.operation == "rollback":
                await check_return(this)
            if this.policy.operation == "deploy":
                this.begin("provide")
                await provide(this)
            if this.changing:
                await turn_over(this, watch)
        except Exception:
            await let_go(this, [member for member in this.members if member.asked_to_hold], patient=False)
            raise
        this.begin("end")
        await let_go(this, this.members, patient=True)


async def turn_over(this: Run, watch: Optional[Watch]) -> None:
    """The release is staged, checked and rolled. Raises Stopped until the first host is begun."""
    bills = Bills(this.changing)
    try:
        if this.policy.operation == "deploy":
            this.begin("stage")
            await stage(this)
            this.begin("migrate")
            await migrate(this)
        this.refuse_when_stopped()
        await hand_over(this)
        async with watched(this, watch):
            this.begin("roll")
            await roll(this)
            if this.fell_short:
                this.begin("settle")
                await settle(this)
                await hand_back(this)
        if not this.fell_short:
            await bills.put(this)
    finally:
        bills.drop()


@asynccontextmanager
async def watched(this: Run, watch: Optional[Watch]) -> AsyncIterator[None]:
    """Have the watch from before the first host to after the last; one that fails disturbs nobody."""
    if watch is None:
        yield
        return
    try:
        await watch.start()
    except Exception as error:  # noqa: BLE001 - it is not what the run is about
        this.tell("warning", message=f"the edge is not watched: {error}")
    try:
        yield
    finally:
        try:
            await watch.stop()
        except Exception as error:  # noqa: BLE001 - it is not what the run is about
            this.tell("warning", message=f"what was seen of the edge is lost: {error}")


async def plan(this: Run) -> FleetReport:
    """What the run would do, with the files that would be different; changes nothing. Raises Stopped."""
    known = [member for member in this.changing if member.wanted]
    if this.policy.operation == "deploy" and known:
        await stage(this)
    rows = rows_of(this)
    before = [member.seen for member in this.changing]
    migrations = this.pending(this.since) if this.pending and this.policy.operation == "deploy" else ()
    release = verdict.wanted(rows)
    this.plan = verdict.plan(
        rows,
        release,
        migrations,
        {member.name: int(member.seen["free_mib"]) for member in this.changing if "free_mib" in member.seen},
        [(str(seen.get("image") or ""), str(seen.get("release_image") or "")) for seen in before],
        planned(this, migrations),
        [member.target.activate for member in this.changing if member.before],
        this.policy.operation == "deploy" and not this.pending and any(one.target.migrations for one in this.changing),
        others_of(this, release),
    )
    this.tell("planned", plan=this.plan)
    return report(this)


def rows_of(this: Run) -> list[dict[str, object]]:
    return [verdict.host_row(member, this.fell_short, this.keeps) for member in this.members]


def others_of(this: Run, release: str) -> str:
    return verdict.not_in_it(this.policy.left_out, this.policy.operation, release)


def report(this: Run, refused: str = "") -> FleetReport:
    """How the run ended; `refused` says why nothing was switched."""
    rows = rows_of(this)
    release = verdict.wanted(rows)
    restart = this.policy.operation == "restart"
    word = "refused" if refused else "planned" if this.plan else verdict.verdict(rows)
    message = refused
    if not refused and not this.plan:
        message = verdict.sentence(word, rows, release, this.reason, restart, this.changed, others_of(this, release))
    this.tell("verdict", word=word, message=message)
    return FleetReport(
        word=word,
        message=message,
        release=release,
        rows=rows,
        wrong={} if this.plan else verdict.wrong(rows, message, release, restart),
        changed=this.changed,
        plan=this.plan,
        diff=this.diff,
        covered=[member.name for member in this.members if member.seen.get("page")],
        began=this.began,
        ended=this.clock.now(),
    )
