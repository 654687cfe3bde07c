"""One look at a host: what runs, what answers, what the edge has enabled. From that it is told which slot serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from ..edge.haproxy import Server
from .model import SLOTS, SlotStatus


@dataclass(frozen=True)
class Sight:
    """Both slots by the runtime and by the edge, at one moment."""

    slots: Mapping[str, SlotStatus]
    servers: Mapping[str, Server]

    def runs(self, slot: str) -> bool:
        return self.slots[slot].running

    def gets_requests(self, slot: str) -> bool:
        """It runs, and the edge sends requests to it, well or not."""
        return self.runs(slot) and self.servers[slot].enabled

    def serves(self, slot: str) -> bool:
        """It runs, the edge sends requests to it, and the edge's own check of it passes."""
        return self.gets_requests(slot) and self.servers[slot].answers

    def live(self, hint: Optional[str] = None) -> Optional[str]:
        """The slot that must not be touched: the one that serves, else the one that most nearly does; None for neither.

        Where both do (a transaction died in its switch) `hint`, the slot that is recorded, decides.
        """
        for fits in (self.serves, self.gets_requests, self.runs):
            if found := [slot for slot in SLOTS if fits(slot)]:
                return hint if hint in found else found[0]
        return None

    def serving(self, hint: Optional[str] = None) -> Optional[str]:
        """The release that gets requests, None where none does."""
        live = self.live(hint)
        return self.slots[live].release if live and self.gets_requests(live) else None
