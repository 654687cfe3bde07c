"""A PostgreSQL server as its superuser reaches it: dumps with what they must have, databases beside, a swap of names.

What a dump has to have is counted in the snapshot that the dump itself is taken in, so the two agree however busy the
database is. A table's digest is a sum over its rows, as text, of a hash that PostgreSQL keeps stable within a major
version; the order of the rows does not matter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..host.errors import SlipwayError
from ..postgres import server as postgres
from ..postgres.databases import MARK, there
from ..postgres.server import (
    CONTAINER,
    LIMIT,
    SEPARATOR,
    STATEMENT,
    Run,
    literal,
    quoted,
)
from .likeness import Likeness, likeness_of
from .model import DIFFERENT, FAILED, REFUSED, BackupError, Database

# What the sessions of a dump are called by the server.
DUMPS = "slipway-dump"
# Databases that are made on the way to a restore, and those that were in the place of one.
BESIDE, BEFORE = "slipway_restoring_", "slipway_before_"
# What sorts texts, by pg_database.datlocprovider.
PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
# Databases that PostgreSQL brings; nothing is put in their place.
BROUGHT = ("postgres", "template0", "template1")
# How often the name of a database that is in use is asked for; each time waits 5 s for its sessions to end.
TRIES = 12

_SAME_TEXT = """\
SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = 0; SET timezone = 'UTC';
SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex';
"""
_UNHURRIED = "SET statement_timeout = 0; SET idle_session_timeout = 0; SET client_min_messages = 'error'; "
# Milliseconds for which a dump waits for a lock. It looks for a deadlock at once, and all others do after a second,
# when it has given up (deadlock_timeout): no migration that asks for tables is ended for a dump.
PATIENCE, FIRST = 900, 10
# Seconds for which a dump is tried anew where a lock is not free: where somebody waits for it, and by a run of a timer,
# for which a long transaction of the night is no reason to fail; and between two tries.
LOCKED, PATIENT, EVERY = 900.0, 3600.0, 5.0
_HURRIED = f"SET deadlock_timeout = {FIRST}; SET lc_messages = 'C';\n"
# What PostgreSQL says then.
_NOT_FREE = re.compile(r"due to (lock|statement) timeout|deadlock detected|could not obtain lock")
# And where a table went between the look at what there is and the lock on it; how often that is tried anew.
_GONE, GONE = re.compile(r'(relation|schema) ".*" does not exist'), 5
# What the engine (runc) says in place of a program that it could not begin, as where the container's memory is full.
_NOT_BEGUN = "OCI runtime exec failed"
# What the server calls a snapshot.
_SNAPSHOT_ID = re.compile(r"[0-9A-F]+(-[0-9A-F]+)+")
# The tables are locked before the snapshot is taken, until all are dumped and counted: what a migration does to them is
# seen whole, or waits. pg_dump has the same locks a second time; half of what the server has room for stays the app's.
# Where the tables are too many for that, they are dumped without.
_SNAPSHOT = f"""\
SET lock_timeout = {PATIENCE};
SELECT count(*) * 4 <= current_setting('max_locks_per_transaction')::bigint * (
    current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint) AS slipway_room,
  coalesce('LOCK TABLE ' || string_agg(format('ONLY %I.%I', n.nspname, c.relname), ', ' ORDER BY c.oid)
  || ' IN ACCESS SHARE MODE', '') AS slipway_locks
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema$)'
\\gset
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
\\if :slipway_room
:slipway_locks ;
\\endif
SELECT pg_export_snapshot(), :'slipway_room';
SET lock_timeout = 0;
"""  # noqa: S608 - constants
LARGE_OBJECTS = """\
SELECT 'large objects', count(*),
  coalesce(sum(hashtextextended(loid::text || ':' || pageno || ':' || md5(data), 0)::numeric), 0)
FROM pg_catalog.pg_largeobject;"""
# A line for each table, `name|rows|digest`, and one for each revision that Alembic has recorded, `revision`.
COUNTS = rf"""
SELECT format(
  'SELECT %L, count(*), coalesce(sum(hashtextextended(slipway_row::text, 0)::numeric), 0)
   FROM ONLY %I.%I AS slipway_row',
  format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema$)' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_depend d
  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
