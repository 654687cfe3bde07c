"""A drill: a set is restored into a server and a directory of its own, and compared with what was written into it.

`pg_restore --list` and a checksum of the dump are no proof; rows that came back are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from . import files
from .model import EMPTY, FAILED, MISSING_PART, NO_REPOSITORY, BackupError, Manifest, failures
from .postgres import Server, missing_roles, same
from .records import now
from .restic import Snapshot
from .saving import GLOBALS, Host
from .scratch import Scratch
from .starting import Starter, start_releases, starter, unstartable


def drill(
    host: Host, wanted: str = "latest", scratch: Callable[..., Any] = Scratch, start: Starter = starter
) -> dict[str, Any]:
    """Prove a set; returns the proof, which is recorded. The caller holds the host's backups. Raises BackupError.

    `releases` of the proof are those that passed their gates on what was restored; `unproven` says why none was tried.
    """
    began = time.monotonic()
    started: list[dict[str, Any]] = []
    try:
        found = host.restic.find(wanted)
    except BackupError as error:
        if error.fault != NO_REPOSITORY:
            raise
        raise BackupError(EMPTY, f"nothing can be proven: {error}") from error
    try:
        with restored(host, found, "the drill of") as (manifest, place):
            files.same(manifest, place)
            if manifest.databases:
                started = _databases(host, manifest, place, scratch, start)
    except BackupError as error:
        raise BackupError(error.fault, f"set {found.short} of {found.time[:16]} is not proven: {error}") from error
    proof = {
        "set": found.short,
        "time": manifest.time,
        "proven": now(),
        "seconds": round(time.monotonic() - began, 1),
        "bytes": manifest.bytes,
        "rows": manifest.rows,
        "tables": sum(len(database.tables) for database in manifest.databases),
        "files": len(manifest.files),
        "releases": started,
        "unproven": unstartable(host, manifest),
    }
    host.records.note(proven=proof, error=host.records.unanswered("drill"))
    return proof


@contextmanager
def restored(host: Host, found: Snapshot, what: str) -> Iterator[tuple[Manifest, Path]]:
    """The files and dumps of a set in the scratch directory, which is gone afterwards. Raises BackupError.

    `what` they are for, as messages say it before `set` and its name.
    """
    scratch = host.settings.scratch
    try:
        with failures(scratch):
            manifest = host.manifest(found)
            complete(host, found, manifest)
            files.room(f"{what} set {found.short}", (scratch, 2 * manifest.bytes))
            place = files.empty(scratch)
            host.restic.restore(manifest.content, place)
            yield manifest, place
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def complete(host: Host, found: Snapshot, manifest: Manifest) -> None:
    """Raise BackupError where the set lacks the part that has its content."""
    content = host.restic.content_of(found)
    if content is None or not manifest.content.startswith(content.short):
        raise BackupError(MISSING_PART, f"its content (snapshot {manifest.content[:8]}) is not in the repository")
    for database in manifest.databases:
        if f"{manifest.spool}/{database.file}" not in manifest.files:
            raise BackupError(MISSING_PART, f"the dump of {database.name} is not in it")


def _databases(
    host: Host, manifest: Manifest, place: Path, scratch: Callable[..., Any], start: Starter
) -> list[dict[str, Any]]:
    """Restore every database, compare what it has, and start the releases against it."""
    spool = Path(f"{place}{manifest.spool}")
    if host.live is None:
        raise BackupError(FAILED, "the set has databases, and backup_database says that this host has no server")
    made = scratch(host.live, host.settings.database)
    files.room("the server of the drill", (made.disk, manifest.bytes))
    with made as server:
        have_roles(server, spool)
        for database in manifest.databases:
            name = database.name
            if name != "postgres":
                server.make(database, name)
            server.fill(name, spool / database.file)
            same(database, server.count(database, name))
        return [] if unstartable(host, manifest) else start_releases(host, manifest, place, server, made.stage, start)


def have_roles(server: Server, spool: Path) -> None:
    """The roles of a set, as far as the server lacks them."""
    script = missing_roles((spool / GLOBALS).read_text(encoding="utf-8"), server.roles())
    if script:
        server.run_globals(script)
