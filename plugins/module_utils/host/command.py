"""One way to run a program: bounded output, a limit in time, a typed result; no input but a file's."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Optional

from .errors import SlipwayError

# Bytes of each stream that are kept, the last ones: what a program says at its end explains it.
OUTPUT_LIMIT = 4 << 20
# For what is read from its beginning.
WHOLE = 256 << 20
TIMED_OUT = 124
# Seconds that output is still read after the program has ended, for one whose child keeps the pipe.
LEFT_OPEN = 1.0


class CommandError(SlipwayError):
    """A program could not be started; the text names it."""


@dataclass(frozen=True)
class Ran:
    """How a program ended; `returncode` is 124 where it was killed at its limit."""

    command: tuple[str, ...]
    returncode: int
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False

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
        raise CommandError(f"there is no `{command[0]}` on this host; run the provision playbook") from None
    except OSError as error:
        raise CommandError(f"`{command[0]}` cannot be started here: {error.strerror}") from error
    streams = [stream for stream in (process.stdout, process.stderr) if stream]
    try:
        kept, in_time = _read(process, streams, time.monotonic() + timeout, limit)
    finally:
        _kill(process)
        for stream in streams:
            stream.close()
    stdout, stderr = [*([b""] if target else []), *kept, b""][:2]
    if not in_time:
        words = f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s"
        stderr += f"\n{words}".encode()
    return Ran(
        tuple(command),
        process.returncode if in_time else TIMED_OUT,
        stdout.decode(errors="replace"),
        stderr.decode(errors="replace"),
        not in_time,
    )


def _read(
    process: subprocess.Popen[bytes], streams: list[IO[bytes]], deadline: float, limit: int
) -> tuple[list[bytes], bool]:
    """The ends of the streams, and whether the program ended before the deadline (on the monotonic clock)."""
    kept = [bytearray() for _ in streams]
    ended = None
    with selectors.DefaultSelector() as selector:
        for number, stream in enumerate(streams):
            selector.register(stream, selectors.EVENT_READ, number)
        while selector.get_map():
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if now >= deadline or (ended is not None and now - ended > LEFT_OPEN):
                break
            for key, _ in selector.select(min(0.2, deadline - now)):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fileobj)
                    continue
                buffer = kept[key.data]
                buffer += chunk
                if len(buffer) > 2 * limit:
                    del buffer[: -limit - 1]  # one more, by which it is longer
    try:
        process.wait(max(deadline - time.monotonic(), 0.05))
    except subprocess.TimeoutExpired:
        return [_end(buffer, limit) for buffer in kept], False
    return [_end(buffer, limit) for buffer in kept], True


def _end(buffer: bytearray, limit: int) -> bytes:
    """Dots say that more was there: what follows them may be half a secret (host/shown.py)."""
    return bytes(buffer) if len(buffer) <= limit else "\u2026".encode() + bytes(buffer[-limit:])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what still runs, its children included, which a kill of the program alone would leave."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
