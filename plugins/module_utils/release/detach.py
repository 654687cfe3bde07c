"""Runs a piece of work in a session of its own, so that it outlives a broken connection and a controller that dies."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any, Callable


class Lost(Exception):
    """The detached process ended without an answer; the text says how and where its output is."""


def run_detached(work: Callable[[], dict[str, Any]], log: Path) -> dict[str, Any]:
    """The answer of `work`, run by a forked process that no hang-up reaches.

    What the process prints goes to `log`. Raises Lost when it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(work, reading, writing, log)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as stream:
        answer = stream.read()
    _, status = os.waitpid(child, 0)
    if not answer:
        raise Lost(f"the transaction ended without an answer (wait status {status}); its output is in {log}")
    result: dict[str, Any] = json.loads(answer)
    return result


def _child(work: Callable[[], dict[str, Any]], reading: int, writing: int, log: Path) -> None:
    code = 1
    try:
        os.setsid()
        os.close(reading)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        answer = json.dumps(work())
        os.write(1, answer.encode() + b"\n")
        try:
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                stream.write(answer)
        except BrokenPipeError:
            pass  # nobody waits any more; the ledger has it
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends here, what happened goes to its log
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)
