"""Whether this process may get requests."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.migrations import HEAD

# Shorter than the edge waits for a check: a database that hangs is an answer too.
_TIMEOUT = 2.0
_NO_SUCH_TABLE = "42P01"


class Stopping:
    """True as soon as it is known that this process will stop."""

    def __init__(self) -> None:
        self._announced = False
        self._begun = asyncio.Event()

    def __bool__(self) -> bool:
        return self._announced

    async def begun(self) -> None:
        """Return when the stop has begun: what would go on for ever has to end now."""
        await self._begun.wait()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Take notice of signals; to be used on the running event loop, when the server has its handlers.

        SIGURG is how gunicorn_conf.py tells that SIGTERM will follow (it is ignored by processes that do not know).
        SIGTERM keeps the server's handling, whichever server it is. Uvicorn's handler is called from here. An event
        loop's handler is called by the loop itself, because the signal is written to the loop's wake-up descriptor
        whatever the handler on Python's level is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGURG, self._announce)
        previous: Any = signal.getsignal(signal.SIGTERM)
        follow: Callable[[int, FrameType | None], Any] | None = previous if callable(previous) else None

        def begin(number: int, frame: FrameType | None) -> None:
            self._announce()
            loop.call_soon_threadsafe(self._begun.set)
            if follow is not None:
                follow(number, frame)

        signal.signal(signal.SIGTERM, begin)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, previous)
            loop.remove_signal_handler(signal.SIGURG)

    def _announce(self) -> None:
        self._announced = True


async def problems(engine: AsyncEngine) -> dict[str, str]:
    """What keeps this process from serving, by part: empty when nothing does."""
    try:
        async with asyncio.timeout(_TIMEOUT), engine.connect() as connection:
            version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    except TimeoutError:
        return {"database": f"no answer within {_TIMEOUT:.0f} s"}
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _NO_SUCH_TABLE:
            return {"migrations": f"none applied, {HEAD} is needed; run alembic upgrade head"}
        return {"database": _first_line(error.orig or error)}
    except Exception as error:  # noqa: BLE001 - the driver's errors while it connects have no common class
        return {"database": _first_line(error)}
    # A newer schema is fine: during a release the old code runs on it.
    if version is None or version < HEAD:
        return {"migrations": f"the database is at {version}, {HEAD} is needed; run alembic upgrade head"}
    return {}


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
