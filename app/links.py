"""What can be done with links, in the database."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import AsyncIterator, Mapping

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from app.models import Link

_ALPHABET = string.ascii_letters + string.digits
_SLUG_LENGTH = 7
_PIECE = 500  # links of an export that are read at once
_SLUG = re.compile("[A-Za-z0-9]{1,16}")


class KeyReusedError(Exception):
    """An idempotency key came a second time, with another URL."""


class Links:
    """Reads and writes links."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine, expire_on_commit=False)

    async def create(self, url: str, key: str | None) -> tuple[Link, bool]:
        """Store `url` under a new slug; with a `key` seen before, the link made then and False.

        Raises KeyReusedError when the key belongs to another URL.
        """
        async with self._sessions.begin() as session:
            while True:
                slug = "".join(secrets.choice(_ALPHABET) for _ in range(_SLUG_LENGTH))
                statement = insert(Link).values(slug=slug, url=url, idempotency_key=key)
                created = await session.scalar(statement.on_conflict_do_nothing().returning(Link))
                if created is not None:
                    return created, True
                known = await session.scalar(select(Link).where(Link.idempotency_key == key)) if key else None
                if known is not None:
                    if known.url != url:
                        raise KeyReusedError
                    return known, False

    async def find(self, slug: str) -> Link | None:
        if not _SLUG.fullmatch(slug):
            return None
        async with self._sessions() as session:
            return await session.scalar(select(Link).where(Link.slug == slug))

    async def delete(self, slug: str) -> None:
        async with self._sessions.begin() as session:
            await session.execute(delete(Link).where(Link.slug == slug))

    async def latest(self, count: int) -> list[Link]:
        async with self._sessions() as session:
            return list(await session.scalars(select(Link).order_by(Link.id.desc()).limit(count)))

    async def export(self) -> AsyncIterator[Link]:
        """All links, newest first, in pieces: who reads slowly holds no connection of the pool meanwhile."""
        piece = select(Link).order_by(Link.id.desc()).limit(_PIECE)
        statement = piece
        while True:
            async with self._sessions() as session:
                links = list(await session.scalars(statement))
            for link in links:
                yield link
            if len(links) < _PIECE:
                return
            statement = piece.where(Link.id < links[-1].id)

    async def add_hits(self, hits: Mapping[str, int]) -> None:
        """Add counted hits; in the order of slugs, so that two workers never wait for each other in a circle."""
        statement = (
            update(Link)
            .where(Link.slug == bindparam("the_slug"))
            .values(hits=Link.hits + bindparam("count"))
            .execution_options(synchronize_session=False)
        )
        async with self._sessions.begin() as session:
            connection = await session.connection()
            await connection.execute(
                statement, [{"the_slug": slug, "count": count} for slug, count in sorted(hits.items())]
            )