\gexec
{LARGE_OBJECTS}
SELECT 'SELECT version_num FROM alembic_version ORDER BY 1' WHERE to_regclass('alembic_version') IS NOT NULL
\gexec
"""  # noqa: S608 - constants
_DATABASES = """\
SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid),
  to_jsonb(d)->>'datlocprovider', coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')
FROM pg_database d WHERE datallowconn AND NOT datistemplate AND NOT starts_with(datname, 'slipway_restoring_')"""

_SHAPE = """\
SELECT format('%I.%I', n.nspname, c.relname), c.relfilenode, coalesce(s.n_tup_upd + s.n_tup_del, 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^(pg_|information_schema$)'"""


class Server(postgres.Server):
    """With what a backup and a restore need of it; what it refuses is a BackupError.

    `warnings` are what an operator is to know of its dumps, `dumps` is what it calls their sessions. `own`: whether all
    of it is this host's, with its disk and its roles; `counts` asks what a database has, `hurried` and `options` have a
    dump see a deadlock first; `only` and `mine` are conditions for the databases that are backed up, and for the
    sessions that it may end.
    """

    own, dumps, counts, hurried, only, mine = True, DUMPS, COUNTS, _HURRIED, "", ""
    options = f"-c deadlock_timeout={FIRST} -c lc_messages=C"

    def __init__(self, superuser: Sequence[str], name: str = "the database server", run: Run = command.run) -> None:
        super().__init__(superuser, name, run)
        self.warnings: list[str] = []

    def failed(self, text: str) -> SlipwayError:
        return BackupError(FAILED, text)

    def databases(self) -> list[Database]:
        """All that can be connected to, without what they have."""
        return [
            Database(name, owner, encoding, collate, ctype, int(size), provider=provider, locale=locale)
            for name, owner, encoding, collate, ctype, size, provider, locale in self.sql(
                "postgres", f"{_DATABASES}{self.only} ORDER BY datname"
            )
        ]

    def major(self) -> int:
        return int(self.sql("postgres", "SHOW server_version_num")[0][0]) // 10000

    def likeness(self) -> Likeness:
        """What one that stands in for it has to be like. Raises BackupError."""

        def done(words: Sequence[str]) -> str:
            ran = self._run(words, STATEMENT)
            if ran.returncode:
                raise BackupError(FAILED, f"nobody knows what {self.name} is like: {ran.said}")
            return ran.stdout

        provider = "compose" if CONTAINER in self._superuser else "native"
        return likeness_of(provider, self.major(), lambda statement: self.sql("postgres", statement), done)

    def disk(self) -> tuple[Path, int]:
        """The directory of this host that has its data, and how many bytes its write-ahead log takes besides."""
        settings = "SELECT current_setting('data_directory'), pg_size_bytes(current_setting('max_wal_size'))"
        ((directory, log),) = self.sql("postgres", settings)
        if CONTAINER not in self._superuser:
            return Path(directory), int(log)
        wanted = f'{{{{range .Mounts}}}}{{{{if eq .Destination "{directory}"}}}}{{{{.Source}}}}{{{{end}}}}{{{{end}}}}'
        ran = self._run(["docker", "inspect", "--format", wanted, CONTAINER], STATEMENT)
        if ran.returncode or not ran.stdout.strip():
            raise BackupError(FAILED, f"nobody knows where the data of {self.name} is: {ran.said}")
        return Path(ran.stdout.strip()), int(log)

    def dump(self, database: Database, into: Path, patience: Optional[float] = None) -> Database:
        """Write it to a file, and count what it has in the same snapshot. Raises BackupError.

        Where a migration has a lock on a table, the dump lets all of its own go and is tried anew, for `patience`
        seconds; for a few times where what was to be locked is not there, or a program did not begin.
        """
        patience = LOCKED if patience is None else patience
        deadline, gone = time.monotonic() + patience, 0
        while True:
            try:
                return self._dumped(database, into)
            except BackupError as error:
                locked = _NOT_FREE.search(str(error))
                unbegun = _NOT_BEGUN in str(error)
                if not locked and not unbegun and not _GONE.search(str(error)):
                    raise
                gone += not locked
                if gone >= GONE and unbegun:
                    raise BackupError(
                        FAILED,
                        f"{database.name} cannot be dumped: no program could be started beside {self.name}, {gone} "
                        f"times in turn; see whether it has enough memory (postgres_memory_mib): {error}",
                    ) from error
                if gone >= GONE:
                    raise BackupError(
                        FAILED,
                        f"{database.name} cannot be dumped: what was to be dumped was not there, {gone} times in turn; "
                        f"see what drops it, or whether the database is damaged: {error}",
                    ) from error
                if locked and time.monotonic() >= deadline:
                    raise BackupError(
                        FAILED,
                        f"{database.name} cannot be dumped: a table of it was locked for {patience:.0f} s, by a "
                        f"migration or a session that was left open in a transaction; see that it ends: {error}",
                    ) from error
            time.sleep(EVERY)

    def end_dumps(self) -> None:
        """End the sessions of one that was killed, which would hold its locks until it has read all that it was to.

        The caller holds the host's backups, so there is no other one. Raises BackupError.
        """
        sessions = f"FROM pg_stat_activity WHERE application_name = {literal(self.dumps)}{self.only}"
        self.sql("postgres", f"SELECT pg_terminate_backend(pid) {sessions}")

    def _dumped(self, database: Database, into: Path) -> Database:
        pipe = subprocess.PIPE
        session = subprocess.Popen(self._psql(database.name), stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        try:
            assert session.stdin is not None
            assert session.stdout is not None
            named = f"SET application_name = {literal(self.dumps)};\n"
            with suppress(BrokenPipeError):  # one that has ended already says why
                session.stdin.write(named + _SAME_TEXT + self.hurried + _SNAPSHOT)
                session.stdin.flush()
            first = session.stdout.readline().strip()
            snapshot, _, room = first.partition(SEPARATOR)
            if not _SNAPSHOT_ID.fullmatch(snapshot):
                snapshot = ""
            if snapshot:
                self._dump(database.name, snapshot, into)
            said, errors = session.communicate(self.counts if snapshot else "", timeout=LIMIT)
        finally:
            session.kill()
            session.wait()
        if not snapshot or session.returncode:
            raise BackupError(
                FAILED, f"{self.name} could not count what {database.name} has: {errors.strip() or first}"
            )
        if room == "f":
            self.warnings.append(
                f"{database.name} has more tables than the server has room for locks on, so it was dumped without: a "
                "migration meanwhile may have left a set that no drill proves. Raise max_locks_per_transaction in "
                "postgres_settings"
            )
        return counted(database, said.splitlines())

    def _dump(self, name: str, snapshot: str, into: Path) -> None:
        with into.open("wb") as stream:
            # Without compression, so that the repository finds what it has already; it compresses by itself.
            words = ["pg_dump", "--format=custom", "--compress=0", f"--snapshot={snapshot}"]
            words += [f"--lock-wait-timeout={PATIENCE}", *self.user, f"--dbname={name}"]
            own = ["env", f"PGAPPNAME={self.dumps}", f"PGOPTIONS={self.options}", *self._nice()]
            ran = self._run([*self._superuser, *own, *words], LIMIT, target=stream)
        if ran.returncode:
            raise BackupError(FAILED, f"pg_dump of {name} failed: {_said(ran, into)}")

    def _nice(self) -> list[str]:
        """What has a program give way as this one does; one in a container does not inherit that."""
        own = os.nice(0)
        return ["nice", "-n", str(own)] if own > 0 and tuple(self._superuser[:2]) == ("docker", "exec") else []

    @contextmanager
    def copying(self, fast: bool) -> Iterator[tuple[int, Callable[[], dict[str, Any]]]]:
        """Within the block its files may be copied: where its log begins that they need, and what ends that.

        The end gives `label`, a file without which the copy is none, and `stop`, where that log ends. With `fast` the
        server writes at once what it has in memory.
        """
        old = self.major() < 15
        begin, end = ("pg_start_backup", "pg_stop_backup") if old else ("pg_backup_start", "pg_backup_stop")
        pipe = subprocess.PIPE
        with subprocess.Popen(self._psql("postgres"), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as session:

            def ask(statement: str) -> str:
                assert session.stdin is not None
                assert session.stdout is not None
                assert session.stderr is not None
                with suppress(BrokenPipeError):
                    session.stdin.write(f"{statement};\n")
                    session.stdin.flush()
                if line := session.stdout.readline().strip():
                    return line
                session.kill()
                raise BackupError(FAILED, f"{self.name} is not to be copied now: {session.stderr.read().strip()}")

            def done() -> dict[str, Any]:
                said = "json_build_object('stop', pg_wal_lsn_diff(lsn, '0/0'), 'label', labelfile)"
                call = f"{end}({'false, ' if old else ''}false)"
                found: dict[str, Any] = json.loads(ask(f"SELECT {said} FROM {call}"))  # noqa: S608 - constants
                return found

            try:
                call = f"{begin}('slipway', {fast}{', false' if old else ''})"
                yield int(ask(f"{_UNHURRIED}SELECT pg_wal_lsn_diff({call}, '0/0')")), done
            finally:
                session.kill()

    def globals(self, into: Path) -> None:
        """Write the roles with their passwords, as hashes, and what else belongs to no database."""
        with into.open("wb") as stream:
            words = ["pg_dumpall", "--globals-only", *self.user, "--no-tablespaces"]
            ran = self._run([*self._superuser, *self._nice(), *words], LIMIT, target=stream)
        if ran.returncode:
            raise BackupError(FAILED, f"pg_dumpall --globals-only failed: {ran.said}")

    def count(self, database: Database, name: str) -> Database:
        """The database as one of that name has it now."""
        ran = self._feed(self._psql(name), f"{_SAME_TEXT}{self.counts}")
        return counted(database, ran.splitlines())

    def heads(self, name: str) -> tuple[str, ...]:
        """The revisions that Alembic has recorded in a database; none where there is no such database, or no record."""
        if name not in self._names():
            return ()
        if self.sql(name, "SELECT to_regclass('alembic_version') IS NOT NULL") != [["t"]]:
            return ()
        return tuple(head for (head,) in self.sql(name, "SELECT version_num FROM alembic_version ORDER BY 1"))

    def shape(self, name: str) -> dict[str, tuple[str, int]]:
        """Of each table of a database the file that it is in, and how many of its rows were changed or removed."""
        return {table: (file, int(rows)) for table, file, rows in self.sql(name, _SHAPE)}

    def logins(self) -> dict[str, str]:
        """The hash of the password of each role that has one and may log in."""
        asked = "SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL"
        return {row[0]: row[1] for row in self.sql("postgres", asked)}

    def members(self) -> dict[str, str]:
        """The logins that were made as members of a role, with that role."""
        return {name: role.of for name, role in there(self).roles.items() if role.of}

    def roles(self) -> set[str]:
        return {name for (name,) in self.sql("postgres", "SELECT rolname FROM pg_roles")}

    def make(self, database: Database, name: str) -> None:
        """An empty database of that name, as the other one is made; but for its owner no role connects to it."""
        self.sql(
            "postgres",
            f"CREATE DATABASE {quoted(name)} OWNER {quoted(database.owner)} TEMPLATE template0 "
            f"ENCODING {literal(database.encoding)} LC_COLLATE {literal(database.collate)} "
            f"LC_CTYPE {literal(database.ctype)}{sorted_by(database)}",
            f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC",
        )

    def fill(self, name: str, dump: Path) -> None:
        """Restore a dump into a database, all of it or nothing. Raises BackupError."""
        with dump.open("rb") as stream:
            words = ["pg_restore", "--exit-on-error", "--single-transaction", *self.user, f"--dbname={name}"]
            ran = self._run([*self._superuser, *words], LIMIT, source=stream)
        if ran.returncode:
            raise BackupError(FAILED, f"pg_restore into {name} failed: {ran.said}")

    def unwritable(self) -> str:
        """Why no database can be restored there; empty where one can. Raises BackupError where nobody can tell."""
        return ""

    def drop(self, name: str) -> None:
        """Remove a database that was made on the way; of no other name. Raises BackupError."""
        if not name.startswith(BESIDE):
            raise BackupError(REFUSED, f"{name} is no database that a restore made on its way")
        self.sql("postgres", f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def leftovers(self) -> list[str]:
        """Databases of restores that were killed on the way."""
        return [name for name in self._names() if name.startswith(BESIDE)]

    def _names(self) -> set[str]:
        """Of all databases, those that nobody can open included."""
        return {name for (name,) in self.sql("postgres", "SELECT datname FROM pg_database")}

    def swap(self, names: Sequence[tuple[str, str, str]]) -> set[str]:
        """Give databases another one's name, and those another name: (name, own, kept) each, all in one transaction.

        Returns the names that were taken. Their sessions are ended, and nobody can open what is kept until that is
        allowed again. Raises BackupError where sessions do not end; then nothing was changed.
        """
        there = self._names()
        taken = [(name, kept) for name, _, kept in names if name in there]
        statements = [
            *(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {literal(name)}{self.mine}"  # noqa: S608 - quoted
                for name, _ in taken
            ),
            *(f"ALTER DATABASE {quoted(name)} RENAME TO {quoted(kept)}" for name, kept in taken),
            *(f"ALTER DATABASE {quoted(kept)} ALLOW_CONNECTIONS false" for _, kept in taken),
            *(f"ALTER DATABASE {quoted(own)} RENAME TO {quoted(name)}" for name, own, _ in names),
        ]
        for left in range(TRIES, 0, -1):
            try:
                self.sql("postgres", "BEGIN", *statements, "COMMIT")
                break
            except BackupError as error:
                if not {own for _, own, _ in names} & self._names():
                    break  # it was done, and the answer alone was lost
                if left == 1 or "being accessed by other users" not in str(error):
                    raise
        return {name for name, _ in taken}


def _said(ran: command.Ran, into: Path) -> str:
    """Why a program failed whose output went into a file, in which the words of a container's engine are, too."""
    with into.open("rb") as stream:
        first = stream.read(500).decode(errors="replace").strip()
    return first if first.startswith(_NOT_BEGUN) else ran.said


def counted(database: Database, lines: Iterable[str]) -> Database:
    """The database with what psql said that it has."""
    cells = [line.split(SEPARATOR) for line in lines if line and line != "SET"]
    return replace(
        database,
        tables={name: (int(rows), digest) for name, rows, digest in (entry for entry in cells if len(entry) == 3)},
        heads=tuple(entry[0] for entry in cells if len(entry) == 1),
    )


def differences(wanted: Database, found: Database) -> list[str]:
    """A sentence for each table that is not as it was when it was dumped."""
    said = []
    for name in sorted({*wanted.tables, *found.tables}):
        before, now = wanted.tables.get(name), found.tables.get(name)
        if before is None or now is None:
            said.append(f"{wanted.name}: {name} is {'missing' if now is None else 'not of this set'}")
        elif before[0] != now[0]:
            said.append(f"{wanted.name}: {name} has {now[0]} rows instead of {before[0]}")
        elif before[1] != now[1]:
            said.append(f"{wanted.name}: {name} has other rows than the {before[0]} that were saved")
    if wanted.heads != found.heads:
        said.append(f"{wanted.name}: its schema is {found.heads} instead of {wanted.heads}")
    return said


def same(wanted: Database, found: Database) -> None:
    """Raise BackupError where what was restored is not what was saved."""
    if said := differences(wanted, found):
        raise BackupError(DIFFERENT, f"what was restored is not what was saved: {'; '.join(said[:5])}")


def sorted_by(database: Database) -> str:
    """What sorts the texts of a new database, in the words of CREATE DATABASE."""
    if database.provider not in PROVIDERS:
        return ""
    provider = PROVIDERS[database.provider]
    locale = f" {provider.upper()}_LOCALE {literal(database.locale)}" if database.locale else ""
    return f" LOCALE_PROVIDER {provider}{locale}"


def missing_roles(script: str, existing: Iterable[str], good: bool = False) -> str:
    """Of a script of all globals, what makes the roles that are not there: a statement a line, as pg_dumpall writes.

    A login that was made as a member is known as one again, and is not good again: it may have been taken away since.
    With `good` it is as it was.
    """
    known = {form for name in existing for form in (name, quoted(name))}
    lines = script.splitlines()
    made = [line.split(" ", 2)[2].rstrip(";") for line in lines if line.startswith("CREATE ROLE ")]
    new = [name for name in made if name not in known]
    begins = tuple(f"{verb} {name}{end}" for name in new for verb in ("CREATE ROLE", "ALTER ROLE") for end in " ;")
    joins = tuple(f" TO {name}{end}" for name in new for end in " ;")
    marks = {name: f"COMMENT ON ROLE {name} IS '{MARK}" for name in new}
    wanted = (*begins, *marks.values())
    logins = [name for name, mark in marks.items() if any(line.startswith(mark) for line in lines)]
    return "\n".join(
        [
            line
            for line in lines
            if line.startswith(wanted) or (line.startswith("GRANT ") and any(join in line for join in joins))
        ]
        + [f"ALTER ROLE {name} NOLOGIN PASSWORD NULL;" for name in logins if not good]
    )
