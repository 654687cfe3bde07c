"""A restore: beside what is live, compared with what was saved, and then in its place by a change of names.

What was there is kept under another name; nothing here removes it.
"""

from __future__ import annotations

import glob
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from ..host.durable import sync_directory
from . import files, stores
from .confirming import not_confirmed
from .drill import complete, have_roles
from .model import MIB, REFUSED, BackupError, Database, Manifest, failures
from .postgres import BEFORE, BESIDE, BROUGHT, same
from .records import at_time, now
from .saving import GLOBALS, SAFETY, Host, save, serving

# Restored directories are made beside the live ones under names that begin so.
DOTTED = ".slipway-"
# A time as names have it, so that what is kept of `media` is not taken for that of `old-media`.
MOMENT = "????-??-??T??:??:??Z"


class Restore:
    """A set, and what of it is to be restored: `all`, or names like `database:links` and `directory:/srv/uploads`.

    It is one of `source`, which may be another host of the repository than the one that it is restored on.
    """

    def __init__(self, host: Host, wanted: str, parts: Sequence[str], source: Optional[Host] = None) -> None:
        """Raises BackupError where the set or a part of it is not there."""
        self.host, self.source = host, source or host
        self.found = self.source.restic.find(wanted)
        self.of = other(self.source, host)
        self.set, self.name = self.found.short, f"set {self.found.short}{of(self.of)}"
        self.manifest = self.source.manifest(self.found)
        complete(self.source, self.found, self.manifest)
        names, rest = stores.chosen(self.manifest, parts)
        self.databases, self.directories = chosen(self.manifest, rest, str(host.settings.apps))
        self.stores = stores.live(host.settings.apps, names)
        self._all = list(parts) == ["all"]
        if self.databases and host.live is None:
            raise BackupError(
                REFUSED, "nothing was done: the set has a database, and this host runs none (backup_database: none)"
            )

    def plan(self) -> dict[str, Any]:
        """What will be done, how long it takes, and why it may not be done. Changes nothing."""
        proven = self.host.records.read().get("proven") or {}
        return {
            "set": self.found.short,
            "of": self.of,
            "content": self.manifest.content[:8],
            "time": self.manifest.time,
            "databases": [database.name for database in self.databases],
            "directories": list(self.directories),
            "stores": [store.name for store in self.stores],
            "rows": sum(database.rows for database in self.databases),
            "bytes": self.bytes,
            "seconds": None if self.of else proven.get("seconds"),
            "whole": self._all,
            "proven": proven.get("set") == self.found.short,
            "unfit": self.unfit(),
            "impossible": self.impossible(),
            "names": self.names(),
            "absent": files.absent(self.host.settings),
        }

    @property
    def bytes(self) -> int:
        """Of what is restored."""
        saved = [self._saved(store) for store in self.stores]
        return self._dumps() + sum(map(self._within, [*self.directories, *saved]))

    def _dumps(self) -> int:
        return sum(self.manifest.files[f"{self.manifest.spool}/{database.file}"][0] for database in self.databases)

    def _within(self, directory: str) -> int:
        return sum(size for path, (size, _) in self.manifest.files.items() if files.below(path, directory))

    def _room(self) -> None:
        """Raise BackupError where a disk, the server's included, is too small for what comes beside what is there."""
        saved = sum(self._within(self._saved(store)) for store in self.stores)
        needs = [(self.host.settings.scratch, self._dumps() + saved)]
        if self.databases and self.host.live is not None and self.host.live.own:
            disk, log = self.host.live.disk()
            size = sum(database.bytes for database in self.databases)
            # What is not yet in the repository is kept for that besides.
            log += self.host.settings.wal_room * MIB if self.host.settings.wal else 0
            needs.append((disk, size + min(size, log)))
        files.room("the restore", *needs, *((Path(path).parent, self._within(path)) for path in self.directories))

    def names(self) -> list[str]:
        """What is to be typed, either of them: all that is replaced by its names, or the host for everything of it."""
        databases = [database.name for database in self.databases]
        if self._all:
            return [*([",".join(sorted(databases))] if databases else []), self.host.settings.host]
        return [",".join(sorted([*databases, *self.directories, *(store.name for store in self.stores)]))]

    def impossible(self) -> str:
        """Why a part of the set cannot take the place of what is there; empty where each can."""
        own = (str(self.host.settings.apps), str(self.host.settings.place))
        mounted = files.mounts()
        for path in self.directories:
            if at := next((at for at in mounted if files.below(at, path)), None):
                why = f"something is mounted at {at}, which cannot change its place with what is restored"
            elif within := next((within for within in own if files.below(within, path)), None):
                why = f"it has {within} in it, which is Slipway's own"
            else:
                continue
            return (
                f"directory:{path} cannot be restored in its place: {why}. Restore the other parts (slipway_restore), "
                "and take what you need of this one by hand: on the host slipway-backup restic restore "
                f"{self.manifest.content[:8]} --target /root/look --include {path}"
            )
        if self.databases and self.host.live is not None and (why := self.host.live.unwritable()):
            return f"no database can be restored: {why}"
        for store in self.stores:
            if why := stores.unreadable(self.manifest, store):
                return (
                    f"{stores.PART}{store.name} cannot be restored: {why}. Have Redis 7 or later there (redis_image, "
                    "or the distribution's), or restore the other parts (slipway_restore)"
                )
        return ""

    def unfit(self) -> str:
        """Why what is restored does not fit the release that serves; empty where it does, or nobody can tell."""
        for database in self.databases:
            if self.host.live is None or not database.heads:
                continue
            try:
                heads = self.host.live.heads(database.name)
            except BackupError:  # too damaged to tell, which is a reason to restore
                continue
            if heads and heads != database.heads:
                return (
                    f"the schema of {database.name} in {self.name} is {', '.join(database.heads)}, and what "
                    f"serves has {', '.join(heads)}. {self._fitting()}"
                )
        return ""

    def _fitting(self) -> str:
        apps = self.manifest.apps
        now_serving = {name: serving(self.host.settings.apps / name) for name in apps}
        fits = [f"{release} of {app}" for app, release in apps.items() if release and release != now_serving[app]]
        way = "or say -e slipway_schema=any and migrate afterwards with a deploy"
        if fits:
            return f"It fits the release {', '.join(fits)}: roll back to that first (-e fastapi_app_release=), {way}"
        return f"Deploy the release that it fits first, {way}"

    def run(self, confirmed: str, any_schema: bool = False, safety: bool = True) -> dict[str, Any]:
        """Restore; returns what was done. The caller holds the host's backups. Raises BackupError.

        Nothing that is live was changed then, or the message says what. Without `safety` no set of what is there is
        made before: it may be too damaged for one, and is kept under another name in any case.
        """
        began = time.monotonic()
        if unconfirmed := not_confirmed(self.name, self.names(), confirmed):
            raise BackupError(REFUSED, unconfirmed)
        if impossible := self.impossible():
            raise BackupError(REFUSED, f"nothing was done: {impossible}")
        if not any_schema and (unfit := self.unfit()):
            raise BackupError(REFUSED, f"nothing was done: {unfit}")
        self._forget_killed()
        self._room()
        made = self._safety() if safety else {}
        try:
            with failures(self.host.settings.place):
                done = self._replace()
        finally:
            shutil.rmtree(self.host.settings.scratch, ignore_errors=True)
        with suppress(OSError):  # it is restored, whether that can be noted or not
            self.host.records.note(error=self.host.records.unanswered("restore"))
        return {
            "set": self.set,
            "of": self.of,
            "time": self.manifest.time,
            "safety": made.get("set"),
            "absent": made.get("absent") or [],
            "seconds": round(time.monotonic() - began, 1),
            "restored": done,
            "restart": bool(self.directories),
        }

    def _safety(self) -> dict[str, Any]:
        try:
            return save(self.host, SAFETY)
        except BackupError as error:
            raise BackupError(
                error.fault,
                f"nothing was done, since no set of what is there could be made: {error}. To restore without one, say "
                "-e slipway_safety=none (on the host --no-safety); what is there is kept beside all the same",
            ) from error

    def _replace(self) -> list[dict[str, Any]]:
        """Have everything beside what is live, whole and compared, and only then change names."""
        made: list[str] = []
        beside: list[Path] = []
        exchanged: list[tuple[Path, Path, Optional[Path]]] = []
        try:
            self._databases(made)
            for directory in self.directories:
                path = Path(directory)
                files.have_parents(path)
                beside.append(files.empty(path.parent / f"{DOTTED}restoring-{path.name}"))
                self.source.restic.restore(self.manifest.content, beside[-1], [directory])
                files.same(self.manifest, beside[-1], directory)
            at = now()
            with stores.laid(self._stores(), at) as laid:
                for directory, new in zip(self.directories, beside):
                    exchanged.append(_exchanged(Path(directory), Path(f"{new}{directory}"), at))
                with stores.replaced(laid, at) as stored:
                    # The last step, and all or nothing: what goes wrong until then is undone.
                    done = self._renamed(made, at)
            made = []
            done += [{"name": f"directory:{path}", "kept": str(kept) if kept else None} for path, _, kept in exchanged]
            return done + stored
        except BaseException:
            for path, new, kept in reversed(exchanged):
                os.rename(path, new)
                if kept:
                    os.rename(kept, path)
            raise
        finally:
            for name in made:
                if self.host.live is not None:
                    self.host.live.drop(name)
            for path in beside:
                shutil.rmtree(path, ignore_errors=True)

    def _forget_killed(self) -> None:
        """Take away what a restore that was killed has left beside the live databases and directories."""
        if self.databases and self.host.live is not None:
            for name in self.host.live.leftovers():
                self.host.live.drop(name)
        for store in self.stores:
            stores.heal(store, start=False)  # one that does not start is a reason to restore it
        for directory in map(Path, self.directories):
            if not directory.exists() and (kept := _kept_by_killed(directory)):
                os.rename(kept, directory)
        for parent in {Path(directory).parent for directory in self.manifest.directories}:
            for left in parent.glob(f"{DOTTED}restoring-*"):
                shutil.rmtree(left, ignore_errors=True)

    def _saved(self, store: stores.Store) -> str:
        """Where a set has the files of a store."""
        return f"{self.manifest.spool}/{stores.SAVED}{store.name}"

    def _stores(self) -> list[tuple[stores.Store, Path]]:
        """The saved files of each store, compared, in the scratch directory."""
        scratch, wanted = self.host.settings.scratch, [self._saved(store) for store in self.stores]
        if wanted:
            self.source.restic.restore(self.manifest.content, scratch, wanted)
        for path in wanted:
            files.same(self.manifest, scratch, path)
        return [(store, Path(f"{scratch}{path}")) for store, path in zip(self.stores, wanted)]

    def _databases(self, made: list[str]) -> None:
        """New databases with what the set has, compared; their names are added to `made`."""
        live, spool = self.host.live, self.manifest.spool
        if not self.databases or live is None:
            return
        scratch = files.empty(self.host.settings.scratch)
        wanted = [f"{spool}/{database.file}" for database in self.databases]
        self._fetch(scratch, [*wanted, f"{spool}/{GLOBALS}"])
        for path in wanted:
            files.same(self.manifest, scratch, path)
        if live.own:
            have_roles(live, Path(f"{scratch}{spool}"))
        for database in self.databases:
            own = f"{BESIDE}{database.name}"[:63]
            live.make(database, own)
            made.append(own)
            live.fill(own, Path(f"{scratch}{spool}") / database.file)
            same(database, live.count(database, own))

    def _fetch(self, into: Path, wanted: Sequence[str]) -> None:
        """Have dumps below a directory, each under its whole path."""
        self.source.restic.restore(self.manifest.content, into, wanted)

    def _renamed(self, made: Sequence[str], at: str) -> list[dict[str, Any]]:
        if self.host.live is None or not made:
            return []
        kept_as = f"{BEFORE}{at.lower().replace(':', '').replace('-', '')}_"
        names = [(database.name, own, f"{kept_as}{database.name}"[:63]) for database, own in zip(self.databases, made)]
        there = self.host.live.swap(names)
        return [
            {"name": f"database:{database.name}", "rows": database.rows, "kept": kept if name in there else None}
            for database, (name, _, kept) in zip(self.databases, names)
        ]


