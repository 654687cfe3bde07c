"""Runs a piece of work in a session of its own, so that it outlives a broken connection and a controller that dies.

What it tells on the way and its answer come back as JSON, one a line; who asked may be gone by then.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..host.errors import SlipwayError
from ..host.reading import object_of

Tell = Callable[[dict[str, Any]], None]
Work = Callable[[Tell], dict[str, Any]]


class Lost(SlipwayError):
    """The detached process ended without an answer; the text says where its output is."""


def run_detached(work: Work, log: Path, tell: Tell, after: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """The answer of `work`, run by a forked process that no hang-up reaches; `tell` gets what it tells meanwhile.

    `after` is done by that process once it has answered, and nobody waits for it. What the process prints goes to
    `log`. Raises the SlipwayError that `work` raised, and Lost when it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _leave(lambda: _work_alone(work, writing, log, after))
    os.close(writing)
    answer: dict[str, Any] = {}
    with os.fdopen(reading, encoding="utf-8") as stream:
        for line in stream:
            said = _parsed(line)
            if "event" in said:
                tell(said["event"])
            else:
                answer = said
    os.waitpid(child, 0)
    if "error" in answer:
        error = answer["error"]
        raise SlipwayError(error["message"], error["details"], error["kind"])
    if "result" not in answer:
        raise Lost(f"the detached process ended without an answer; its output is in {log}")
    result: dict[str, Any] = answer["result"]
    return result


def _parsed(line: str) -> dict[str, Any]:
    """One line of the pipe; empty for one that was torn when its writer was killed."""
    try:
        return object_of(line)
    except ValueError:
        return {}


def _leave(begin: Callable[[], None]) -> None:
    """Fork once more and end, so that who asked has no child to wait for; never returns."""
    try:
        if os.fork() == 0:
            begin()
    finally:
        os._exit(0)


def _work_alone(work: Work, writing: int, log: Path, after: Callable[[], object]) -> None:
    """The life of the detached process; its last line on the pipe is the answer. Never returns."""
    code = 1
    try:
        os.setsid()
        # What the process that asked does at a signal (an agent ends its channel) is not for this one.
        for number in (signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        _forget_descriptors(writing, log)
        _answer(work, writing)
        os.close(writing)
        after()
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, what happened goes to its log
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _forget_descriptors(keep: int, log: Path) -> None:
    """Output goes to `log`, and nothing of who asked stays open: a channel of SSH ends when nobody has its pipes."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(output, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))
    highest = os.sysconf("SC_OPEN_MAX")
    os.closerange(3, keep)
    os.closerange(keep + 1, min(highest, 1 << 16) if highest > 0 else 1 << 16)


def _answer(work: Work, writing: int) -> None:
    def say(message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # nobody waits any more; the ledger has how it ended
            os.write(writing, (json.dumps(message) + "\n").encode())

    def tell(event: dict[str, Any]) -> None:
        say({"event": event})

    try:
        message = {"result": work(tell)}
    except SlipwayError as error:
        message = {"error": {"message": str(error), "kind": error.kind, "details": error.details}}
    os.write(1, json.dumps(message).encode() + b"\n")
    say(message)
