# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Before anything is changed: what every host is to serve, what is there, and all that would stop the run, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import (
    NoCommonRelease,
    common_release,
    lack,
    mend,
    them,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.batches import batches_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Content, Identity, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import (
    Member,
    Run,
    Stopped,
    by_content,
    causes,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.target import REFERENCE, RELEASE, named, replaced
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import (
    FAILED,
    UNREACHABLE,
    Trouble,
    drift,
    recorded,
    serving,
)

UNCHANGED = "nothing was changed; "
# How often the lock of a dead run is waited for (a run after it may have died, too), and seconds more than it says.
FEW, SLACK = 3, 0.5
NEVER_RELEASED = "nothing was released here yet; run slipway.fleet.deploy"
# What a host cannot do that has a problem, by operation.
CANNOT = {"deploy": "cannot take a release", "rollback": "cannot go back", "restart": "cannot restart"}


async def look(run: Run) -> None:
    """Ask every host once. Raises Stopped that names every problem of every host; in a plan they are warnings."""
    try:
        batches_of([], run.policy.batches)
    except ValueError as error:
        raise Stopped(UNCHANGED + str(error)) from None
    if run.policy.operation == "deploy":
        await run.unless_stopped(identify(run))

    async def one(member: Member) -> None:
        member.seen = await run.ask(member, "look", **question(run, member))
        await wait_for_dead(run, member)
        member.before = recorded(member.seen)
        member.now = member.seen

    failed = await run.unless_stopped(run.each(run.members, one))
    for member, trouble in failed:
        member.trouble = trouble
        if trouble.outcome == UNREACHABLE:
            member.lost = trouble
    for member in run.members:
        problems = [str(problem) for problem in member.seen.get("problems") or ()]
        if problems and run.policy.check_mode and not run.policy.strict:
            for problem in problems:
                run.tell("warning", member, message=f"a release would stop here: {problem}")
        elif problems:
            member.trouble = Trouble(FAILED, f"{CANNOT[run.policy.operation]}: {'; '.join(problems)}")
    find_twice(run.members)
    refuse(run.members, other_content(run) if run.policy.same_content else "")


def find_twice(members: Sequence[Member]) -> None:
    """Find the hosts that are one machine under several names; a release would meet itself there."""
    first: dict[str, Member] = {}
    for member in members:
        machine = str(member.seen.get("machine") or "")
        known = first.setdefault(machine, member)
        if machine and known is not member:
            member.trouble = Trouble(
                FAILED,
                f"is the same machine as {known.name}: compare their ansible_host and ansible_port in the inventory "
                f"and mend the wrong one, or leave {them([member.name])}",
            )


async def wait_for_dead(run: Run, member: Member) -> None:
    """Where a run that seems to be gone holds a host, wait until that ends; one that lives is seen again."""
    for _ in range(FEW):
        left = float(member.seen.get("frees_in") or 0.0)
        if not left or run.policy.check_mode:
            return
        run.tell("warning", member, message=f"waiting {left:.0f} s for the lock of a run that seems to be gone")
        await run.clock.sleep(left + SLACK)
        member.seen = await run.ask(member, "look", **question(run, member))


def question(run: Run, member: Member) -> Result:
    """What a host is asked to look for; of content whose identity is unknown only its name is known."""
    identity = member.identity or Identity("", "")
    around = replaced(member.target.look, {REFERENCE: identity.reference})
    if identity.architectures and not around.get("architectures"):
        around["architectures"] = list(identity.architectures)
    return {
        "purpose": run.policy.operation,
        "release": member.wanted or member.target.release,
        "host": {**around, "controller_time": run.clock.now()},
    }


async def identify(run: Run) -> None:
    """Name the release of each host, as far as its content can be known without asking a host. Raises Stopped."""

    async def one(content: Content, members: Sequence[Member]) -> None:
        identity = await content.identify()
        for warning in identity.warnings:
            run.tell("warning", message=warning)
        for member in members:
            name_release(run, member, identity)

    for member in run.members:
        if member.content is None:
            raise Stopped(f"{UNCHANGED}no image or package is named for {member.name}")
    contents = by_content(run.members)
    ends = await asyncio.gather(*(one(*group) for group in contents), return_exceptions=True)
    if wrong := causes(ends):
        raise Stopped(UNCHANGED + wrong)


def name_release(run: Run, member: Member, identity: Identity) -> None:
    """Say what a host is to serve, once it is known of which content it is."""
    member.identity = identity
    if identity.content:
        member.target = named(member.target, identity, run.release_id)
        member.wanted = member.target.release


def refuse(members: Sequence[Member], more: str = "") -> None:
    """Raise Stopped with the trouble of all hosts in one message, and what is wrong besides, where there is any."""
    away = [member for member in members if member.trouble and member.trouble.outcome == UNREACHABLE]
    lines = [f"{member.name} {member.trouble.cause}" for member in away if member.trouble]
    if away:
        lines[-1] = f"{lines[-1].rstrip('.')}. {mend([member.name for member in away], len(away) == len(members))}"
    lines += [f"{member.name} {member.trouble.cause}" for member in members if member.trouble and member not in away]
    if lines := [*lines, *filter(None, [more])]:
        raise Stopped(UNCHANGED + "\n".join(lines))


def agree(run: Run) -> None:
    """Say which release each host is to serve, and which hosts do already. Raises Stopped where there is none."""
    if run.policy.operation == "rollback":
        agree_on_return(run)
    elif run.policy.operation == "restart":
        keep_what_serves(run)
    for member in run.members:
        member.settled = is_settled(run, member)
        about = {"release": member.wanted, "settled": member.settled, "serving": serving(member.seen)}
        run.tell("looked", member, **about)
        for note in () if member.settled else member.seen.get("notes") or ():
            run.tell("warning", member, message=str(note))
    number_batches(run)


def other_content(run: Run) -> str:
    """Which hosts would get another image or package than the one that they serve, and what to do; empty for none."""
    lines = []
    for member in run.members:
        serves, wanted = str(member.seen.get("image") or ""), made_of(member)
        if member.wanted and serves and wanted not in ("", serves) and not is_settled(run, member):
            lines.append(f"{member.name} serves {serves}, and this checkout and inventory make {wanted}")
    if not lines:
        return ""
    return "; ".join(lines) + (
        ". Check out what serves, or deploy this first, with the former values in the vault; or have it come with the "
        "new secrets: -e slipway_same_content=false"
    )


def made_of(member: Member) -> str:
    """The image or package of the release that a host is to serve, as its ledger will have it."""
    return str((member.target.activate.get("about") or {}).get("image") or "")


def is_settled(run: Run, member: Member) -> bool:
    """Whether the host serves already what it should, and nothing differs from what it should be."""
    if run.policy.operation == "restart" or not member.wanted or serving(member.seen) != member.wanted:
        return False
    return bool(member.seen.get("settled")) if run.policy.operation == "deploy" else not drift(member)


def number_batches(run: Run) -> list[list[Member]]:
    """The hosts that change in their batches, each with its number; 0 is that of a host that is left alone."""
    for member in run.members:
        member.batch = 0
    by_name = {member.name: member for member in run.changing}
    batches = [[by_name[name] for name in batch] for batch in batches_of(list(by_name), run.policy.batches)]
    for number, batch in enumerate(batches, 1):
        for member in batch:
            member.batch = number
    return batches


def agree_on_return(run: Run) -> None:
    """One release for the whole fleet: the operator's, or the newest that every host has. Raises Stopped."""
    answers = {member.name: member.seen for member in run.members}
    wishes = {member.target.release for member in run.members if member.target.release}
    if len(wishes) > 1:
        raise Stopped(f"{UNCHANGED}a rollback is to one release, and hosts name several: {', '.join(sorted(wishes))}")
    try:
        release = wishes.pop() if wishes else common_release(answers)
    except NoCommonRelease as error:
        raise Stopped(UNCHANGED + str(error)) from None
    if gone := {name: answer for name, answer in answers.items() if not returnable(release, answer)}:
        for member in run.members:
            if member.name in gone:
                member.trouble = Trouble(FAILED, f"cannot go back: {no_good(release, member.seen)}")
        causes = "\n".join(f"{name}: {no_good(release, answer)}" for name, answer in gone.items())
        raise Stopped(f"{UNCHANGED}{causes}\nName another release, or leave {them(list(gone))}")
    for member in run.members:
        want(member, release)


def no_good(release: str, answer: Result) -> str:
    """Why a host cannot go back to a release that an operator named."""
    good = [entry for entry in answer.get("good") or () if entry.get("there", True)]
    if any(entry["release"] == release for entry in answer.get("good") or ()):
        return f"release {release} {lack(release, answer)}"
    there = ", ".join(entry["release"] for entry in good) or "none"
    return f"release {release} is no good release of this host; there are: {there} (oldest first)"


def returnable(release: str, answer: Result) -> bool:
    """Whether a host has a release; one that it left out of `good` it may have looked up by its name."""
    return not lack(release, answer) or (
        answer.get("release") == release and all(entry["release"] != release for entry in answer.get("good") or ())
    )


def keep_what_serves(run: Run) -> None:
    """Each host is to serve what it does. Raises Stopped where one serves nothing and has nothing recorded."""
    for member in run.members:
        if release := recorded(member.seen):
            want(member, release)
        else:
            member.trouble = Trouble(FAILED, f"cannot restart: {NEVER_RELEASED}")
    refuse(run.members)


def want(member: Member, release: Optional[str]) -> None:
    """Name the release of a host that has it."""
    member.wanted = release or ""
    member.target = replace(
        member.target, release=member.wanted, activate=replaced(member.target.activate, {RELEASE: member.wanted})
    )
