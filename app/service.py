"""All that requests need, made once for a worker."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.cache import Cache
from app.health import Stopping
from app.hits import HitCounter
from app.links import Links
from app.live import Live
from app.settings import Settings

# Seconds: until a connection stands, until a statement has its answer, until a connection of the pool is free.
_CONNECT, _ANSWER, _FREE = 10, 20, 10
# Requests of one worker that may wait only because they were asked to.
_WAITING = 20


class Service:
    """Settings, database, cache, and what a worker remembers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = _engine(settings, settings.database_pool_size, 5)
        # Whether this process is well is asked on a connection that its clients cannot take.
        self.looking = _engine(settings, 1, 0)
        self.links = Links(self.engine)
        self.cache = Cache(settings)
        self.hits = HitCounter(self.links.add_hits, settings.hits_flush_interval)
        self.live = Live(self.links.latest)
        self.stopping = Stopping()
        self.waiting = asyncio.Semaphore(_WAITING)

    def token(self, slug: str) -> str:
        """What proves that a link is one's own: a signature of its slug."""
        key = self.settings.secret_key.get_secret_value().encode()
        return hmac.new(key, slug.encode(), hashlib.sha256).hexdigest()

    async def close(self) -> None:
        await self.live.close()
        await self.hits.close()
        await self.cache.close()
        await self.engine.dispose()
        await self.looking.dispose()


def _engine(settings: Settings, size: int, more: int) -> AsyncEngine:
    """The database, over at most `size` connections that stay and `more` others."""
    return create_async_engine(
        settings.database(),
        connect_args={
            "timeout": _CONNECT,
            "command_timeout": _ANSWER,
            "server_settings": {"application_name": f"{settings.release_app} {settings.release_slot}".strip()},
        },
        pool_size=size,
        max_overflow=more,
        pool_pre_ping=True,
        pool_timeout=_FREE,
    )


def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


Use = Annotated[Service, Depends(_service)]
