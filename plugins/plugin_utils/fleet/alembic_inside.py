# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Alembic for any app: `python3 -c TEXT JSON` in the app's own image or environment, with its own Alembic.

No module of the collection: its text runs where the app runs, on Python 3.9 or newer, the standard library and the
app's Alembic and SQLAlchemy (1.4 or newer). The project's env.py decides on driver, address and options, async or not,
and needs no change: what is added stands on SQLAlchemy's events.

It is told as JSON:
    directory: where alembic.ini is, '' for the working directory
    allowed: revisions that may be applied, null for all; what else is pending is told, and nothing is applied
    since: a revision; only what came after it in the database is told then
    look: whether nothing is applied, whatever is allowed
    measure: whether it is told what applying it took (PostgreSQL)

Its last line is {"migration": {...}}:
    from, to: the revision of the database before and after, joined by commas where there are several heads
    applied: revisions that were applied, oldest first
    dialect, pending [{revision, sql, unread}]: what was not applied, each with its SQL, and with why that may not
        be all of it: an error kept it from being written, or the revision asked whether it is written or applied
    seconds, transactions [{seconds, locks [[table, mode]]}]: of one that is measured, how long all of it took, and for
        each transaction how long that was open and which locks it held on tables until it was committed
    empty: of a look, whether the database has nothing that could be lost
Exit code 1 with the reason on stderr. What Alembic and the project print goes there, too.

On PostgreSQL one process at a time migrates a database: the connection that migrates holds a session's advisory lock,
which goes with a process that is killed. The others ask again and again; one that waited inside of a statement would be
waited for by CREATE INDEX CONCURRENTLY. DDL waits half a second for a table, since all requests behind it wait as well,
and is tried again; what is done CONCURRENTLY disturbs nobody and may wait.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

if __name__ == "__main__":
    # Of `-c`: in the working directory the project's migrations may be a package of the name alembic.
    sys.path[:] = [path for path in sys.path if path]

try:
    import sqlalchemy
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import Script, ScriptDirectory
except ModuleNotFoundError as error:
    MISSING = str(error)
else:
    MISSING = ""

# Any number that no other user of the database takes: "slip" as hexadecimal digits of its letters.
LOCK = 0x736C6970
ASKED_EVERY = 0.2  # seconds
LOCK_TIMEOUT = "500ms"
TRIES = 20
CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
LOCK_NOT_AVAILABLE = "55P03"
# What a connection was told last, in what SQLAlchemy remembers of it.
TOLD = "slipway_lock_timeout"
# Says that this is that Python already.
BECAME = "SLIPWAY_ALEMBIC_PYTHON"


class MigrationError(Exception):
    """What is wrong, and what to do."""


class Guard:
    """The lock of the database, and how long statements wait: said on each connection before its first statement."""

    def __init__(self) -> None:
        self.holder: Any = None

    def listen(self) -> None:
        # The class: the engine is made by the project, and one of asyncio has such an engine inside.
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "before_cursor_execute", self.before)
        sqlalchemy.event.listen(sqlalchemy.pool.Pool, "close", self.closed)

    def before(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if connection.dialect.name != "postgresql":
            return
        raw, told = connection.connection, connection.info.get(TOLD)
        if told is None and self.holder is None:
            self.holder = plain(raw)
            hold(raw)
        wanted = "0" if CONCURRENTLY.search(statement) else LOCK_TIMEOUT
        if told == wanted:
            return
        ask(raw, f"SET lock_timeout = '{wanted}'")
        if told is None:
            raw.commit()  # else it went with the first transaction that is rolled back
        connection.info[TOLD] = wanted

    def closed(self, connection: Any, _: Any) -> None:
        """Whoever opens the next one holds the lock: a project may look at the database before it migrates."""
        if connection is self.holder:
            self.holder = None


class Meter:
    """For how long each transaction was open, and the locks that it held at its end; none is given back before.

    https://www.postgresql.org/docs/current/explicit-locking.html
    """

    LOCKS = (
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), l.mode FROM pg_locks l "
        "JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE l.pid = pg_backend_pid() AND l.granted AND c.relkind IN ('r', 'p') AND l.mode IN "
        "('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') ORDER BY 1, 2"
    )
    BEGAN = "slipway_began"

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.transactions: list[dict[str, Any]] = []

    def listen(self) -> None:
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "begin", self.begin)
        sqlalchemy.event.listen(sqlalchemy.engine.Engine, "commit", self.commit)

    def begin(self, connection: Any) -> None:
        connection.info[self.BEGAN] = time.monotonic()

    def commit(self, connection: Any) -> None:
        if connection.dialect.name != "postgresql":
            return
        open_for = time.monotonic() - connection.info.get(self.BEGAN, time.monotonic())
        cursor = connection.connection.cursor()
        try:
            cursor.execute(self.LOCKS)
            held = [list(row) for row in cursor.fetchall()]
        finally:
            cursor.close()
        if held:
            self.transactions.append({"seconds": round(open_for, 3), "locks": held})

    def told(self) -> dict[str, Any]:
        return {"seconds": round(time.monotonic() - self.began, 3), "transactions": self.transactions}


