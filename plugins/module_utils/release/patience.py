"""When waiting longer for a slot that starts would change nothing."""

from __future__ import annotations

from collections import Counter
from typing import Callable

from .diagnosis import ends_workers, import_errors
from .model import Probe

# Seconds that a slot may answer nothing before it is looked where it listens instead, and between two such looks.
LISTENS_WITHIN = 1.0
# Seconds for which a slot says the same 3xx or 4xx, or its workers have ended with the same import error, before it is
# believed: an app that is slow says nothing or 5xx, or one of those 4xx that ask for patience.
MEANS_IT, BUSY = 10.0, frozenset({408, 425, 429})
# Looks at which the log has the same import error once more.
AGAIN = 4


class Patience:
    """Looks at the answers of one slot from its start on."""

    def __init__(self, now: float, elsewhere: Callable[[Probe], str], log: Callable[[], str]) -> None:
        """`elsewhere` says where the slot listens instead of its own door, `log` what its processes wrote."""
        self._elsewhere, self._log = elsewhere, log
        self._looked, self._strange = now, ""
        self._status, self._since = 0, now
        self._before, self._ending, self._ending_since = "", "", now
        self._more: Counter[str] = Counter()

    def ends(self, answer: Probe, now: float) -> str:
        """Why this answer at `now` (seconds) is the last that is worth asking for; empty where it is not."""
        if not answer.error or answer.status != self._status:
            self._status, self._since = answer.status if answer.error else 0, now
        if 300 <= self._status < 500 and self._status not in BUSY and now - self._since >= MEANS_IT:
            return f"the same for {MEANS_IT:.0f} s: {answer.error}"
        if not answer.error or answer.status or now - self._looked < LISTENS_WITHIN:
            return ""
        self._looked = now
        if ended := self._ended(now):
            return f"{ended}: {answer.error}"
        if not answer.nobody:
            return ""
        before, self._strange = self._strange, self._elsewhere(answer)
        # Twice: a port can come before the socket.
        return f"{before}: {answer.error}" if before and before == self._strange else ""

    def _ended(self, now: float) -> str:
        """The import error with which workers end one after the other, and what they do; empty where they do not.

        A server that starts its workers anew for ever has a door, at which nobody answers.
        """
        log = self._log()
        ending = ends_workers(log)
        if ending != self._ending:
            self._ending, self._ending_since = ending, now
        if ending and now - self._ending_since >= MEANS_IT:
            return f"{ending}, with which its workers end"
        self._more.update(set(import_errors(self._new_of(log))))
        again = next((error for error, looks in self._more.items() if looks >= AGAIN), "")
        return f"{again}, again each time that a worker starts" if again else ""

    def _new_of(self, log: str) -> str:
        """What of a log was not there at the last look; of a long one there are the last lines alone, at each look."""
        if log in ("", self._before):
            return ""
        # The last line may go on.
        before = [hash(line) for line in self._before.splitlines(keepends=True) if line.endswith("\n")]
        self._before, lines = log, log.splitlines(keepends=True)
        now = [hash(line) for line in lines]
        for begin in range(len(before)):
            left = len(before) - begin
            if before[begin:] == now[:left]:
                return "".join(lines[left:])
        return log
