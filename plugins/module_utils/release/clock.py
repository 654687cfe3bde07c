"""Time on a host, so that tests need none."""

from __future__ import annotations

import time
from datetime import datetime, timezone


class Clock:
    """The clock of this host."""

    def monotonic(self) -> float:
        """Seconds of no particular beginning; nobody sets this clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def time(self) -> float:
        """Seconds since the epoch; may jump."""
        return time.time()

    def now(self) -> str:
        """The same for people."""
        return datetime.now(timezone.utc).isoformat(timespec="seconds")
