"""`python -m app.migrate` brings the database to this release's schema; `--plan` tells what that would do.

Prints one line of JSON. Any number of these may run at the same time: one migrates, the others wait and find nothing
to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.settings import SettingsError, load_settings

# Any number that no other user of the database takes: "slipway" as hexadecimal digits of its first letters.
_LOCK = 0x736C6970
# How long DDL may wait for a table before it lets the waiting requests go first, and how often it tries again.
_LOCK_TIMEOUT = "500ms"
_TRIES = 20
_LOCK_NOT_AVAILABLE = "55P03"


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config


def pending(connection: Connection, config: Config) -> tuple[str | None, list[str]]:
    """The revision that the database is at, and those that it lacks, oldest first."""
    current = MigrationContext.configure(connection).get_current_revision()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    if current is not None and current not in known:
        return current, []  # a later release was here; its additive schema is fine for this one
    steps = script.iterate_revisions("heads", current or "base")
    return current, [step.revision for step in steps][::-1]


def upgrade(connection: Connection, config: Config) -> None:
    connection.execute(text(f"SET lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.commit()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()


async def migrate(plan_only: bool) -> dict[str, Any]:
    """Apply what is pending and say what was done. Raises SettingsError and SQLAlchemy's errors."""
    engine = create_async_engine(load_settings().database(), poolclass=NullPool)
    config = configuration()
    try:
        # The lock has a connection of its own, so that nothing a migration does (a commit, an error) gives it back,
        # and it is a session's lock, so that it goes with a process that is killed.
        async with engine.connect() as guard, engine.connect() as worker:
            if not plan_only:
                await guard.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
                await guard.commit()
            current, steps = await worker.run_sync(pending, config)
            await worker.rollback()
            if plan_only:
                return {"from": current, "pending": steps}
            if steps:
                await _apply(worker, config)
            return {"from": current, "to": steps[-1] if steps else current, "applied": steps}
    finally:
        await engine.dispose()


async def _apply(worker: Any, config: Config) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            await worker.run_sync(upgrade, config)
        except DBAPIError as error:
            await worker.rollback()
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE or attempt == _TRIES:
                raise
            await asyncio.sleep(0.1 * attempt)
        else:
            return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m app.migrate", description=__doc__)
    parser.add_argument("--plan", action="store_true", help="tell what is pending and change nothing")
    arguments = parser.parse_args()
    try:
        result = asyncio.run(migrate(arguments.plan))
    except SettingsError as error:
        print(f"SettingsError: {error}", file=sys.stderr)
        return 1
    except (OSError, asyncpg.PostgresError) as error:  # while connecting the driver raises its own
        print(f"the database does not answer, nothing was migrated: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"migration": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
