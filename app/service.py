"""All that requests need, made once for a worker."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection
from sqlalchemy.ext.asyncio import create_async_engine

from app.cache import Cache
from app.health import Stopping
from app.hits import HitCounter
from app.links import Links
from app.live import Live
from app.settings import Settings

# Seconds: until a connection stands, until a statement has its answer, until a connection of the pool is free.
_CONNECT, _ANSWER, _FREE = 10, 20, 10


class Service:
    """Settings, database, cache, and what a worker remembers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = create_async_engine(
            settings.database(),
            connect_args={
                "timeout": _CONNECT,
                "command_timeout": _ANSWER,
                "server_settings": {"application_name": f"{settings.release_app} {settings.release_slot}".strip()},
            },
            pool_size=settings.database_pool_size,
            max_overflow=5,
            pool_pre_ping=True,
            pool_timeout=_FREE,
        )
        self.links = Links(self.engine)
        self.cache = Cache(settings)
        self.hits = HitCounter(self.links.add_hits, settings.hits_flush_interval)
        self.live = Live(self.links.latest)
        self.stopping = Stopping()

    def token(self, slug: str) -> str:
        """What proves that a link is one's own: a signature of its slug."""
        key = self.settings.secret_key.get_secret_value().encode()
        return hmac.new(key, slug.encode(), hashlib.sha256).hexdigest()

    async def close(self) -> None:
        await self.live.close()
        await self.hits.close()
        await self.cache.close()
        await self.engine.dispose()


def _service(connection: HTTPConnection) -> Service:
    service: Service = connection.app.state.service
    return service


Use = Annotated[Service, Depends(_service)]
