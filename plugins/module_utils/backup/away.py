"""A PostgreSQL server on no host of the fleet, as a role without rights of a superuser reaches it with TLS.

Programs of PostgreSQL on this host do the work. What only a superuser may is left out: passwords of roles, settings by
which a dump gives way at once, the disk of the server.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from ..host import command
from ..postgres.server import Run, literal
from .model import FAILED, BackupError, Database, Settings
from .postgres import BESIDE, COUNTS, DUMPS, LARGE_OBJECTS, Server

# Where Debian has the programs of each major version.
PROGRAMS = Path("/usr/lib/postgresql")
# What the role wrote: how the server is reached, with the password, by a name.
SERVICE_FILE, SERVICE = "pg_service.conf", "slipway"
# As of a superuser, without the pages that it alone may read.
_OBJECTS = """\
SELECT 'large objects', count(*), coalesce(sum(hashtextextended(oid::text || ':' || md5(lo_get(oid)), 0)::numeric), 0)
FROM pg_catalog.pg_largeobject_metadata;"""


# Sessions that it may end: of roles that it is a member of, and with pg_signal_backend of all but superusers.
_MINE = """ AND usesysid IN (SELECT oid FROM pg_roles r WHERE pg_has_role(r.oid, 'USAGE')
  OR pg_has_role('pg_signal_backend', 'USAGE') AND NOT r.rolsuper)"""


class Away(Server):
    """The server with the databases of `settings.elsewhere`."""

    own, hurried, options = False, "", ""
    counts = COUNTS.replace(LARGE_OBJECTS, _OBJECTS)
    mine = _MINE
    user = ()

    def __init__(self, settings: Settings, run: Run = command.run, programs: Path = PROGRAMS) -> None:
        super().__init__((), "the database server elsewhere", run)
        self._names_of_it, self._place, self._files = settings.elsewhere, programs, settings.files
        self.dumps = f"{DUMPS} of {settings.host}"[:63]
        self.only = f" AND datname IN ({', '.join(map(literal, settings.elsewhere))})"
        self._major: Optional[int] = None
        self._use(max(self._installed(), default=0))

    def _installed(self) -> list[int]:
        found = self._place.glob("*/bin/initdb")
        return sorted(int(path.parts[-3]) for path in found if re.fullmatch(r"\d+", path.parts[-3]))

    def _use(self, major: int) -> None:
        """Have the programs of that version."""
        self.programs = major
        places = f"PATH={self._place}/{major}/bin:/usr/bin:/bin"
        self._superuser = ("env", f"PGSERVICEFILE={self._files / SERVICE_FILE}", f"PGSERVICE={SERVICE}", places)

    def major(self) -> int:
        """Of the server; the programs that suit it best are used from then on. Raises BackupError where none do."""
        if self._major is None:
            if not self.programs:
                raise BackupError(FAILED, f"no programs of PostgreSQL are in {self._place}; provision this host")
            self._major = super().major()
            there = [version for version in self._installed() if version >= self._major]
            if not there:
                raise BackupError(
                    FAILED,
                    f"{self.name} is of PostgreSQL {self._major}, and this host has programs of {self.programs} at "
                    f"most, which cannot dump that; install the package postgresql-{self._major} here "
                    "(apt.postgresql.org)",
                )
            self._use(there[0])
        return self._major

    def databases(self) -> list[Database]:
        """Those that are named. Raises BackupError where one is not there."""
        self.major()
        found = super().databases()
        if missing := sorted({*self._names_of_it} - {database.name for database in found}):
            raise BackupError(
                FAILED, f"{self.name} has no database {missing[0]} to connect to (backup_database_elsewhere)"
            )
        if why := self.unwritable():
            self.warnings.append(f"what is saved could not be restored in its place now: {why}")
        return found

    def unwritable(self) -> str:
        major = self.major()
        if major != self.programs:
            return (
                f"{self.name} is of PostgreSQL {major}, and pg_restore of {self.programs} writes what it does not "
                f"read; install the package postgresql-{major} on this host (apt.postgresql.org)"
            )
        asked = "SELECT rolname FROM pg_roles WHERE rolname = current_user AND NOT (rolcreatedb OR rolsuper)"
        denied = self.sql("postgres", asked)
        return f"{denied[0][0]} may make no database there; say ALTER ROLE {denied[0][0]} CREATEDB" if denied else ""

    def globals(self, into: Path) -> None:
        """Write the names of the roles, to which what is restored belongs; a superuser alone reads their passwords."""
        self.major()
        made = self.sql("postgres", "SELECT format('CREATE ROLE %I;', rolname) FROM pg_roles WHERE rolname !~ '^pg_'")
        into.write_text("".join(f"{statement}\n" for (statement,) in made), encoding="utf-8")

    def leftovers(self) -> list[str]:
        """Those of these databases: others may use the server, too."""
        own: Sequence[str] = [f"{BESIDE}{name}"[:63] for name in self._names_of_it]
        return [name for name in super().leftovers() if name in own]
