# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is put beside what runs: image or package, the release's files and its own check, the database's schema."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.alembic import Ask, bring_forward, require_fit
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.alembic import words as alembic_words
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import schema_revision
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Content, ContentError, Refused, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import name_release, number_batches
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.rehearsing import recorded as recorded_rehearsal
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.rehearsing import rehearse
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import (
    Member,
    Run,
    Stopped,
    by_content,
    causes,
    trouble_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.saving import makes_sets, save
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.target import SERVING, replaced
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import drift, recorded, serving


async def provide(run: Run) -> None:
    """Have image or package on every host that changes, made once for all of them. Raises Stopped.

    Where only a host could tell what the content is, this may show that it serves it already.
    """
    have: dict[str, Result] = {}

    async def look(member: Member) -> None:
        assert member.content is not None
        have[member.name] = await member.content.look(member.host)

    async def put(member: Member) -> None:
        assert member.content is not None
        identity, changed = await member.content.put(member.host, have[member.name])
        run.changed = run.changed or changed
        run.tell("put", member, content=identity.content, changed=changed)
        if not member.wanted:
            if not identity.content:
                raise ContentError(f"{identity.reference} has no content that could name a release")
            name_release(run, member, identity)
            member.settled = serving(member.seen) == member.wanted and not drift(member)

    groups = by_content(run.changing)
    members = [member for _, group in groups for member in group]
    await run.all_or_stopped(members, look)
    await run.unless_stopped(prepare(run, groups, have))
    await run.all_or_stopped(members, put)
    number_batches(run)


async def prepare(run: Run, groups: Sequence[tuple[Content, list[Member]]], have: dict[str, Result]) -> None:
    """Have on the controller what hosts lack. Raises Stopped."""
    # One that has everything already may be the one that builds.
    hosts = {member.name: member.host for member in run.members}

    async def one(content: Content, members: Sequence[Member]) -> bool:
        return await content.prepare({member.name: have[member.name] for member in members}, hosts)

    ends = await asyncio.gather(*(one(*group) for group in groups), return_exceptions=True)
    if wrong := causes(ends):
        raise Stopped(f"{run.so_far}; {wrong}")
    run.tell("prepared", made=any(end is True for end in ends))


async def stage(run: Run) -> None:
    """Put the release's files on all hosts that change, and let the release check itself there. Raises Stopped."""
    ports: set[int] = set()
    await run.all_or_stopped(run.changing, lambda member: stage_one(run, member, ports))
    for port in sorted(ports):
        run.tell("exposed", port=port)


async def stage_one(run: Run, member: Member, ports: set[int]) -> None:
    """`ports` gets the one on which the app listens there, where its image alone says so."""
    target = member.target
    for_plan: Result = {"contract": target.activate.get("contract"), "was": member.before}
    answer = await run.ask(
        member,
        "stage",
        release=member.wanted,
        files=replaced(target.files, {SERVING: recorded(member.seen) or "none"}),
        contents=target.contents,
        leaks=target.leaks,
        check=[] if run.policy.check_mode else target.check,
        check_timeout=target.check_timeout,
        check_mode=run.policy.check_mode,
        diff=run.policy.diff,
        **(for_plan if run.policy.check_mode else {}),
    )
    if run.policy.check_mode:
        member.api = answer.get("api")
    else:
        run.changed = run.changed or bool(answer.get("changed"))
    run.diff += [{**entry, "host": member.name} for entry in answer.get("diff") or ()]
    for warning in answer.get("warnings") or ():
        run.tell("warning", member, message=warning)
    if port := int(answer.get("port") or 0):
        ports.add(port)
    run.tell("staged", member, release=member.wanted, changed=bool(answer.get("changed")))


async def migrate(run: Run) -> None:
    """Bring the database to the release's schema, on the first host for all of them. Raises Stopped.

    It is not cut short by an interruption: somebody else could begin another one beside it.
    """
    first = run.changing[0]
    target = first.target
    if not (target.migrate or target.migrations):
        return
    run.refuse_when_stopped()
    run.changed = True
    ask = asking(run, first, first.wanted, "the migration", target.migrate_timeout)
    made: Result = {}
    read: set[str] = set()

    def judged(found: Mapping[str, Any]) -> None:
        """Tell what else there is to know of it, once for each revision."""
        new = [one for one in found["pending"] if one["revision"] not in read]
        read.update(one["revision"] for one in new)
        if run.linter and new and found["from"]:  # what is in nobody's way on an empty database
            told = run.linter(new, found["dialect"])
            run.tell("linted", first, found=told["found"], lacks="" if "squawk" in made else told["lacks"])
            made["squawk"] = [*made.get("squawk", ()), *told["found"]]

    async def before(found: Mapping[str, Any]) -> None:
        if found.get("empty"):
            return
        made["backup"] = await save(run, first)
        if target.rehearse:
            allowed = None if target.allow_destructive else [one["revision"] for one in found.get("pending") or ()]
            command = target.migrate or alembic_words(target.migrations, allowed=allowed, measure=True)
            with refusing(run, first):
                made["rehearsal"] = recorded_rehearsal(await rehearse(run, first, command))

    if target.migrations:
        with refusing(run, first):
            revision = await bring_forward(
                ask,
                target.migrations,
                target.allow_destructive,
                again=run.refuse_when_stopped,
                before=before if makes_sets(run, first) or target.rehearse else None,
                tell=lambda revisions: run.tell("pending", first, revisions=revisions),
                judged=judged,
            )
    else:
        if run.since and run.pending and run.pending(run.since):  # without a record nobody knows what is pending
            await before({})
            run.refuse_when_stopped()
        revision = schema_revision(await ask(target.migrate))
    for member in run.changing:
        about = {**(member.target.activate.get("about") or {}), "migration": revision, **made}
        member.target = replace(member.target, activate={**member.target.activate, "about": about})
    run.tell("migrated", first, release=first.wanted, migration=revision)


async def check_return(run: Run) -> None:
    """Ask releases that serve whether the database suits the earlier one, once for each pair of schemas.

    Raises Stopped where it does not.
    """
    asked: set[tuple[str, str]] = set()
    for member in run.changing:
        pair = str(member.seen.get("migration") or ""), schema_of(member)
        target = member.target
        if not (target.rollback_check or target.migrations) or not pair[1] or pair[0] == pair[1] or pair in asked:
            continue
        asked.add(pair)
        ask = asking(run, member, member.before or "", "the look at the database's schema", target.check_timeout)
        with refusing(run, member):
            await run.unless_stopped(
                require_fit(ask, target.migrations, pair[1])
                if target.migrations
                else ask([*target.rollback_check, pair[1]])
            )


def schema_of(member: Member) -> str:
    """The schema revision of the release that a host is to go back to; empty when it is unknown."""
    for entry in member.seen.get("good") or ():
        if entry["release"] == member.wanted:
            return str(entry.get("migration") or "")
    known = member.seen.get("release") == member.wanted
    return str(member.seen.get("release_migration") or "") if known else ""


def asking(run: Run, member: Member, release: str, purpose: str, timeout: float) -> Ask:
    """Runs commands in a release on a host."""
    return lambda words: command(run, member, release, words, purpose, timeout)


@contextmanager
def refusing(run: Run, member: Member) -> Iterator[None]:
    """What was refused here is told as if the host had refused it. Raises Stopped."""
    try:
        yield
    except Refused as error:
        member.trouble = trouble_of(error)
        raise Stopped(f"{run.so_far}; {member.name}: {member.trouble.cause}") from error


async def command(run: Run, member: Member, release: str, words: Sequence[str], purpose: str, timeout: float) -> str:
    """What a command in a release printed. Raises Stopped where it failed."""
    try:
        answer = await run.ask(
            member, "run", release=release, command=list(words), purpose=purpose, timeout=timeout, once=""
        )
        if code := answer.get("rc"):
            output = f"{answer.get('stderr') or ''}\n{answer.get('stdout') or ''}".strip()
            message = f"{purpose} of release {release} failed: exit code {code}\n{output}"
            raise Refused(message)  # noqa: TRY301 - as the host says it itself
    except Exception as error:
        member.trouble = trouble_of(error)
        raise Stopped(f"{run.so_far}; {member.name}: {member.trouble.cause}") from error
    return str(answer.get("stdout") or "")
