"""What the release transaction needs of others, beside a runtime: edge, lease of its run, judge, contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional, Protocol

from ..edge.haproxy import Server
from .canary import Verdict
from .contract import Kept

# Compares what the new slot answered in the seconds since the switch with what the old one answered before. Raises
# nothing: what cannot be told is unknown.
Judge = Callable[[str, str, float], Verdict]
# What a release in a slot breaks of the API of the earlier one, None for none. Raises nothing.
Comparer = Callable[[str, str, Optional[str]], Kept]


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


class Hold(Protocol):
    """The lease of the run that wants this."""

    def lost(self) -> str:
        """Why the run may not change the app any more; empty while it may. Renews the lease. May raise OSError."""


class Unheld:
    """For who needs no lease: a module in a user's own playbook."""

    def lost(self) -> str:
        return ""
