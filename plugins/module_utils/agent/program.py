"""The agent: answers requests from stdin until that ends.

One process without threads looks after the channel, so a ping is answered whatever else goes on. Each verb that takes
time runs in a process of its own, forked from this one: it may change its directory, its umask and its environment,
and dies alone. A broken channel ends none of them; the agent takes no more requests, waits for them and ends.

Where the controller went without saying that it is done, what it holds on the host is let go of sooner (`WHEN_LEFT` in
verbs.py): at once, and again when the last verb has ended, which may have held on to it.

What the controller sends goes to a directory of the run, which is removed when the controller says that it is done.
After a broken channel it stays, for the channel that comes next; when none came, the next run removes it.
"""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..host.errors import SlipwayError
from . import keep, verbs
from .protocol import CHUNK, HELLO, Broken, Decoder, Header, encode

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Seconds without a word from the controller after which it counts as gone, until it says otherwise.
SILENCE = 300.0


@dataclass
class Running:
    """A verb that runs; `answered` when its last frame was passed on."""

    request: Any
    process: int
    decoder: Decoder = field(default_factory=Decoder)
    answered: bool = False


def failure(message: str, kind: str = "failed", details: Optional[dict[str, Any]] = None) -> Header:
    """An answer that says what went wrong."""
    return {"error": {"message": message, "kind": kind, "details": details or {}}}


class Agent:
    """`source` and `sink` are descriptors of the channel; `place` is the directory of what agents keep."""

    def __init__(self, source: int, sink: int, place: Path) -> None:
        self._source, self._sink = source, sink
        self._decoder = Decoder()
        self._running: dict[int, Running] = {}  # by the descriptor on which it answers
        self._selector = selectors.DefaultSelector()
        self._files = keep.Files(place / "runs")
        self._silence = SILENCE
        self._heard = time.monotonic()
        self._listening = True
        self._done = False
        self._lasting = False
        self._when_left: dict[str, dict[str, Any]] = {}  # arguments by the verb

    def serve(self, before: bytes) -> None:
        """Returns when the controller is gone or done and every verb has ended."""
        self._selector.register(self._source, selectors.EVENT_READ)
        self._take(before)
        while self._listening:
            self._turn()
        waits = bool(self._running)
        self._be_left()
        if waits:
            self._be_left()
        if self._done:
            self._files.forget()
        self._files.close()
        os.close(self._sink)

    def _turn(self) -> None:
        """Wait for the next thing that somebody says, and see to it."""
        ready = self._selector.select(self._patience())
        if not ready and self._listening and time.monotonic() - self._heard >= self._silence:
            self._hang_up()
        for key, _ in ready:
            if key.fd == self._source:
                self._read()
            else:
                self._relay(key.fd)

    def _be_left(self) -> None:
        """Do what is to be done without a controller, and wait until every verb has ended."""
        if self._lasting and not self._done:
            for verb, arguments in self._when_left.items():
                with suppress(OSError):  # a host that cannot start it frees what was held a little later
                    self._start(None, verb, arguments)
        while self._running:
            self._turn()

    def _patience(self) -> Optional[float]:
        """Seconds to wait for something to read; None is for ever."""
        return max(0.0, self._heard + self._silence - time.monotonic()) if self._listening else None

    def _hang_up(self) -> None:
        if self._listening:
            self._listening = False
            self._selector.unregister(self._source)

    def _read(self) -> None:
        if not self._listening:
            return
        try:
            data = os.read(self._source, CHUNK)
        except OSError:  # a terminal whose other side is gone
            data = b""
        if not data:
            self._hang_up()
            return
        self._heard = time.monotonic()
        self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            for header, blob in self._decoder.feed(data):
                self._answer(header, blob)
        except Broken:
            self._hang_up()

    def _say(self, header: Header, blob: bytes = b"") -> None:
        """Nobody may listen any more; that is no reason to leave work half done."""
        data = memoryview(encode(header, blob))
        try:
            while data:
                data = data[os.write(self._sink, data) :]
        except OSError:
            self._hang_up()

    def _answer(self, header: Header, blob: bytes) -> None:
        request, verb = header.get("id"), str(header.get("verb", ""))
        arguments = header.get("arguments") or {}
        try:
            if verb == "ping":
                self._say({"id": request, "result": {}})
            elif verb == "open":
                self._open(arguments)
                self._say({"id": request, "result": {}})
            elif verb == "write":
                self._say({"id": request, "result": self._files.write(arguments["file"], arguments["at"], blob)})
            elif verb == "read":
                result, data = keep.read(Path(arguments["file"]), arguments["at"], arguments["size"])
                self._say({"id": request, "result": result}, data)
            elif verb == "done":
                self._done = True
                self._hang_up()
            else:
                self._start(request, verb, arguments)
        except OSError as error:
            self._say({"id": request, **failure(str(error))})

    def _open(self, arguments: dict[str, Any]) -> None:
        """Take what holds for the whole channel: the run's name, the environment of its tasks, its patience.

        A lasting one ends when its controller does; another is there for one request.
        """
        os.environ.update(arguments.get("environment") or {})
        self._silence = float(arguments.get("silence") or SILENCE)
        self._lasting = bool(arguments.get("lasting"))
        self._files.open(arguments["run"])

    def _start(self, request: Any, verb: str, arguments: dict[str, Any]) -> None:
        try:
            work = verbs.find(verb)
        except SlipwayError as error:
            self._say({"id": request, **failure(str(error))})
            return
        if verb in verbs.WHEN_LEFT:
            self._when_left[verbs.WHEN_LEFT[verb]] = arguments
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            # What holds the channel open would keep the controller from seeing that the agent is gone.
            for descriptor in (self._source, self._sink, reading, *self._running):
                os.close(descriptor)
            _work(work, request, arguments, writing)
        os.close(writing)
        self._running[reading] = Running(request, process)
        self._selector.register(reading, selectors.EVENT_READ)

    def _relay(self, descriptor: int) -> None:
        """Pass on what a verb says."""
        running = self._running[descriptor]
        data = os.read(descriptor, CHUNK)
        try:
            for header, _ in running.decoder.feed(data):
                running.answered = running.answered or "event" not in header
                self._say(header)
        except Broken as error:
            running.answered = True
            self._say({"id": running.request, **failure(str(error))})
            data = b""
        if data:
            return
        self._selector.unregister(descriptor)
        os.close(descriptor)
        del self._running[descriptor]
        _, status = os.waitpid(running.process, 0)
        if not running.answered:
            how = f"signal {status & 0x7F}" if status & 0x7F else f"exit code {status >> 8}"
            said = failure(f"the process that did it ended without an answer ({how})")
            self._say({"id": running.request, **said})


