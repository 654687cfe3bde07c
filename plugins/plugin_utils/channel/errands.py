# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Requests over connections that only run a command to its end: one run of the agent for each.

Slower, and events come with the answer; for connection plugins of which only `exec_command` is known.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import CHUNK, Broken, Decoder, encode
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.answers import event_of, result_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.archive import Agent
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Answer, OnEvent, Traffic
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import Opening, command, new_mark
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Errand
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result, Unreachable


class Errands:
    """Never broken: each request is a connection of its own."""

    broken = ""
    chunk, window = 32 * CHUNK, 1

    def __init__(
        self, errand: Errand, agent: Agent, greeting: bytes, python: str, place: str, traffic: Traffic
    ) -> None:
        self._errand, self._agent, self._greeting, self._traffic = errand, agent, greeting, traffic
        self._python, self._place = python, place

    def ask(self, verb: str, arguments: Result, blob: bytes = b"", on_event: OnEvent | None = None) -> Answer:
        """Run the request in a thread; its events are told when it has ended."""
        return asyncio.ensure_future(self._ask(encode({"id": 1, "verb": verb, "arguments": arguments}, blob), on_event))

    async def _ask(self, frame: bytes, on_event: OnEvent | None) -> tuple[Result, bytes]:
        said = await asyncio.to_thread(self._run, frame)
        try:
            for header, blob in Decoder().feed(said):
                event = event_of(header)
                if event is not None and on_event:
                    on_event(event)
                elif event is None and (header.get("id") or "error" in header):
                    return result_of(header), blob
        except Broken as error:
            raise Unreachable(str(error)) from error
        raise Unreachable("the connection ended before the answer")

    async def request(self, verb: str, arguments: Result, blob: bytes = b"") -> tuple[Result, bytes]:
        """The answer to a request. Raises Unreachable and Refused."""
        return await self.ask(verb, arguments, blob)

    async def close(self) -> None:
        """Let the host forget the files of the run. Raises nothing."""
        with suppress(Unreachable, Refused):
            await asyncio.to_thread(self._run, encode({"verb": "done"}))

    def _run(self, frame: bytes) -> bytes:
        """What the agent says; it is sent along where it is missing. Raises Unreachable and Refused."""
        mark = new_mark()
        file = f"{mark}\n".encode() + self._agent.data
        opening = Opening(self._agent, mark, bytearray())
        code = 0
        for before in (b"", file):
            opening = Opening(self._agent, mark, bytearray())
            words = command(self._agent, mark, self._python, self._place, sent=bool(before))
            given = self._greeting + before + frame
            code, said, errors = self._errand.run(words, given)
            self._traffic.sent += len(given)
            self._traffic.received += len(said) + len(errors)
            for _ in (*opening.hear_error(errors), *opening.hear(said)):
                pass  # what it would answer was in `given`
            if opening.open:
                return opening.rest()
        raise opening.failure(code)
