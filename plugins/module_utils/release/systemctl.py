"""How units of systemd are asked and read, whether they are slots, processes or timers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..host import command as program
from ..host.command import Ran
from .runtime import RuntimeFailed

# A command and its limit in seconds.
Execute = Callable[[list[str], float], Ran]


def execute(words: list[str], timeout: float) -> Ran:
    """Run a command. Raises RuntimeFailed where it cannot be."""
    try:
        return program.run(words, timeout)
    except program.CommandError as error:
        raise RuntimeFailed(str(error)) from error


def text_of(path: Path) -> str:
    """The text of a file; empty where there is none, or it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