def plain(raw: Any) -> Any:
    """The driver's connection of one of SQLAlchemy's pool, 1.4's included."""
    return getattr(raw, "dbapi_connection", None) or raw.connection


def ask(raw: Any, statement: str, result: bool = False) -> Any:
    cursor = raw.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone()[0] if result else None
    finally:
        cursor.close()


def hold(raw: Any) -> None:
    waits = False
    while not ask(raw, f"SELECT pg_try_advisory_lock({LOCK})", result=True):
        raw.commit()
        if not waits:
            print("somebody else migrates this database; waiting for the end of that", file=sys.stderr)
        waits = True
        time.sleep(ASKED_EVERY)
    raw.commit()


def project(directory: str) -> Config:
    """The project's configuration, from its own place, as Alembic's command finds it. Raises MigrationError."""
    try:
        os.chdir(directory or ".")
    except OSError as error:
        raise MigrationError(
            f"there is no {directory} here ({error.strerror}; the working directory is {Path.cwd()}); write the "
            "directory of alembic.ini as fastapi_app_migrations"
        ) from None
    here = Path.cwd()
    sys.path.insert(0, str(here))
    named = os.environ.get("ALEMBIC_CONFIG") or "alembic.ini"
    # One half of the configuration may stand there; an Alembic before 1.16 does not know that argument.
    more: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        if "[tool.alembic]" in Path("pyproject.toml").read_text(encoding="utf-8"):
            more["toml_file"] = "pyproject.toml"
    if Path(named).is_file():
        return Config(named, **more)
    if more:
        return Config(None, **more)
    raise MigrationError(
        f"there is no {named} in {here}; write its directory as fastapi_app_migrations, such as ./backend, and copy it "
        "into the image where it is not there"
    )


