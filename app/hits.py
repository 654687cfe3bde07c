"""Counts hits in memory and writes them in batches, so that a redirect costs no write."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

_log = logging.getLogger(__name__)
# At the end there is no next flush: how often the last one is tried, and the seconds between.
_LAST_TRIES = 3
_LAST_PAUSE = 0.5


class HitCounter:
    """Hits of one worker since the last flush. A flush that fails keeps them for the next one.

    A worker that is killed loses what it counted since then, at most `interval` seconds of hits.
    """

    def __init__(self, write: Callable[[Mapping[str, int]], Awaitable[None]], interval: float) -> None:
        self._write = write
        self._interval = interval
        self._pending: Counter[str] = Counter()
        self._writing: Counter[str] = Counter()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def hit(self, slug: str) -> None:
        self._pending[slug] += 1

    def pending(self, slug: str) -> int:
        """Hits of `slug` that are not known to be in the database yet."""
        return self._pending[slug] + self._writing[slug]

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is left. A write under way is waited for: cancelled, it would be lost or done twice."""
        self._closing.set()
        if self._task:
            await self._task
        for _ in range(_LAST_TRIES):
            if await self.flush():
                return
            await asyncio.sleep(_LAST_PAUSE)
        _log.error("hits lost at the end", extra={"hits": self._pending.total()})

    async def flush(self) -> bool:
        """Write the hits so far; true when none are left to write."""
        taken, self._pending = self._pending, Counter()
        if not taken:
            return True
        self._writing = taken
        try:
            await self._write(taken)
        except Exception as error:  # noqa: BLE001 - whatever it was, the hits must not be lost
            self._pending.update(taken)
            _log.warning("hits not written, kept for the next try", extra={"links": len(taken), "error": repr(error)})
            return False
        finally:
            self._writing = Counter()
        return True

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                await asyncio.wait_for(self._closing.wait(), self._interval)
            except TimeoutError:
                await self.flush()
