"""`python -m app.migrate` brings the database to this release's schema; `--plan` tells what that would do.

Prints one line of JSON. Any number of these may run at the same time: one migrates, the others wait and find nothing
to do.

While the fleet turns over, the release before this one runs on the schema of this one. So a revision that takes away
what that one may use, or asks of it what it does not know (app/schema_changes.py), is refused, unless
`--allow-destructive` says that no release needs it any more. `--safe-for REVISION` tells, in the release that serves,
whether one of that earlier revision could run on the schema as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.schema_changes import destructive
from app.settings import SettingsError, load_settings

# Any number that no other user of the database takes: "slipway" as hexadecimal digits of its first letters.
_LOCK = 0x736C6970
# How long DDL may wait for a table before it lets the waiting requests go first, and how often it tries again.
_LOCK_TIMEOUT = "500ms"
_TRIES = 20
_LOCK_NOT_AVAILABLE = "55P03"


class DestructiveError(Exception):
    """A revision takes away what another release may use; the text names it, the statement and the mend."""


def written(config: Config, start: str | None, end: str) -> str:
    """The SQL of the revisions after `start` up to `end`, without Alembic's own table.

    A revision that asks the database cannot be written down; what it does is left to its author.
    """
    buffer = io.StringIO()
    plain = configuration()
    plain.output_buffer = buffer
    plain.attributes.update(config.attributes)
    with contextlib.suppress(AttributeError, TypeError):  # a query has no result without a connection
        command.upgrade(plain, f"{start or 'base'}:{end}", sql=True)
    ours = ("alembic_version", "-- Running upgrade")
    return "\n".join(line for line in buffer.getvalue().splitlines() if not any(mark in line for mark in ours))


def taken_away(config: Config, start: str | None, revisions: list[str]) -> dict[str, list[str]]:
    """For each of these revisions, in order from `start`, the destructive statements; without those that have none."""
    found = {}
    for revision in revisions:
        if statements := destructive(written(config, start, revision)):
            found[revision] = statements
        start = revision
    return found


def told(found: dict[str, list[str]]) -> str:
    return "; ".join(f"revision {name}: {', '.join(statements)}" for name, statements in found.items())


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


async def migrate(plan_only: bool = False, allow_destructive: bool = False) -> dict[str, Any]:
    """Apply what is pending and say what was done. Raises SettingsError, DestructiveError and SQLAlchemy's errors."""
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
            # On an empty database there is no release that could miss anything.
            lost = taken_away(config, current, steps) if current else {}
            if plan_only:
                return {"from": current, "pending": steps, "destructive": lost}
            if lost and not allow_destructive:
                raise DestructiveError(
                    f"{told(lost)}. The release that serves may still use that while the fleet turns over, and could "
                    "not be rolled back to. Deploy a release that no longer uses it first, then allow it with "
                    "fastapi_app_allow_destructive: true (--allow-destructive)"
                )
            if steps:
                await _apply(worker, config)
            return {"from": current, "to": steps[-1] if steps else current, "applied": steps}
    finally:
        await engine.dispose()


async def safe_for(revision: str) -> dict[str, Any]:
    """Tell which revisions came after `revision`. Raises DestructiveError when one of them took something away."""
    engine = create_async_engine(load_settings().database(), poolclass=NullPool)
    config = configuration()
    try:
        async with engine.connect() as connection:
            current, _ = await connection.run_sync(pending, config)
    finally:
        await engine.dispose()
    script = ScriptDirectory.from_config(config)
    since = [step.revision for step in script.iterate_revisions(current, revision)][::-1] if current else []
    if lost := taken_away(config, revision, since):
        raise DestructiveError(
            f"the database is at {current}, and since {revision} {told(lost)}. A release of {revision} would miss "
            "that, so it cannot be rolled back to; migrations are never undone. Deploy a release that fits the schema"
        )
    return {"from": revision, "to": current, "since": since}


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
    parser = argparse.ArgumentParser(prog="python -m app.migrate", description=(__doc__ or "").partition("\n\n")[0])
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--plan", action="store_true", help="tell what is pending and change nothing")
    action.add_argument("--safe-for", metavar="REVISION", help="tell whether a release of that revision could run now")
    parser.add_argument("--allow-destructive", action="store_true", help="apply revisions that take something away too")
    arguments = parser.parse_args()
    try:
        if arguments.safe_for:
            result = asyncio.run(safe_for(arguments.safe_for))
        else:
            result = asyncio.run(migrate(arguments.plan, arguments.allow_destructive))
    except (SettingsError, DestructiveError, CommandError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except (OSError, asyncpg.PostgresError) as error:  # while connecting the driver raises its own
        print(f"the database does not answer, nothing was migrated: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"migration": result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