def other(source: Host, host: Host) -> str:
    """Whose sets these are, where that is another host; empty where it is the same."""
    whose = source.settings.host
    return "" if whose == host.settings.host else whose


def of(whose: str) -> str:
    """That as messages have it."""
    return f" of {whose}" if whose else ""


def _kept_by_killed(directory: Path) -> Optional[Path]:
    """What a restore that was killed between its two renames has put aside of a directory, if one was.

    It has left what was to take the place, made before that. What earlier restores have kept is older: these took away
    what they had beside.
    """
    try:
        since = at_time((directory.parent / f"{DOTTED}restoring-{directory.name}").stat().st_ctime)
    except FileNotFoundError:
        return None
    begin = f"{DOTTED}before-"
    kept = sorted(directory.parent.glob(f"{begin}{MOMENT}-{glob.escape(directory.name)}"))
    return kept[-1] if kept and kept[-1].name[len(begin) :] >= since else None


def _exchanged(path: Path, new: Path, at: str) -> tuple[Path, Path, Optional[Path]]:
    """Have a restored directory in the place of the live one; where each was, and what that is kept as, if it was."""
    kept = path.parent / f"{DOTTED}before-{at}-{path.name}" if path.exists() else None
    if kept:
        os.rename(path, kept)
    try:
        os.rename(new, path)
        sync_directory(path.parent)
    except OSError:
        if path.exists():
            os.rename(path, new)
        if kept:
            os.rename(kept, path)
        raise
    return path, new, kept