def _work(work: verbs.Verb, request: Any, arguments: dict[str, Any], writing: int) -> None:
    """Run a verb in this forked process, and end it."""

    def send(header: Header) -> None:
        """As an event, or the answer. The agent may be gone; what is done is done all the same."""
        data = memoryview(encode({"id": request, **header}))
        with suppress(OSError):
            while data:
                data = data[os.write(writing, data) :]

    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        send({"result": work(arguments, lambda event: send({"event": event}))})
    except SlipwayError as error:
        send(failure(str(error), error.kind, error.details))
    except BaseException as error:  # noqa: BLE001 - the process ends here, and the controller shall hear why
        text = f"{type(error).__name__}: {error}"
        send(failure(text, details={"traceback": traceback.format_exc()}))
    finally:
        os._exit(0)


def settle_in() -> tuple[int, int]:
    """Make this process a quiet one, whatever shell it came from; returns the descriptors of the channel.

    What a program prints to stdout by mistake must not stand between frames, so stdout becomes stderr.
    """
    os.umask(0o077)
    root = pwd.getpwuid(os.geteuid())
    os.environ.clear()
    os.environ.update(
        PATH=SYSTEM_PATH, HOME=root.pw_dir, USER=root.pw_name, LOGNAME=root.pw_name, LANG="C.UTF-8", LC_ALL="C.UTF-8"
    )
    os.chdir("/")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    source, sink = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return source, sink


def main(mark: str, place: str, digest: str, before: bytes) -> None:
    """Serve the channel with this mark. `before` came while the agent itself was still to come."""
    source, sink = settle_in()
    os.write(sink, f"\n{mark} {HELLO} \n".encode())
    agent = Agent(source, sink, Path(place))
    agent.serve(before)
    with suppress(OSError):
        keep.tidy(Path(place), digest)
    sys.exit(0)
