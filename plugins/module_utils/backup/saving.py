"""One backup of a host: everything that cannot be made again, as one set of one time."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Optional

from ..host.durable import read_json
from ..host.errors import Damaged, SlipwayError
from ..postgres.server import SUPERUSERS
from . import cache, files, stores
from .away import Away
from .model import FAILED, NO_REPOSITORY, BackupError, Manifest, Settings, failures, manifest_of
from .postgres import LOCKED, PATIENT, Server
from .records import Records, now
from .restic import CONTENT, EXTRA, REGULAR, SET, Restic, Snapshot

GLOBALS = "globals.sql"
MANIFEST = "manifest.json"
# Why the sets are made that the retention by days, weeks and months is about; others stay for some time beside them.
BY_TIMER = "timer"
ASKED = (BY_TIMER, "asked")
# Why one is made that a restore makes first, of what it can: what is lost is the reason for the restore.
SAFETY = "before-a-restore"
# Why one is made that a deploy or an upgrade of the database waits for.
MIGRATION, UPGRADE = "before-a-migration", "before-an-upgrade"
# In how many backups all data of the repository is read once.
PARTS = 7


class Host:
    """A host with its settings, its repository, its records and its database server, where it has one."""

    def __init__(self, settings: Settings, restic: Optional[Restic] = None, live: Optional[Server] = None) -> None:
        self.settings = settings
        self.restic = restic or Restic(settings)
        self.records = Records(settings.place)
        self.live = live or live_of(settings)

    def manifest(self, found: Snapshot) -> Manifest:
        """What a set has to have. Raises BackupError."""
        into = self.settings.place / MANIFEST
        try:
            self.restic.read(found.id, str(self.settings.spool / MANIFEST), into)
            manifest = manifest_of(read_json(into) or {})
        except Damaged as error:
            raise BackupError(FAILED, f"the manifest of set {found.short} cannot be read: {error}") from error
        finally:
            into.unlink(missing_ok=True)
        return manifest


def live_of(settings: Settings) -> Optional[Server]:
    """The server whose databases this host backs up, where there is one."""
    if settings.database in SUPERUSERS:
        return Server(SUPERUSERS[settings.database])
    return Away(settings) if settings.elsewhere else None


def save(host: Host, reason: str, more: Optional[Callable[[Host], Sequence[str]]] = None) -> dict[str, Any]:
    """Make a set; returns its record. The caller holds the host's backups. Raises BackupError; no set was lost then.

    Where the repository is tended, `more` does what else is to be done of an evening, and names snapshots that go.

    One before a restore lacks named directories that are not there (`absent`), and the repository is not tended after
    it: the site is down meanwhile, and what is wrong with other sets is no reason against the restore. Nor is it after
    one for which a deploy or an upgrade of the database waits.
    """
    began = time.monotonic()
    try:
        with failures(host.settings.place):
            record = _save(host, reason, began)
            sets = [*(host.records.read().get("sets") or ()), _told(record)]
            if reason == SAFETY:
                host.records.note(newest=record, sets=sets)
            else:
                host.records.note(newest=record, sets=sets, error=host.records.unanswered("backup", "restore"))
            if reason not in (SAFETY, MIGRATION, UPGRADE):
                _tend(host, more(host) if more else ())
    finally:
        shutil.rmtree(host.settings.spool, ignore_errors=True)
    return record


def _save(host: Host, reason: str, began: float) -> dict[str, Any]:
    settings, restic = host.settings, host.restic
    _open(host)
    absent = files.absent(settings)
    if absent and reason != SAFETY:
        raise BackupError(FAILED, f"backup_directories names {absent[0]}, and this host has no such directory")
    directories = files.saved(settings, cache.settings_of(settings.apps))
    spool = files.empty(settings.spool)
    databases = host.live.databases() if host.live else []
    kept = stores.stores(settings.apps)
    needed = sum(database.bytes for database in databases) + sum(store.bytes for store in kept)
    files.room("the dump of the databases and stores", (spool, needed))
    if settings.local:
        files.room("the repository", (settings.local, needed))
    at = now()
    stamp = f"at-{at}-{secrets.token_hex(3)}"
    patience = PATIENT if reason == BY_TIMER else LOCKED
    dumped = [host.live.dump(database, spool / database.file, patience) for database in databases if host.live]
    if host.live:
        host.live.globals(spool / GLOBALS)
    for store in kept:
        store.copy(spool / f"{stores.SAVED}{store.name}")
    content, added = restic.save([str(spool), *directories], CONTENT, stamp, files.excluded(settings))
    listing = restic.listing(content, settings.place / "listing")
    manifest = Manifest(
        host=settings.host,
        time=at,
        content=content,
        spool=str(spool),
        databases=tuple(dumped),
        directories=tuple(directories),
        files=files.digests(listing),
        apps={path.name: serving(path) for path in files.apps(settings)},
        **_beyond(host),
    )
    (settings.place / "listing").unlink()
    (spool / MANIFEST).write_text(json.dumps(manifest.json()), encoding="utf-8")
    found, more = restic.save(
        [str(spool / MANIFEST)], SET, stamp, more=[REGULAR if reason in ASKED else EXTRA, f"reason-{reason}"]
    )
    return {
        "set": found[:8],
        "time": manifest.time,
        "seconds": round(time.monotonic() - began, 1),
        "bytes": manifest.bytes,
        "added": added + more,
        "rows": manifest.rows,
        "files": len(manifest.files),
        "databases": [database.name for database in dumped],
        "stores": [store.name for store in kept],
        "repository": settings.repository,
        "reason": reason,
        "absent": absent,
    }


def _open(host: Host) -> None:
    """Have a repository that can be written to. One that had sets and is gone is not made anew. Raises BackupError."""
    known = host.records.read().get("newest") or {}
    if host.restic.unlock():
        return
    if known.get("repository") == host.settings.repository:
        raise BackupError(
            NO_REPOSITORY,
            f"nothing was done: the repository {host.settings.repository} had set {known['set']} of {known['time']} "
            "and is gone; is its disk mounted? If it is gone for good, name a new place in backup_repository",
        )
    host.restic.make()


def _tend(host: Host, more: Sequence[str]) -> None:
    """Forget what is too old, and `more`, and read a part of the data. The proven set stays until another one is.

    Nothing is forgotten in a repository that refuses that.
    """
    known = host.records.read()
    proven = (known.get("proven") or {}).get("set")
    part = int(known.get("checked") or 0) % PARTS + 1
    if not host.settings.append_only:
        # Hosts of one repository keep none of their log meanwhile, and pieces of a log take little room by themselves.
        host.restic.tidy([proven] if proven else [], more, prune=part == 1)
    host.restic.check(part, PARTS)
    host.records.note(checked=part, sets=known_sets(host))


def known_sets(host: Host) -> list[dict[str, Any]]:
    """Those of the repository, oldest first, each with what this host remembers of it. Raises BackupError."""
    known = {one["set"]: one for one in host.records.read().get("sets") or ()}
    return [{"set": found.short, "time": found.time, **known.get(found.short, {})} for found in host.restic.sets()]


def _beyond(host: Host) -> dict[str, Any]:
    """What server and caches are like, for a drill on another host; where nobody knows, a set is one still."""
    with suppress(SlipwayError, LookupError, ValueError):
        if host.live and host.live.own:
            return {"server": asdict(host.live.likeness()), "caches": tuple(cache.likenesses(host.settings.apps))}
    return {}


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """What of a set stands in the list of sets."""
    return {name: record[name] for name in ("set", "time", "bytes", "added", "reason")}


def serving(app: Path) -> str:
    """The release that an app's records name; empty where they do not."""
    try:
        return str((read_json(app / "state.json") or {}).get("release") or "")
    except (Damaged, OSError):
        return ""