def chosen(manifest: Manifest, parts: Sequence[str], apps: str) -> tuple[list[Database], list[str]]:
    """The databases and directories that the words name. Raises BackupError for one that the set has not.

    A directory within another one comes with that. `all` leaves out what PostgreSQL brings, and the records of apps,
    which would tell of releases of another time.
    """
    directories = [path for path in manifest.directories if not files.below(path, apps)]
    if list(parts) == ["all"]:
        return [database for database in manifest.databases if database.name not in BROUGHT], outermost(directories)
    databases, paths = [], []
    for part in parts:
        kind, _, name = part.partition(":")
        if kind == "database" and name not in BROUGHT:
            databases.append(manifest.database(name))
        elif kind == "directory" and os.path.normpath(name) in directories:
            paths.append(os.path.normpath(name))
        else:
            offered = [f"database:{database.name}" for database in manifest.databases if database.name not in BROUGHT]
            offered += [f"directory:{path}" for path in directories]
            offered += [f"{stores.PART}{name}" for name in stores.saved(manifest)]
            raise BackupError(
                REFUSED,
                f"nothing was done: the set has no {part}; say all, or of these: {', '.join(offered) or 'none'}",
            )
    return databases, outermost(paths)


def outermost(directories: Sequence[str]) -> list[str]:
    return [
        path for path in directories if not any(path != other and files.below(path, other) for other in directories)
    ]
