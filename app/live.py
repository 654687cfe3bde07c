"""New links, told to whoever listens: one reader of the database for all websockets of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from app.models import Link

_log = logging.getLogger(__name__)
_EVERY = 1.0
_BACKLOG = 100


class Live:
    """Listeners of one worker. Nothing is read while nobody listens."""

    def __init__(
        self,
        newest: Callable[[int], Awaitable[Sequence[Link]]],
        after: Callable[[int], Awaitable[Sequence[Link]]],
    ) -> None:
        self._newest = newest
        self._after = after
        self._listeners: set[asyncio.Queue[Link]] = set()
        self._task: asyncio.Task[None] | None = None

    def join(self) -> asyncio.Queue[Link]:
        queue: asyncio.Queue[Link] = asyncio.Queue(_BACKLOG)
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        return queue

    def leave(self, queue: asyncio.Queue[Link]) -> None:
        self._listeners.discard(queue)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        last: int | None = None
        while self._listeners:
            try:
                if last is None:
                    last = max((link.id for link in await self._newest(1)), default=0)
                for link in await self._after(last):
                    last = link.id
                    self._tell(link)
            except Exception:  # noqa: BLE001 - whatever it was, listeners wait for the next try
                _log.warning("the database cannot be read, listeners wait", exc_info=True)
            await asyncio.sleep(_EVERY)

    def _tell(self, link: Link) -> None:
        for queue in self._listeners:
            if not queue.full():  # a listener that does not read misses some, the others do not wait for it
                queue.put_nowait(link)
