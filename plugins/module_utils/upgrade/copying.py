"""All of a server in another one, by the new version's programs, and whether it is the same.

Dump and restore of a database are one pipe, so no disk has to hold a dump.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from ..backup.model import BackupError, Database
from ..backup.postgres import Server, same
from ..host import command
from ..postgres.server import LIMIT
from .model import UpgradeError

_SEQUENCES = "SELECT schemaname, sequencename, coalesce(last_value, -1) FROM pg_sequences ORDER BY 1, 2"
# What belongs to databases and not into one: owners, rights, settings.
_AROUND = """\
SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit,
  (SELECT string_agg(entry::text, ',' ORDER BY entry::text) FROM unnest(datacl) AS entry)
FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1"""
_SETTINGS = """\
SELECT coalesce(datname, ''), coalesce(rolname, ''), array_to_string(setconfig, ' ') FROM pg_db_role_setting s
LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2"""
_ROLES = """\
SELECT r.rolname, rolsuper, rolcanlogin, rolconnlimit, coalesce(rolpassword, ''),
  (SELECT string_agg(g.rolname, ',' ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid
   WHERE m.member = r.oid)
FROM pg_authid r WHERE r.rolname !~ '^pg_' ORDER BY 1"""


def copy(old: Server, new: Server, source: Sequence[str]) -> list[Database]:
    """Have roles and databases of a closed server in an empty one, and compare them; what there is of each.

    `source` are the words before pg_dump that have it reach the old one. Raises UpgradeError and BackupError.
    """
    databases = old.databases()
    # Of the superuser's password it is said that it has one, and not that it has none.
    new.run_globals(f"ALTER ROLE postgres PASSWORD NULL;\n{_roles(source)}")
    for database in databases:
        _move(database.name, source, new)
    return compare(old, new, databases)


def _roles(source: Sequence[str]) -> str:
    words = ["pg_dumpall", "--globals-only", "--no-tablespaces", "--username=postgres", "--database=postgres"]
    ran = command.run([*source, *words], LIMIT, limit=command.WHOLE)
    if ran.returncode:
        raise UpgradeError(f"pg_dumpall --globals-only failed: {ran.said}")
    # The one that each server has from its beginning.
    return ran.stdout.replace("\nCREATE ROLE postgres;\n", "\n", 1)


def _move(name: str, source: Sequence[str], new: Server) -> None:
    """A database from one server into the other, with what belongs to it besides; one that is there is made anew."""
    anew = ["--clean", "--if-exists", "--dbname=template1"] if name == "postgres" else ["--dbname=postgres"]
    dump = [*source, "pg_dump", "--format=custom", "--compress=0", "--username=postgres", f"--dbname={name}"]
    restore = new.words("pg_restore", "--exit-on-error", "--create", "--username=postgres", *anew)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
        reading = subprocess.Popen(  # noqa: S603 - words of our own
            dump, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        try:
            assert reading.stdout is not None
            writing = command.run(restore, LIMIT, source=reading.stdout, target=answered)
            reading.stdout.close()
            dumped = reading.wait(LIMIT)
        finally:
            reading.kill()
            reading.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()
    if writing.returncode:
        # A dump that broke off is the cause, and what pg_restore says of it the consequence.
        raise UpgradeError(f"{name} could not be restored: {words or writing.said}")
    if dumped:
        raise UpgradeError(f"pg_dump of {name} failed: {words or f'exit code {dumped}'}")


def compare(old: Server, new: Server, databases: Sequence[Database]) -> list[Database]:
    """What there is, where the two have the same. Raises UpgradeError and BackupError where they have not."""
    _equal("roles", old.sql("postgres", _ROLES), new.sql("postgres", _ROLES))
    # Of the databases that are taken along, and settings of roles in all of them, which have no database's name.
    taken = {"", *(database.name for database in databases)}
    for what, statement in (("databases", _AROUND), ("settings of databases and roles", _SETTINGS)):
        _equal(what, *([row for row in one.sql("postgres", statement) if row[0] in taken] for one in (old, new)))
    found = []
    with ThreadPoolExecutor(2) as pool:
        for database in databases:
            name = database.name
            counts = [pool.submit(server.count, database, name) for server in (old, new)]
            before, after = (count.result() for count in counts)
            try:
                same(before, after)
            except BackupError as error:
                raise UpgradeError(f"the new server has not what the old one has: {error}") from error
            _equal(f"sequences of {name}", old.sql(name, _SEQUENCES), new.sql(name, _SEQUENCES))
            found.append(replace(before, bytes=database.bytes))
    return found


def _equal(what: str, before: list[list[str]], after: list[list[str]]) -> None:
    differs = [row for row in before if row not in after] + [row for row in after if row not in before]
    if differs:
        names = ", ".join(dict.fromkeys(" ".join(row[:2]).strip() for row in differs[:5]))
        raise UpgradeError(f"the new server has not the {what} of the old one: {names}")


def analyze(new: Server) -> None:
    """Have the planner know the new data; what it knew of the old is not part of a dump. Raises UpgradeError."""
    ran = command.run(new.words("vacuumdb", "--username=postgres", "--all", "--analyze-only", "--quiet"), LIMIT)
    if ran.returncode:
        raise UpgradeError(f"the new server could not be analysed: {ran.said}")
