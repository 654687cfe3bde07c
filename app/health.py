"""Whether this process may get requests."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.migrations import HEAD


class Stopping:
    """True from SIGTERM on. The server's own handling of the signal follows right after."""

    def __init__(self) -> None:
        self._stopping = False

    def __bool__(self) -> bool:
        return self._stopping

    def watch(self) -> None:
        """Put a handler before the server's, whichever server it is.

        Uvicorn's handler is called from here. An event loop's handler is called by the loop itself, because the signal
        is written to the loop's wake-up descriptor whatever the handler on Python's level is.
        """
        previous: Any = signal.getsignal(signal.SIGTERM)
        follow: Callable[[int, FrameType | None], Any] | None = previous if callable(previous) else None

        def announce(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            if follow is not None:
                follow(number, frame)

        signal.signal(signal.SIGTERM, announce)


async def problems(engine: AsyncEngine) -> dict[str, str]:
    """What keeps this process from serving, by part: empty when nothing does."""
    try:
        async with engine.connect() as connection:
            found = await connection.execute(text("SELECT to_regclass('alembic_version')"))
            if found.scalar() is None:
                return {"migrations": f"none applied, {HEAD} is needed; run python -m app.migrate"}
            version = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0][:200]
        return {"database": reason or type(error).__name__}
    # A newer schema is fine: during a release the old code runs on it.
    if version is None or version < HEAD:
        return {"migrations": f"the database is at {version}, {HEAD} is needed; run python -m app.migrate"}
    return {}
