"""Redis before the database. When Redis is away the service goes on, slower."""

from __future__ import annotations

import logging
import time

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.settings import Settings

_log = logging.getLogger(__name__)
# Seconds: how long Redis may take, how long it is left alone after a failure, how long a target is kept. The last is
# also how long a link that was deleted while Redis was away may still redirect.
_TIMEOUT = 0.25
_PAUSE = 5.0
_KEEP = 300


class Cache:
    """Targets of links by slug. No method ever raises because of Redis."""

    def __init__(self, settings: Settings) -> None:
        password = settings.redis_password
        self._redis = (
            Redis.from_url(
                settings.redis_url,
                password=password.get_secret_value() if password else None,
                decode_responses=True,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
            )
            if settings.redis_url
            else None
        )
        self._away_until = 0.0

    @property
    def state(self) -> str:
        """`ok`, `unavailable`, or `off` when no Redis is configured."""
        if self._redis is None:
            return "off"
        return "unavailable" if self._away() else "ok"

    async def check(self) -> str:
        """The state after asking Redis."""
        if self._redis is not None and not self._away():
            try:
                await self._redis.ping()
            except (RedisError, OSError, TimeoutError) as error:
                self._gone(error)
        return self.state

    async def get(self, slug: str) -> str | None:
        if self._redis is None or self._away():
            return None
        try:
            value = await self._redis.get(f"link:{slug}")
        except (RedisError, OSError, TimeoutError) as error:
            self._gone(error)
            return None
        return str(value) if value is not None else None

    async def put(self, slug: str, url: str) -> None:
        if self._redis is None or self._away():
            return
        try:
            await self._redis.set(f"link:{slug}", url, ex=_KEEP)
        except (RedisError, OSError, TimeoutError) as error:
            self._gone(error)

    async def forget(self, slug: str) -> None:
        """Remove a target; tried even when Redis was away a moment ago."""
        if self._redis is None:
            return
        try:
            await self._redis.delete(f"link:{slug}")
        except (RedisError, OSError, TimeoutError) as error:
            self._gone(error)

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    def _away(self) -> bool:
        return time.monotonic() < self._away_until

    def _gone(self, error: Exception) -> None:
        self._away_until = time.monotonic() + _PAUSE
        _log.warning("cache unavailable, reading the database", extra={"error": str(error)})
