"""A restore to a point in time: the databases as they were then, dumped from a server that is recovered beside.

From there on it is a restore like that of a set: beside what is live, compared, and in its place by a change of names.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..postgres.server import Run
from . import files
from .archive import Archive
from .confirming import not_confirmed
from .model import REFUSED, BackupError, Database, Manifest
from .points import chosen, moment
from .postgres import BROUGHT
from .recovering import Beside, Recovered
from .restoring import Restore, of, other
from .saving import GLOBALS, Host
from .stores import Store
from .wal import State, reachable

DUMPS = "point-dumps"


def forget_killed(host: Host, run: Run = command.run) -> None:
    """Take away what a recovery that was killed has left: a server with all data, and dumps of it. Raises BackupError.

    The caller holds the host's backups.
    """
    shutil.rmtree(host.settings.place / DUMPS, ignore_errors=True)
    if host.live is not None:
        left = Beside(host.live, host.settings, run)
        if left.root.exists():
            left.remove()


class PointRestore(Restore):
    """A point in time, and which databases are to be as they were then: `all`, or names like `database:links`."""

    def __init__(
        self,
        host: Host,
        archive: Archive,
        wanted: str,
        parts: Sequence[str],
        recover: Callable[..., Any] = Recovered,
        source: Optional[Host] = None,
    ) -> None:
        """Raises BackupError where the point cannot be reached, or has not what is named."""
        if host.live is None or not host.live.own:
            raise BackupError(REFUSED, "nothing was done: this host runs no database server (backup_database: none)")
        at = moment(wanted)
        self.point = at.isoformat().replace("+00:00", "Z")
        self.host, self.source, self._archive, self._recover = host, source or host, archive, recover
        self.of = other(self.source, host)
        now = host.live.major()
        found = reachable(archive, host.settings)
        if self.of and not found:
            self.source.restic.find()  # says whose sets there are, where it has none either
        self._way = chosen(found, self.point, now, self.of)
        self._about = archive.about(self._way.base)
        then = self._about["major"]
        if then != now:
            raise BackupError(
                REFUSED,
                f"nothing was done: until {self._way.until} the server was PostgreSQL {then}; it is {now}, which does "
                "not read its data; restore a set of that time instead (slipway_set)",
            )
        self._all = list(parts) == ["all"]
        self._wanted = _databases(self._about["databases"], parts)
        self.set, self.name = "", f"the point in time {self.point}{of(self.of)}"
        self.manifest = Manifest(host.settings.host, self.point, "", str(host.settings.spool))
        self.databases: list[Database] = []
        self.directories: list[str] = []
        self.stores: list[Store] = []

    @property
    def _dumps_at(self) -> Path:
        return self.host.settings.place / DUMPS

    def plan(self) -> dict[str, Any]:
        return {
            "set": self.set,
            "of": self.of,
            "point": self.point,
            "base": self._way.base.time,
            "segments": self._way.pieces[-1].last - self._way.base.first + 1,
            "content": "",
            "time": self.point,
            "databases": list(self._wanted),
            "directories": [],
            "stores": [],
            "rows": None,
            "bytes": self._about["bytes"],
            # Of the last drill of a point, which recovers and reads all of it, as a restore does first.
            "seconds": None if self.of else (State(self.host.settings).read().get("proven") or {}).get("seconds"),
            "whole": self._all,
            "proven": False,
            "unfit": "",
            "impossible": "",
            "names": self.names(),
            "absent": files.absent(self.host.settings),
        }

    def names(self) -> list[str]:
        return [",".join(sorted(self._wanted)), *([self.host.settings.host] if self._all else [])]

    def run(self, confirmed: str, any_schema: bool = False, safety: bool = True) -> dict[str, Any]:
        if unconfirmed := not_confirmed(self.name, self.names(), confirmed):
            raise BackupError(REFUSED, unconfirmed)
        try:
            self._recovered()
            return {**super().run(confirmed, any_schema, safety), "point": self.point}
        finally:
            shutil.rmtree(self._dumps_at, ignore_errors=True)

    def prove(self) -> dict[str, Any]:
        """Recover the point aside, read all of it, and take it away; what there was. Raises BackupError."""
        began = time.monotonic()
        try:
            self._recovered()
        finally:
            shutil.rmtree(self._dumps_at, ignore_errors=True)
        return {"time": self.point, "rows": self.manifest.rows, "seconds": round(time.monotonic() - began, 1)}

    def _recovered(self) -> None:
        """Have the databases as they were, dumped and counted, as a set would have them."""
        into = files.empty(self._dumps_at)
        with self._recover(
            self._archive, self.host.live, self.host.settings, self._way, self._about, self.point
        ) as server:
            there = {database.name: database for database in server.databases()}
            if absent := [name for name in self._wanted if name not in there]:
                raise BackupError(
                    REFUSED,
                    f"nothing was done: at {self.point} there was no database {absent[0]}; there were: "
                    f"{', '.join(sorted(set(there) - set(BROUGHT))) or 'none'}",
                )
            databases = [there[name] for name in self._wanted]
            files.room("the dump of the databases", (into, sum(database.bytes for database in databases)))
            dumped = [server.dump(database, into / database.file) for database in databases]
            server.globals(into / GLOBALS)
        spool = self.host.settings.spool
        kept = {f"{spool}/{path.name}": (path.stat().st_size, files.sha256(str(path))) for path in into.iterdir()}
        self.databases = dumped
        self.manifest = Manifest(
            self.host.settings.host, self.point, "", str(spool), databases=tuple(dumped), files=kept
        )

    def _fetch(self, into: Path, wanted: Sequence[str]) -> None:
        place = Path(f"{into}{self.manifest.spool}")
        place.mkdir(mode=0o700, parents=True)
        for path in wanted:
            os.rename(self._dumps_at / Path(path).name, place / Path(path).name)


def _databases(there: Sequence[str], parts: Sequence[str]) -> list[str]:
    """The databases that the words name; of `all` those that the base has. Raises BackupError for anything else."""
    known = [name for name in there if name not in BROUGHT]
    if list(parts) == ["all"]:
        if not known:
            raise BackupError(REFUSED, "nothing was done: the server had no database of an app then")
        return known
    named = []
    for part in parts:
        kind, _, name = part.partition(":")
        if kind != "database" or not name or name in BROUGHT:
            offered = ", ".join(f"database:{one}" for one in known)
            raise BackupError(
                REFUSED,
                f"nothing was done: {part} cannot be had of a point in time, only databases can; say all, or of these: "
                f"{offered}. Directories and stores come from a set (slipway_set)",
            )
        named.append(name)
    return named
