"""What the release transaction needs of others, beside a runtime: edge, lease of its run, judge, contract, replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional, Protocol

from ..edge.haproxy import Server
from .canary import Verdict
from .contract import Kept
from .replay import Replayed

# What a release in a slot breaks of the API of the earlier one, None for none. Raises nothing.
Comparer = Callable[[str, str, Optional[str]], Kept]
# What a (slot, release) breaks of what users ask the other one, which serves; raises what its last argument does.
Replayer = Callable[[tuple[str, str], tuple[str, str], Callable[[], None]], Replayed]


class EdgeLike(Protocol):
    """What the edge must be able to tell and to do."""

    def servers(self) -> dict[str, Server]:
        """Both slots as the edge sees them. Raises EdgeError."""

    def set_state(self, slot: str, state: str, beside: str = "") -> None:
        """Set a slot to ready or drain, and store that for a reload; `beside` is the one that gets its requests.

        Raises EdgeError where nothing was set, also where `slot` answers and `beside` does not; NotStored or OSError
        where it is set and a reload would forget it.
        """

    def set_check(self, slot: str, path: str, host: str, proto: str) -> None:
        """Have the edge's own check of a slot ask like this, also after a reload.

        Raises EdgeError, and NotStored or OSError where it is set and a reload would forget it.
        """

    def keep_checks(self) -> None:
        """Have it ask still as it was told, where a reload in between took that back. Raises EdgeError."""


class Judge(Protocol):
    """Compares what the new slot answers after the switch with what the old one answered before. Raises nothing."""

    unknown: str  # what becomes of a release of which that is unknown, see canary.py

    def begin(self) -> None:
        """The switch comes now."""

    def verdict(self, new: str, old: str) -> Verdict:
        """On the new slot until now."""


class Hold(Protocol):
    """The lease of the run that wants this."""

    def lost(self) -> str:
        """Why the run may not change the app any more; empty while it may. Renews the lease. May raise OSError."""


class Unheld:
    """For who needs no lease: a module in a user's own playbook."""

    def lost(self) -> str:
        return ""
