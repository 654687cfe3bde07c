"""Stops a slot that drains, when its last session has ended or its time is over.

A process of its own that outlives the run. It stops nothing without the lock of the app, and looks there once more: a
transaction that needs the slot sooner has taken it by then.
"""

from __future__ import annotations

from typing import Optional

from .model import Draining, other
from .records import UNSEEN
from .store import DRAINING, ENDING, Busy
from .transaction import Transaction

# Seconds between two looks, and the name of the lock that says that a drainer is at work.
EVERY = 1.0
LOCK = "draining.lock"


class Drainer:
    """One drain on one host. `transaction` is for its place alone; its release may be empty."""

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction

    def run(self) -> Optional[int]:
        """Wait, stop the slot, record how many were cut; returns that, None where nothing drains or another is at it.

        Raises OSError where its lock cannot be had. What the runtime and the edge raise is tried again until it works,
        or until twice the time is over: then it is left to the next transaction.
        """
        try:
            with self.transaction.store.only_one(LOCK, DRAINING, 0.0):
                return self._run()
        except Busy:
            return None

    def _run(self) -> Optional[int]:
        transaction, clock = self.transaction, self.transaction.clock
        found = transaction.draining()
        if found is None:
            return None
        # The clock for people may be set while this waits; it says only how much of the time is left now.
        begin, limit = clock.monotonic(), found.until - found.since
        limit = min(max(found.until - clock.time(), 0.0), limit)
        while transaction.draining() == found:
            spent = clock.monotonic() - begin
            if spent >= 2 * limit + 600:
                return None
            try:
                if spent >= limit or self._ended(found):
                    with transaction.store.lock(ENDING, 0.0):
                        if transaction.draining() == found:
                            return transaction.end_draining()
                        return None
            except UNSEEN:  # Busy included: the transaction decides what becomes of the slot
                pass
            clock.sleep(EVERY)
        return None

    def _ended(self, draining: Draining) -> bool:
        """Nothing is left, and nothing new is sent there: a reload that took the state back is undone.

        With the lock of the app: a transaction may be sending requests there again, since the other slot is not well.
        """
        transaction, slot = self.transaction, draining.slot
        server = transaction.edge.servers()[slot]
        if not server.enabled:
            return server.sessions == 0
        with transaction.store.lock(DRAINING, 0.0):
            if transaction.draining() == draining and transaction.edge.servers()[other(slot)].answers:
                transaction.edge.set_state(slot, "drain", beside=other(slot))
        return False
