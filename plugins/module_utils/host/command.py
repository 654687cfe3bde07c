"""One way to run a program: bounded output, a limit in time, a typed result; no input but a file's."""

from __future__ import annotations

import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Optional

from .errors import SlipwayError

# Bytes of each stream that are kept, the last ones: what a program says at its end explains it.
OUTPUT_LIMIT = 4 << 20
# For what is read from its beginning.
WHOLE = 256 << 20
TIMED_OUT = 124
# Why a program was killed.
LATE, STUCK = "late", "stuck"
# How often it is looked whether one does something, in the time for which it may do nothing.
LOOKS = 20
# Seconds that output is still read after the program has ended, for one whose child keeps the pipe.
LEFT_OPEN = 1.0
# Seconds after which a program is looked at that says nothing.
LOOK = 0.2


class CommandError(SlipwayError):
    """A program could not be started; the text names it."""


@dataclass(frozen=True)
class Ran:
    """How a program ended; `returncode` is 124 where it was killed, at its limit or since it was stuck."""

    command: tuple[str, ...]
    returncode: int
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False
    stuck: bool = False

    @property
    def said(self) -> str:
        """Why it failed, in its own words where it has some."""
        return (self.stderr.strip() or self.stdout.strip() or f"exit code {self.returncode}").strip()


def run(
    command: Sequence[str],
    timeout: float,
    environment: Optional[Mapping[str, str]] = None,
    merge: bool = False,
    limit: int = OUTPUT_LIMIT,
    source: Optional[IO[bytes]] = None,
    target: Optional[IO[bytes]] = None,
    cwd: Optional[str] = None,
    stuck: float = math.inf,
) -> Ran:
    """Run a program to its end, or kill it with its children after `timeout` seconds.

    Args:
        command: the program with its arguments; no shell is involved
        timeout: seconds
        environment: all of its variables; without one those of this process
        merge: have its errors in `stdout`, in the order in which it wrote
        limit: bytes of each stream that are kept, from the end; where there were more dots go before them
        source: an open file that is its input; without one it has none
        target: an open file that gets all of its output, of which none is kept then
        cwd: directory that is its own; without one that of this process
        stuck: seconds; one that has not had the processor for so long, nor its children, is killed, too

    Raises CommandError when it cannot be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=source or subprocess.DEVNULL,
            stdout=target or subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CommandError(f"there is no `{command[0]}` on this host; run slipway.fleet.provision") from None
    except OSError as error:
        raise CommandError(f"`{command[0]}` cannot be started here: {error.strerror}") from error
    streams = [stream for stream in (process.stdout, process.stderr) if stream]
    try:
        kept, late = _read(process, streams, _Watch(process.pid, time.monotonic() + timeout, stuck), limit)
    finally:
        _kill(process)
        for stream in streams:
            stream.close()
    stdout, stderr = [*([b""] if target else []), *kept, b""][:2]
    if late:
        ended = f"did nothing for {stuck:.0f} s" if late == STUCK else f"did not end within {timeout:.0f} s"
        stderr += f"\n`{' '.join(command[:3])}` {ended}".encode()
    return Ran(
        tuple(command),
        TIMED_OUT if late else process.returncode,
        stdout.decode(errors="replace"),
        stderr.decode(errors="replace"),
        late == LATE,
        late == STUCK,
    )


class _Watch:
    """Until when a program may run (on the monotonic clock), and for how long it may do nothing."""

    def __init__(self, pid: int, deadline: float, stuck: float) -> None:
        self.deadline = deadline
        self._pid, self._stuck = pid, stuck
        self._moved = self._looked = time.monotonic()
        self._ticks = 0

    def late(self, now: float) -> str:
        """LATE or STUCK, where it is to end."""
        if now >= self.deadline:
            return LATE
        if now - self._looked > self._stuck / LOOKS:
            self._looked, ticks = now, ticks_of(self._pid)
            if ticks != self._ticks:
                self._ticks, self._moved = ticks, now
        return STUCK if now - self._moved > self._stuck else ""


def ticks_of(session: int) -> int:
    """For how long all processes of a session have had a processor, in ticks of the clock (proc(5), stat)."""
    found = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            of = file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(of[3]) == session:
                found += int(of[11]) + int(of[12])
    return found


def _read(
    process: subprocess.Popen[bytes], streams: list[IO[bytes]], watch: _Watch, limit: int
) -> tuple[list[bytes], str]:
    """The ends of the streams, and why the program is to be killed: LATE, STUCK, or not at all."""
    kept = [bytearray() for _ in streams]
    ended = None
    late = ""
    with selectors.DefaultSelector() as selector:
        for number, stream in enumerate(streams):
            selector.register(stream, selectors.EVENT_READ, number)
        while not late:
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if ended is not None and (not selector.get_map() or now - ended > LEFT_OPEN):
                break
            late = watch.late(now) if ended is None else ""
            wait = max(min(LOOK, watch.deadline - now), 0.0)
            if not selector.get_map():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(wait)
                continue
            for key, _ in selector.select(wait):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                buffer = kept[key.data]
                buffer += chunk
                if len(buffer) > 2 * limit:
                    del buffer[: -limit - 1]  # one more, by which it is longer
    return [_end(buffer, limit) for buffer in kept], late


def _end(buffer: bytearray, limit: int) -> bytes:
    """Dots say that more was there: what follows them may be half a secret (host/shown.py)."""
    return bytes(buffer) if len(buffer) <= limit else "\u2026".encode() + bytes(buffer[-limit:])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, its children included, which a kill of the program alone would leave."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