class Project:
    """The revisions of a project, and the database that its env.py connects to."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.script = ScriptDirectory.from_config(config)
        self.known = {one.revision for one in self.script.walk_revisions()}
        self.heads: tuple[str, ...] = ()
        self.dialect = ""
        self.empty = False
        self.metadata: Any = None
        self.applying = ""

    def look(self) -> None:
        """See where the database is."""
        self._run(lambda: iter(()), dont_mutate=True)

    def upgrade(self, allowed: Optional[list[str]], look: bool = False) -> tuple[list[str], list[Script]]:
        """Apply what is pending where all of it is allowed; returns what was applied, and what was not.

        On an empty database there is no release that could miss anything. With `look` nothing is applied.
        """
        applied: list[str] = []
        left: list[Script] = []

        def steps() -> Iterator[Any]:
            todo = self._todo()
            names = [step.revision.revision for step in todo]
            applied[:] = [name for name in applied if name not in names]  # what was rolled back
            left[:] = [step.revision for step in todo]
            if not look and (allowed is None or not self.heads or set(names) <= set(allowed)):
                left.clear()
                for step in todo:
                    self.applying = step.revision.revision
                    yield step
                    applied.append(self.applying)
                self.applying = ""

        for attempt in range(1, TRIES + 1):
            try:
                self._run(steps, dont_mutate=look)
            except Exception as error:
                if not waited_too_long(error) or attempt == TRIES:
                    if not self.applying:
                        raise
                    raise MigrationError(why_not(self.applying, error)) from error
                print(f"no lock within {LOCK_TIMEOUT}, trying again ({attempt} of {TRIES})", file=sys.stderr)
                time.sleep(0.1 * attempt)
            else:
                break
        return applied, left

    def _todo(self) -> list[Any]:
        if set(self.heads) - self.known:
            return []  # a later release was here; its additive schema is fine for this one
        return self.script._upgrade_revs("heads", self.heads)  # type: ignore[arg-type] # as Alembic's `upgrade` does

    def since(self, revisions: list[str]) -> list[Script]:
        """What came after these in the database, oldest first. Raises MigrationError where one is not known."""
        if unknown := sorted({*self.heads, *revisions} - self.known):
            raise MigrationError(
                f"the database is at {joined(self.heads) or 'no revision'}, the other release is of "
                f"{','.join(revisions)}, and the release that serves does not know {', '.join(unknown)}, so it cannot "
                "tell what lies between: it is older than the schema, as after a rollback. Deploy a release that has "
                "that revision, or see for yourself whether the other one fits"
            )
        return list(self.script.iterate_revisions(self.heads, tuple(revisions)))[::-1] if self.heads else []

    def _run(self, steps: Any, **options: Any) -> None:
        """Have env.py connect and call back. `steps` is asked under the lock, with the heads in place.

        Raises MigrationError where env.py does so more than once: what is told here is about one database.
        """
        begun: list[Any] = []

        def begin(heads: Any, context: Any) -> Any:
            if begun:
                raise MigrationError(
                    "env.py migrates several databases or schemas, and fastapi_app_migrations knows one; leave it "
                    "empty and write fastapi_app_migrate_command: [alembic, upgrade, heads]"
                )
            begun.append(context)
            self.heads = tuple(heads or ())
            self.dialect = context.dialect.name
            self.metadata = context.opts.get("target_metadata")
            self.empty = bool(options.get("dont_mutate")) and not (heads or tables_of(context))
            return steps()

        with EnvironmentContext(self.config, self.script, fn=begin, destination_rev="heads", **options):
            self.script.run_env()

    def written(self, revision: Script) -> dict[str, str]:
        """The SQL of one revision, and why that is not all of it; one that asks the database cannot be written."""
        text, unread = io.StringIO(), ""
        asked: list[str] = []
        with EnvironmentContext(self.config, self.script, as_sql=True) as environment:
            environment.configure(
                dialect_name=self.dialect,
                dialect_opts={"paramstyle": "named"},  # else a % would be doubled
                target_metadata=self.metadata,
                literal_binds=True,
                output_buffer=text,
            )
            context = Watched(environment.get_context(), asked)
            with Operations.context(environment.get_context()) as operations:
                # What `op` and `context` of a revision stand for; Alembic itself asks others.
                environment.is_offline_mode = lambda: context.as_sql  # type: ignore[method-assign]
                environment.get_context = operations.get_context = lambda: context  # type: ignore[assignment,method-assign,return-value]
                try:
                    revision.module.upgrade()
                except Exception as error:  # noqa: BLE001 - whatever a project's own code raises
                    unread = f"{type(error).__name__}: {error}"
        if asked and not unread:
            unread = "it asks whether it is written or applied"
        return {"revision": revision.revision, "sql": text.getvalue(), "unread": unread}


def tables_of(context: Any) -> list[str]:
    """The tables of a database but Alembic's own, those of all schemas."""
    found = sqlalchemy.inspect(context.connection)
    schemas = [name for name in found.get_schema_names() if name != "information_schema"]
    return [name for schema in schemas for name in found.get_table_names(schema) if name != context.version_table]


