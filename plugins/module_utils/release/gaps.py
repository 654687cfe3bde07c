"""Releases that may not run beside each other: one is stopped before the other one starts, and nobody answers then.

This is the one exception from what the transaction promises otherwise, and one of the two releases asked for it
(`overlap` in keeps.py), as an app does that alone may write to its files. How long nobody answered is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from ..edge.haproxy import NotStored
from .model import other
from .processes import Processes
from .records import UNSEEN
from .switch import POLL

# Seconds that a slot's requests are waited for before it is left to end in its own time, or told to.
SHORTLY = 1.0


class Gaps(Processes):
    """The time in which nobody answers, and what makes it so."""

    def _rival(self, slot: str, release: str) -> Optional[str]:
        """What is in the other slot and may not run beside this release, None where nothing is. Raises RuntimeFailed.

        One that has ended is started again by its runtime, perhaps in the middle of this.
        """
        found = self.runtime.status()[other(slot)]
        if not found.running and found.release is None:
            return None
        name = found.release or ""
        return None if self._overlap(release, name) else name

    def _overlap(self, release: str, beside: str) -> bool:
        """Whether both may run at once; nothing is known of one without a name."""
        return self.store.overlaps(release) and (not beside or self.store.overlaps(beside))

    def _must_make_way(self, slot: str, release: str) -> bool:
        """Whether anything is there that may not run beside this release. Raises RuntimeFailed."""
        return self._rival(slot, release) is not None or bool(self._others(slot, release))

    def _make_way(
        self,
        slot: str,
        release: str,
        breathe: Callable[[], object],
        hurried: bool = False,
        storing: bool = True,
    ) -> None:
        """Stop what may not run beside the release that is to start in `slot`, processes while the slot answers still.

        Where the slot is stopped nobody answers then, until `_answered`. Where nobody did before, processes are killed
        that take long to end (`hurried`). Without `storing` a state of the edge that a reload would forget is a
        warning: a disk that is full keeps nothing from serving again. Raises EdgeError, RuntimeFailed, TransactionError
        where a process does not end, and what `breathe` does, which is called while they do.
        """
        old = other(slot)

        def stop() -> None:
            self._end_others(slot, release, breathe, hurried)
            if self._rival(slot, release) is None:
                return
            if self._silent_since is None and self._runs(old):
                self._silent_since = self.clock.monotonic()
            try:
                self._tell_edge(old, "drain")
            except NotStored as error:
                if storing:
                    raise
                self.warnings.append(str(error))
            deadline = self.clock.monotonic() + min(self.request.drain, SHORTLY)
            while self._sessions(old) and self.clock.monotonic() < deadline:
                self.clock.sleep(POLL)
            self.runtime.stop(old, self.request.stop_grace)

        self._phase("make way", stop)

    def _answered(self) -> None:
        """Somebody answers again."""
        if self._silent_since is not None:
            self._silent += self.clock.monotonic() - self._silent_since
            self._silent_since = None

    def _give_back(self, slot: str, release: str, start: Callable[[str, str], Any]) -> None:
        """Have run again in `slot` what made way, where the other one cannot be started; a failure is a warning."""
        try:
            self.runtime.stop(other(slot), self.request.stop_grace)
            start(slot, release)
            self._only_beside(slot, release)
        except UNSEEN as error:
            self.warnings.append(f"release {release} could not be started again either: {error}")
