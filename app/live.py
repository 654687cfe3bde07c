"""New links, told to whoever listens: one reader of the database for all websockets of a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from app.models import Link

_log = logging.getLogger(__name__)
_EVERY = 1.0  # seconds
_NEWEST = 50
_BACKLOG = 100


class Live:
    """Listeners of one worker. Nothing is read while nobody listens."""

    def __init__(self, newest: Callable[[int], Awaitable[Sequence[Link]]]) -> None:
        self._newest = newest
        self._listeners: set[asyncio.Queue[Link]] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def listen(self) -> Iterator[asyncio.Queue[Link]]:
        """A queue that gets every link made from now on."""
        queue: asyncio.Queue[Link] = asyncio.Queue(_BACKLOG)
        self._listeners.add(queue)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield queue
        finally:
            self._listeners.discard(queue)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()

    async def _run(self) -> None:
        """Tell what was not there a second ago. Ids alone would not do: a smaller one may be committed later."""
        known: set[int] | None = None
        while self._listeners:
            try:
                newest = await self._newest(_NEWEST)
            except Exception as error:  # noqa: BLE001 - whatever it was, listeners wait for the next try
                _log.warning("the database cannot be read, listeners wait", extra={"error": repr(error)})
            else:
                for link in reversed(newest):
                    if known is not None and link.id not in known:
                        self._tell(link)
                known = {link.id for link in newest}
            await asyncio.sleep(_EVERY)

    def _tell(self, link: Link) -> None:
        for queue in self._listeners:
            if not queue.full():  # a listener that does not read misses some, the others do not wait for it
                queue.put_nowait(link)
