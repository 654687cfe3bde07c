"""Hits between two flushes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from app.hits import HitCounter


async def test_what_is_being_written_is_told_until_it_is_there() -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def write(hits: Mapping[str, int]) -> None:
        begun.set()
        await go.wait()

    counter = HitCounter(write, 60)
    counter.hit("a")
    flushing = asyncio.create_task(counter.flush())
    await begun.wait()
    counter.hit("a")
    assert counter.pending("a") == 2
    go.set()
    assert await flushing
    assert counter.pending("a") == 1


async def test_what_cannot_be_written_is_counted_once() -> None:
    async def write(hits: Mapping[str, int]) -> None:
        raise OSError("no database")

    counter = HitCounter(write, 60)
    counter.hit("a")
    assert not await counter.flush()
    assert counter.pending("a") == 1