class Watched:
    """A revision's context, which notes in `asked` that it wants to know whether it is written or applied."""

    def __init__(self, context: Any, asked: list[str]) -> None:
        self._context, self._asked = context, asked

    def __getattr__(self, name: str) -> Any:
        if name == "as_sql":
            self._asked.append(name)
        return getattr(self._context, name)


def waited_too_long(error: BaseException) -> bool:
    """Whether a lock was not had in time, in the words of PostgreSQL's drivers."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if state is None and cause.args and isinstance(cause.args[0], dict):  # pg8000
        state = cause.args[0].get("C")
    return bool(state == LOCK_NOT_AVAILABLE)


def why_not(revision: str, error: Exception) -> str:
    """Why a revision was not applied, and what it did when that came, in one line."""
    cause = getattr(error, "orig", None) or error
    said = " ".join(str(cause).split())[:400].replace("Error: ", "Error, ")  # the last kind in a line is who failed
    statement = " ".join(str(getattr(error, "statement", None) or "").split())[:200]
    at = f"; it was at {statement}" if statement else ""
    return f"revision {revision} was not applied ({type(cause).__name__}, {said}{at})"


def joined(heads: tuple[str, ...]) -> Optional[str]:
    return ",".join(sorted(heads)) or None


def main(told: dict[str, Any]) -> dict[str, Any]:
    """What was done, or is pending. Raises MigrationError, and whatever Alembic, env.py and the driver raise."""
    if MISSING:
        elsewhere()
        raise MigrationError(
            f"fastapi_app_migrations needs the app's own Alembic, and this app has none: {MISSING} for "
            f"{sys.executable}, and no program alembic in PATH, .venv or venv; install it with the app, or leave "
            "fastapi_app_migrations empty"
        )
    this = Project(project(str(told.get("directory") or "")))
    Guard().listen()
    applied: list[str] = []
    seen: dict[str, Any] = {}
    before: Optional[str] = str(told.get("since") or "")
    if before:
        this.look()
        now = joined(this.heads)
        left = this.since(before.split(","))
    else:
        meter = Meter()
        if told.get("measure"):
            meter.listen()
        applied, left = this.upgrade(told.get("allowed"), bool(told.get("look")))
        seen = meter.told() if told.get("measure") else {"empty": this.empty} if told.get("look") else {}
        before = joined(this.heads)
        now = joined(tuple(this.script.get_heads())) if applied else before
    pending = [this.written(revision) for revision in left]
    return {"from": before, "to": now, "applied": applied, "dialect": this.dialect, "pending": pending, **seen}


def elsewhere() -> None:
    """Become the Python that the program `alembic` names in its first line, where that is another one."""
    places = [shutil.which("alembic"), ".venv/bin/alembic", "venv/bin/alembic"] if BECAME not in os.environ else []
    for place in (Path(name) for name in places if name):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            with place.open(encoding="utf-8") as stream:
                first = stream.readline().strip()
            python = first.removeprefix("#!").split(" ")[0]
            if first.startswith("#!/") and python != sys.executable and Path(python).name.startswith("python"):
                words = Path("/proc/self/cmdline").read_text(encoding="utf-8").split("\0")[:-1]
                os.environ[BECAME] = python
                os.execv(python, [python, *words[words.index("-c") :]])  # noqa: S606 - the app's own Python


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    try:
        with contextlib.redirect_stdout(sys.stderr):
            result = main(asked)
    except MigrationError as reason:
        hint = "; a rollback asks nothing with -e fastapi_app_migrations=" if asked.get("since") else ""
        if reason.__cause__:
            traceback.print_exception(reason.__cause__)
        sys.exit(f"MigrationError: {reason}{hint}")
    except Exception as error:
        if type(error).__name__ != "CommandError":
            raise
        sys.exit(f"CommandError: {error}")
    print(json.dumps({"migration": result}))
