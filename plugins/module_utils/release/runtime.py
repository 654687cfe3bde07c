"""What every runtime must be able to do with a slot."""

from __future__ import annotations

import subprocess
from typing import Protocol

from ..host.errors import SlipwayError
from .model import SlotStatus

# By which file of a staged release its runtime is known.
STAGED_BY = {"compose": "compose.yaml", "systemd": "unit.service"}


class RuntimeFailed(SlipwayError):
    """A command of the runtime failed; the text is what it said."""


class Runtime(Protocol):
    """The verbs of a runtime; all may be called again after a crash. Times in seconds, failures as RuntimeFailed."""

    def start(self, slot: str, release: str) -> None: ...
    def stop(self, slot: str, grace: float) -> None: ...
    def status(self) -> dict[str, SlotStatus]: ...
    def logs(self, slot: str, lines: int) -> str: ...
    def listening(self, slot: str) -> list[str]: ...
    def discard(self, releases: list[str]) -> None: ...
    def run(self, release: str, command: list[str], timeout: float) -> subprocess.CompletedProcess[str]: ...
