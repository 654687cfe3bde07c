"""Running other programs."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_TAIL_LINES = 15


class LabError(Exception):
    """Something a person has to act on: the message says what is wrong, where, and what to do next."""


class CommandError(LabError):
    """A program that ended with an error."""

    def __init__(self, argv: Sequence[str], status: int, output: str) -> None:
        self.status = status
        self.output = output.strip()
        super().__init__(f"`{' '.join(argv)}` failed with status {status}:\n{tail(self.output)}")


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """Return the last lines, each indented, for a message."""
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


def run(*argv: str, stdin: str | None = None, timeout: float | None = None) -> str:
    """Run a program and return what it wrote to standard output.

    Args:
        argv: The program and its arguments.
        stdin: Text for its standard input; none at all when left out.
        timeout: Seconds after which it is killed.

    Raises:
        LabError: It is not installed, or the time was up.
        CommandError: It ended with an error.
    """
    try:
        done = subprocess.run(
            argv, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError:
        raise LabError(f"`{argv[0]}` is not installed, or not on PATH. Install it and run this again.") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(argv)}` gave no answer within {timeout:.0f} s.") from None
    if done.returncode:
        raise CommandError(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout


def run_logged(argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a long program with its output in a file, and show the end of that file when it fails.

    Raises:
        LabError: It is not installed or ended with an error; the message names the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                check=False,
            )
        except FileNotFoundError:
            raise LabError(f"`{argv[0]}` is not installed, or not on PATH. Install it and run this again.") from None
    if done.returncode:
        raise LabError(
            f"`{argv[0]} {argv[1]}` failed with status {done.returncode}. "
            f"The end of {log}:\n{tail(log.read_text(errors='replace'))}"
        )
