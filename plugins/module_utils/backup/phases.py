"""What a drill did one after the other, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# In their order, as records and reports name them.
FIND, FETCH, FILES, SERVER, FILL, ROWS = "find", "fetch", "files", "server", "fill", "rows"
RELEASE, TIDY = "release", "tidy"


class Phases:
    """Seconds by phase; one that comes again is added to."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def told(self) -> list[dict[str, Any]]:
        """Those that were begun, in their order; the last one is that in which it failed, if it did."""
        return [{"phase": name, "seconds": round(seconds, 1)} for name, seconds in self._seconds.items()]
