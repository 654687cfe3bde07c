"""Counts hits in memory and writes them in batches, so that a redirect costs no write."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

_log = logging.getLogger(__name__)


class HitCounter:
    """Hits of one worker since the last flush. A flush that fails keeps them for the next one."""

    def __init__(self, write: Callable[[Mapping[str, int]], Awaitable[None]], interval: float) -> None:
        self._write = write
        self._interval = interval
        self._pending: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    def hit(self, slug: str) -> None:
        self._pending[slug] += 1

    def pending(self, slug: str) -> int:
        """Hits of `slug` that are not in the database yet."""
        return self._pending[slug]

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop the timer and write what is left."""
        if self._task:
            self._task.cancel()
        await self.flush()

    async def flush(self) -> None:
        taken, self._pending = self._pending, Counter()
        if not taken:
            return
        try:
            await self._write(taken)
        except Exception:  # noqa: BLE001 - whatever it was, the hits must not be lost
            self._pending.update(taken)
            _log.exception("hits not written, kept for the next try", extra={"links": len(taken)})

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.flush()
