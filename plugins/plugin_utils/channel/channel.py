# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""One open channel to the agent of a host, over the pipes of a process that Ansible's connection would start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import (
    CHUNK,
    Broken,
    Decoder,
    Header,
    encode,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.answers import event_of, result_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import Opening
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Started
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result, Unreachable

# Seconds that an ended process has to say why, that an agent has to end after its run, and a killed process to be gone.
LAST_WORDS = 1.0
FAREWELL = 2.0
BURIAL = 10.0

OnEvent = Callable[[Result], None]
Answer = asyncio.Future[tuple[Result, bytes]]


@dataclass(frozen=True)
class Patience:
    """A host that is silent for `interval` seconds is asked whether it is there, `tries` times before it is lost."""

    interval: float = 10.0
    tries: int = 3

    @property
    def limit(self) -> float:
        """Seconds after which a host that is gone counts as unreachable, at most."""
        return self.interval * (self.tries + 1)


@dataclass
class Traffic:
    """Bytes to and from a host."""

    sent: int = 0
    received: int = 0


@dataclass
class _Call:
    answer: Answer
    on_event: OnEvent | None


class Channel:
    """Opened by `open`, once. What breaks it is told to everyone who waits for an answer, and to nobody else."""

    chunk, window = CHUNK, 4

    def __init__(self, started: Started, opening: Opening, patience: Patience, traffic: Traffic) -> None:
        self._process = started.process
        self._started, self._opening = started, opening
        self._patience, self._traffic = patience, traffic
        self._decoder = Decoder()
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._missed = 0
        self._heard = True
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()  # stdout is at its end
        self._silent = asyncio.Event()  # stderr, too
        self._end: asyncio.Task[None] | None = None
        self._transports: list[asyncio.BaseTransport] = []
        self._writer: asyncio.WriteTransport | None = None
        self.broken = ""

    async def open(self) -> None:
        """Until the agent answers. Raises Unreachable and Refused, with what the host or the connection said."""
        try:
            await self._connect()
            async with asyncio.timeout(self._started.patience):
                await self._opened
        except TimeoutError:
            await self._give_up(self._with_last_words(f"no answer within {self._started.patience:.0f} s"))
            raise Unreachable(self.broken) from None
        except BaseException:
            await self._give_up("the channel was not opened")
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                if pipe:  # perhaps no transport has it yet
                    pipe.close()
            raise
        finally:
            self._started.begun()
        self._timer = self._loop.call_later(self._patience.interval, self._tick)

    async def _connect(self) -> None:
        # The way to the host stands first: a prompt may be there as soon as somebody reads.
        writer, _ = await self._loop.connect_write_pipe(lambda: _Mouth(self._writable), self._process.stdin)
        self._writer = writer
        self._transports.append(writer)
        self._send(self._opening.begin())
        for stream, ear in (
            (self._process.stdout, _Ear(self._hear, self._hear_end)),
            (self._process.stderr, _Ear(self._hear_error, self._silent.set)),
        ):
            transport, _ = await self._loop.connect_read_pipe(lambda ear=ear: ear, stream)  # type: ignore[misc]
            self._transports.append(transport)

    def _send(self, data: bytes) -> None:
        if data and self._writer and not self._writer.is_closing():
            self._traffic.sent += len(data)
            self._writer.write(data)

    def _hear(self, data: bytes) -> None:
        self._heard = True
        self._traffic.received += len(data)
        if not self._opening.open:
            data = self._begin(data)
        try:
            for header, blob in self._decoder.feed(data):
                self._answer(header, blob)
        except Broken as error:
            self._break(str(error))

    def _begin(self, data: bytes) -> bytes:
        """Go on with the opening; returns what came after it."""
        self._advance(lambda: self._opening.hear(data))
        if not self._opening.open:
            return b""
        if not self._opened.done():
            self._opened.set_result(None)
        return self._opening.rest()

    def _hear_error(self, data: bytes) -> None:
        self._traffic.received += len(data)
        self._advance(lambda: self._opening.hear_error(data))

    def _advance(self, step: Callable[[], Any]) -> None:
        try:
            for answer in step():
                self._send(answer)
        except Refused as error:
            if not self._opened.done():
                self._opened.set_exception(error)

    def _hear_end(self) -> None:
        self._ended.set()
        if self._end is None:
            self._end = self._loop.create_task(self._explain_end())

    async def _explain_end(self) -> None:
        """Say why the process is gone, when its last words are there."""
        code = await self._exit_code(LAST_WORDS)
        with suppress(TimeoutError):  # a process that stays to share the connection keeps stderr open
            async with asyncio.timeout(LAST_WORDS / 4):
                await self._silent.wait()
        if self.broken:  # by us: nobody waits to hear why
            return
        if not self._opened.done():
            self._opened.set_exception(self._opening.failure(code))
            return
        how = f"exit code {code}" if code is None or code >= 0 else signal.Signals(-code).name
        self._break(self._with_last_words(f"the channel was closed ({how})"))

    def _with_last_words(self, why: str) -> str:
        """What the connection said last may be the cause, or no more than the host's banner."""
        said = self._opening.last_words()
        return f"{why}; its last words: {said}" if said else why

    async def _exit_code(self, limit: float) -> int | None:
        """The process's exit code, None when it has none within `limit` seconds."""
        until = self._loop.time() + limit
        # asyncio's own watchers cost a thread for each process.
        while (code := self._process.poll()) is None and self._loop.time() < until:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.01)
        return code

    def _answer(self, header: Header, blob: bytes) -> None:
        number = header.get("id")
        call = self._calls.get(number) if isinstance(number, int) else None
        if call is None or call.answer.done():
            return
        event = event_of(header)
        if event is not None:
            self._tell(call, event)
            return
        try:
            call.answer.set_result((result_of(header), blob))
        except Refused as error:
            call.answer.set_exception(error)

    def _tell(self, call: _Call, event: Result) -> None:
        """What the listener gets wrong is an error of its own call and not of the channel."""
        try:
            if call.on_event:
                call.on_event(event)
        except Exception as error:  # noqa: BLE001 - handed on to whoever awaits the answer
            call.answer.set_exception(error)

    def ask(self, verb: str, arguments: Result, blob: bytes = b"", on_event: OnEvent | None = None) -> Answer:
        """Send a request, or have it go with the first words where the channel is still to be opened."""
        number, self._next = self._next, self._next + 1
        call = self._calls[number] = _Call(self._loop.create_future(), on_event)
        call.answer.add_done_callback(lambda answer: self._spent(number, answer))
        frame = encode({"id": number, "verb": verb, "arguments": arguments}, blob)
        if self.broken:
            call.answer.set_exception(Unreachable(self.broken))
        elif self._opening.open:
            self._send(frame)
        else:
            self._opening.early += frame
        return call.answer

    def _spent(self, number: int, answer: Answer) -> None:
        del self._calls[number]
        if not answer.cancelled():
            answer.exception()  # nobody may wait for it any more, and that is no error

    async def request(self, verb: str, arguments: Result, blob: bytes = b"") -> tuple[Result, bytes]:
        """The answer to a request, which waits where others fill the pipe. Raises Unreachable and Refused."""
        await self._writable.wait()
        return await self.ask(verb, arguments, blob)

    def _tick(self) -> None:
        """Ask a silent host whether it is there.

        Counted are questions and not seconds: a controller that was stopped for an hour has asked nothing meanwhile.
        """
        if self.broken:
            return
        self._missed = 0 if self._heard else self._missed + 1
        if self._missed > self._patience.tries:
            self._break(f"no answer for {self._patience.limit:.0f} s")
            return
        if not self._heard:
            self._send(encode({"id": 0, "verb": "ping"}))
        self._heard = False
        self._timer = self._loop.call_later(self._patience.interval, self._tick)

    def _break(self, why: str) -> None:
        """End the channel for everyone who waits."""
        if self.broken:
            return
        self.broken = why
        if self._timer:
            self._timer.cancel()
        for transport in self._transports:
            if not transport.is_closing():
                transport.abort() if isinstance(transport, asyncio.WriteTransport) else transport.close()
        self._writable.set()
        with suppress(OSError):  # it may run as root here, and ends since its pipes do
            self._process.kill()
        for call in list(self._calls.values()):
            if not call.answer.done():
                call.answer.set_exception(Unreachable(why))

    async def close(self) -> None:
        """Say that the run is over. The agent ends by itself, when what it does has ended. Raises nothing."""
        if not self.broken:
            self._send(encode({"verb": "done"}))
            with suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self._ended.wait()
        await self._give_up("the channel was closed")

    async def _give_up(self, why: str) -> None:
        """Break the channel and leave no process behind."""
        self._break(why)
        await self._exit_code(BURIAL)
        if self._end:
            await self._end


class _Ear(asyncio.Protocol):
    """Hands on what comes, and that nothing more comes."""

    def __init__(self, take: Callable[[bytes], None], end: Callable[[], None]) -> None:
        self._take, self._end = take, end

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()


class _Mouth(asyncio.BaseProtocol):
    """Holds up those who write while the pipe is full."""

    def __init__(self, writable: asyncio.Event) -> None:
        self._writable = writable

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
