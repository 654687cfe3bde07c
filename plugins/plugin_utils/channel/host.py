# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A host as the coordinator knows it (parts.Host), over a channel to its agent that is opened when it is needed."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import encode
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import archive
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import (
    Answer,
    Channel,
    OnEvent,
    Patience,
    Traffic,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.errands import Errands
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import PLACE, Opening, command, new_mark
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Errand, Way
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result

Answered = asyncio.Task[tuple[Result, bytes]]

# A request this small may go with the first words of a channel.
FIRST_WORDS = 1 << 16


@dataclass(frozen=True)
class Access:
    """How a host is reached. `environment` is that of the tasks, `python` a path or a word of the host's shell."""

    way: Way | Errand
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What holds for all hosts. `opening` limits how many channels are opened at the same time."""

    opening: asyncio.Semaphore
    patience: Patience = field(default_factory=Patience)
    place: str = PLACE
    agent: Callable[[], archive.Agent] = archive.agent


class Line(Protocol):
    """What carries requests: a channel, or one errand for each.

    Files travel in pieces of `chunk` bytes, `window` of them at a time: those are what a ping waits behind.
    """

    broken: str
    chunk: int
    window: int

    def ask(self, verb: str, arguments: Result, blob: bytes = b"", on_event: OnEvent | None = None) -> Answer: ...

    async def request(self, verb: str, arguments: Result, blob: bytes = b"") -> tuple[Result, bytes]: ...

    async def close(self) -> None: ...


class AgentHost:
    """One host. No connection is made before the first call, and a broken one is made anew by the next call.

    `access` is asked each time a channel is opened; what it raises, the call does.
    """

    def __init__(self, name: str, access: Callable[[], Access], settings: Settings) -> None:
        self.name = name
        self.traffic = Traffic()
        self._access, self._settings = access, settings
        self._run = secrets.token_hex(8)
        self._sent: dict[Path, str] = {}
        self._lock = asyncio.Lock()
        self._line: Line | None = None

    async def call(self, verb: str, arguments: Mapping[str, Any], on_event: OnEvent | None = None) -> Result:
        """The result of a verb. Raises Unreachable and Refused."""
        given = dict(arguments)
        async with self._lock:
            if self._line is None or self._line.broken:
                answer = await self._open(verb, given, on_event)
            else:
                answer = self._line.ask(verb, given, b"", on_event)
        result, _ = await answer
        return result

    async def send(self, file: Path) -> str:
        """Send a file; returns its path there, where it stays until the run is over. Raises Unreachable."""
        line = await self._ready()
        name, path = self._name(file), ""
        waiting: deque[Answered] = deque()
        try:
            with file.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                for at in range(0, max(size, 1), line.chunk):
                    piece = await asyncio.to_thread(stream.read, line.chunk)
                    if len(waiting) == line.window:
                        await waiting.popleft()
                    asked = line.request("write", {"file": name, "at": at}, piece)
                    waiting.append(asyncio.create_task(asked))
            while waiting:
                path = str((await waiting.popleft())[0]["path"])
        finally:
            await _drop(waiting)
        return path

    async def fetch(self, remote: str, local: Path) -> None:
        """Get a file. Raises Unreachable, and Refused where there is none."""
        line = await self._ready()
        waiting: deque[Answered] = deque()

        def ask(at: int) -> Answered:
            return asyncio.create_task(line.request("read", {"file": remote, "at": at, "size": line.chunk}))

        result, data = await ask(0)
        size, done = result.get("size"), 0
        if not isinstance(size, int):
            raise Refused(f"{remote} cannot be fetched: {self.name} does not say how large it is")
        later = iter(range(line.chunk, size, line.chunk))
        part = local.with_name(f".{local.name}.{self._run}")
        try:
            with part.open("wb") as stream:
                while True:
                    await asyncio.to_thread(stream.write, data)
                    done += len(data)
                    if not data or done > size:
                        break
                    waiting.extend(map(ask, islice(later, line.window - len(waiting))))
                    if not waiting:
                        break
                    _, data = await waiting.popleft()
            if done != size:
                raise Refused(f"{remote} changed while it was fetched")
            part.replace(local)
        finally:
            await _drop(waiting)
            part.unlink(missing_ok=True)

    async def close(self) -> None:
        """End the channel; what runs on the host ends by itself. Raises nothing."""
        async with self._lock:
            if self._line is not None:
                await self._line.close()
            self._line = None

    def _name(self, file: Path) -> str:
        """Its name in the directory of the run: its own, below a number where another file has that."""
        taken = set(self._sent.values()) - {self._sent.get(file)}
        name = file.name if file.name not in taken else f"{len(self._sent)}/{file.name}"
        return self._sent.setdefault(file, name)

    async def _ready(self) -> Line:
        async with self._lock:
            if self._line is None or self._line.broken:
                await (await self._open("ping", {}))
            assert self._line is not None
            return self._line

    async def _open(self, verb: str, arguments: Result, on_event: OnEvent | None = None) -> Answer:
        """Open a channel and ask the first request with its first words. Raises Unreachable and Refused."""
        settings, patience = self._settings, self._settings.patience
        broken, self._line = self._line, None
        access = self._access()
        agent = settings.agent()
        way = access.way
        greeting = encode(
            {
                "verb": "open",
                "arguments": {
                    "run": self._run,
                    "environment": dict(access.environment),
                    "silence": 3 * patience.limit,
                    "lasting": isinstance(way, Way),
                },
            }
        )
        if not isinstance(way, Way):
            self._line = Errands(way, agent, greeting, access.python, settings.place, self.traffic)
            return self._line.ask(verb, arguments, b"", on_event)
        mark = new_mark()
        async with settings.opening:
            if broken:
                await broken.close()
                await asyncio.to_thread(way.forget)
            started = way.start(command(agent, mark, access.python, settings.place))
            opening = Opening(agent, mark, bytearray(greeting), started.become)
            channel = Channel(started, opening, patience, self.traffic)
            answer = None
            if len(str(arguments)) < FIRST_WORDS:
                answer = channel.ask(verb, arguments, b"", on_event)
            try:
                await channel.open()
            except BaseException:
                if answer:
                    answer.cancel()
                raise
        self._line = channel
        return answer or channel.ask(verb, arguments, b"", on_event)


async def _drop(tasks: deque[Answered]) -> None:
    """Wait for nothing more of a transfer that failed."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
