"""What every runtime must be able to do with a slot."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Protocol

from ..host.command import Ran
from ..host.errors import SlipwayError
from .beside import Beside
from .model import SlotStatus

# By which file of a staged release its runtime is known.
STAGED_BY = {"compose": "compose.yaml", "systemd": "unit.service"}


class RuntimeFailed(SlipwayError):
    """A command of the runtime failed; the text is what it said."""


class Runtime(Protocol):
    """The verbs of a runtime; all may be called again after a crash. Times in seconds.

    Everything may raise RuntimeFailed, and OSError for a file of its own that cannot be written.
    """

    @property
    def beside(self) -> Beside:
        """What runs beside the slots."""

    def start(self, slot: str, release: str) -> None:
        """Start a staged release in a slot, now and at every boot."""

    def stop(self, slot: str, grace: float) -> None:
        """End what runs in a slot; nothing to do is fine."""

    def retire(self, slot: str) -> None:
        """Let a slot run on, but not come back at a boot."""

    def status(self) -> dict[str, SlotStatus]:
        """Both slots."""

    def logs(self, slot: str, lines: int) -> str:
        """The last lines of a slot."""

    def listening(self, slot: str) -> list[str]:
        """Where a slot's processes listen: `tcp port N`, `socket PATH`."""

    def past_edge(self, slot: str) -> list[str]:
        """Where others than this host reach a slot without its edge: `tcp port N`; a container's network is its own."""

    def there(self, releases: list[str]) -> list[str]:
        """Those of the staged releases whose image or package is on this host."""

    def discard(self, releases: list[str]) -> None:
        """Remove the images or packages that only these releases need."""

    def run(self, release: str, words: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        """Run a one-off command, one of each name at a time, and end it after `timeout` seconds (`Ran.timed_out`).

        With `together` what it prints is one text in `stdout`, its last lines at least, and may be endless.
        """


class Adapter(Runtime, Protocol):
    """One runtime of two, with what has to be known of a release before it is started."""

    def owner(self, release: str) -> Optional[tuple[int, int]]:
        """The user and the group that a release runs as; None where it does not say."""

    def contents(self, release: str, path: str, to: Path) -> None:
        """Put what a release brings in a directory of the app into one of the host."""
