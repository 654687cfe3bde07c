# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How a run ends: bills of materials are put beside the releases, hosts are let go and say what answers there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Content
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.roll import at_rest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import (
    Member,
    Run,
    TooLate,
    before,
    by_content,
    trouble_of,
    within,
)

# Seconds within which hosts must say what answers there where nobody is to wait for them: once the patience with an
# interrupted run is over, and where nothing was switched. A host looks at a slot's health for 20 s at most.
LAST_WORD = 30.0
# What a host has to know of how a release is activated when it tidies up.
LETTING_GO = ("keep", "drain", "drain_websockets", "stop_grace", "log_lines")


class Bills:
    """Bills of materials, made while the fleet turns over."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._made = [(group, asyncio.ensure_future(text_of(content))) for content, group in by_content(members)]

    async def put(self, run: Run) -> None:
        """Put each beside its release on the hosts where that was good. What goes wrong is a warning."""
        for members, bill in self._made:
            ends = await asyncio.gather(before(run.stopping, waited(bill)), return_exceptions=True)
            if isinstance(ends[0], BaseException):
                run.tell("warning", message=f"there is no bill of materials: {trouble_of(ends[0]).cause}")
            elif ends[0]:
                good = [member for member in members if member.rolled and not member.trouble]
                for member, trouble in await run.each(good, partial(put_bill, run, ends[0])):
                    run.tell("warning", member, message=f"the bill of materials was not put there: {trouble.cause}")

    def drop(self) -> None:
        """Wait for none of them any more."""
        for _, bill in self._made:
            bill.cancel()


async def text_of(content: Content) -> str:
    """A bill of materials as JSON; empty where there is none."""
    path: Optional[Path] = await content.bill()
    return path.read_text(encoding="utf-8") if path else ""  # noqa: ASYNC240 - one small file of this machine


async def waited(bill: asyncio.Future[str]) -> str:
    return await bill


async def put_bill(run: Run, text: str, member: Member) -> None:
    path = f"{member.target.place['root']}/releases/{member.wanted}/sbom.cdx.json"
    bill = {"dest": path, "owner": "root", "group": "root", "mode": "0644"}
    await run.ask(
        member,
        "stage",
        release=member.wanted,
        files=[bill],
        contents={"0": text},
        check=[],
        check_timeout=member.target.check_timeout,
        check_mode=False,
        diff=False,
    )


async def let_go(run: Run, members: Sequence[Member], patient: bool) -> None:
    """Let hosts go; each says what answers there now. One that does not say is in trouble; nothing is raised.

    `patient` asks those again that are away, since after a roll what they serve is part of the verdict.
    """

    async def ask(member: Member) -> None:
        if member.in_doubt:
            await at_rest(run, member)
        member.held = False
        settings = {name: value for name, value in member.target.activate.items() if name in LETTING_GO}
        if member.tends:
            settings["processes"] = True
        answer = await (run.ask_again if patient else run.ask)(member, "let_go", **settings)
        member.now = answer.get("now") or {}
        for note in answer.get("notes") or ():
            run.tell("warning", member, message=str(note))

    async def one(member: Member) -> None:
        if patient:
            with suppress(TooLate):
                return await before(run.late, ask(member))
        return await within(run.clock, LAST_WORD, ask(member))

    for member, trouble in await run.each(members, one):
        member.now, member.lost = None, trouble
