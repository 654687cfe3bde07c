"""A drill: a set is restored into a server and a directory of its own, and compared with what was written into it.

`pg_restore --list` and a checksum of the dump are no proof; rows that came back are.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Callable, Optional

from ..release.stage import Unfit
from . import files
from .beyond import Beyond, fetched, require
from .model import EMPTY, FAILED, MISSING_PART, NO_REPOSITORY, BackupError, Manifest, failures
from .phases import FETCH, FILES, FILL, FIND, RELEASE, ROWS, SERVER, TIDY, Phases
from .postgres import Server, missing_roles, same
from .records import now
from .restic import Snapshot
from .saving import GLOBALS, Host, known_sets
from .scratch import Scratch
from .starting import Starter, start_beyond, start_releases, starter, unstartable


def drill(
    host: Host,
    wanted: str = "latest",
    scratch: Callable[..., Any] = Scratch,
    start: Starter = starter,
    source: Optional[Host] = None,
) -> dict[str, Any]:
    """Prove a set; returns the proof, which is recorded. The caller holds the host's backups. Raises BackupError.

    `releases` of the proof are those that passed their gates on what was restored; `unproven` says why none was tried.
    `source` is the host of the databases where it is another one, whose newest set is restored besides; that is `of`.
    """
    if source:
        require(host, source)
    began = time.monotonic()
    phases = Phases()
    tried = {"time": now(), "set": wanted}
    try:
        with phases.within(FIND):
            found = _found(host, wanted)
        tried["set"] = found.short
        proof = _proof(host, found, phases, scratch, start, source)
    except BackupError as error:
        with suppress(OSError):  # of a full disk the set that is too old tells
            host.records.drilled({**tried, "fault": error.fault, "message": str(error), **_measured(began, phases)})
        raise
    proof |= {"seconds": _measured(began, phases)["seconds"], "proven": now()}
    host.records.drilled({**tried, "fault": "", **_measured(began, phases), **_kept(proof)})
    host.records.note(proven=proof, error=host.records.unanswered("drill"), sets=known_sets(host))
    return proof


def _measured(began: float, phases: Phases) -> dict[str, Any]:
    return {"seconds": round(time.monotonic() - began, 1), "phases": phases.told()}


def _kept(proof: Mapping[str, Any]) -> dict[str, Any]:
    """What of a proof stands in the list of drills."""
    return {name: proof[name] for name in ("bytes", "rows", "tables", "files", "releases", "unproven", "of")}


def _found(host: Host, wanted: str) -> Snapshot:
    try:
        return host.restic.find(wanted)
    except BackupError as error:
        if error.fault != NO_REPOSITORY:
            raise
        raise BackupError(EMPTY, f"nothing can be proven: {error}") from error


def _proof(
    host: Host,
    found: Snapshot,
    phases: Phases,
    scratch: Callable[..., Any],
    start: Starter,
    source: Optional[Host],
) -> dict[str, Any]:
    started: list[dict[str, Any]] = []
    of: Optional[dict[str, Any]] = None
    try:
        with restored(host, found, "the drill of", phases) as (manifest, place):
            unproven = unstartable(host, manifest, source is not None)
            with phases.within(FILES):
                files.same(manifest, place)
            if manifest.databases:
                started = _databases(host, manifest, place, scratch, start, phases)
            elif source and not unproven:
                try:
                    with beside(source, place, phases) as beyond:
                        of = beyond.told()
                        started = _beyond(host, beyond, place, scratch, start, phases)
                except Unfit as error:
                    unproven = str(error)
    except BackupError as error:
        raise BackupError(error.fault, f"set {found.short} of {found.time[:16]} is not proven: {error}") from error
    return {
        "set": found.short,
        "time": manifest.time,
        "bytes": manifest.bytes,
        "rows": manifest.rows,
        "tables": sum(len(database.tables) for database in manifest.databases),
        "files": len(manifest.files),
        "releases": started,
        "unproven": unproven,
        "of": of,
    }


@contextmanager
def beside(source: Host, place: Path, phases: Optional[Phases] = None) -> Iterator[Beyond]:
    """The newest set of another host below the scratch directory; what fails within names it.

    Raises BackupError, and Unfit where this host cannot have a server for it.
    """
    phases, name = phases or Phases(), f"the newest set of {source.settings.host}"
    try:
        with phases.within(FIND):
            found = source.restic.find()
            name = f"set {found.short} of {source.settings.host}"
            manifest = source.manifest(found)
            complete(source, found, manifest)
        yield fetched(source, found, manifest, place, phases)
    except BackupError as error:
        raise BackupError(error.fault, f"with {name}: {error}") from error


@contextmanager
def restored(
    host: Host, found: Snapshot, what: str, phases: Optional[Phases] = None
) -> Iterator[tuple[Manifest, Path]]:
    """The files and dumps of a set in the scratch directory, which is gone afterwards. Raises BackupError.

    `what` they are for, as messages say it before `set` and its name.
    """
    phases = phases or Phases()
    scratch = host.settings.scratch
    try:
        with failures(scratch):
            with phases.within(FIND):
                manifest = host.manifest(found)
                complete(host, found, manifest)
            files.room(f"{what} set {found.short}", (scratch, 2 * manifest.bytes))
            place = files.empty(scratch)
            with phases.within(FETCH):
                host.restic.restore(manifest.content, place)
            yield manifest, place
    finally:
        with phases.within(TIDY):
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
    host: Host, manifest: Manifest, place: Path, scratch: Callable[..., Any], start: Starter, phases: Phases
) -> list[dict[str, Any]]:
    """Restore every database, compare what it has, and start the releases against it."""
    spool = Path(f"{place}{manifest.spool}")
    if host.live is None:
        raise BackupError(FAILED, "the set has databases, and this host neither runs a server nor knows one elsewhere")
    made = scratch(host.live, host.settings.database)
    files.room("the server of the drill", (made.disk, manifest.bytes))
    with _filled(made, manifest, spool, phases) as server:
        if unstartable(host, manifest):
            return []
        with phases.within(RELEASE):
            return start_releases(host, manifest, place, server, made.stage, start)


def _beyond(
    host: Host, found: Beyond, place: Path, scratch: Callable[..., Any], start: Starter, phases: Phases
) -> list[dict[str, Any]]:
    """The same with the databases of another host."""
    made = scratch(found.live, found.provider)
    files.room("the server of the drill", (made.disk, found.manifest.bytes))
    with _filled(made, found.manifest, found.spool, phases, logins=True), phases.within(RELEASE):
        return start_beyond(host, found, place, made, start)


@contextmanager
def _filled(made: Any, manifest: Manifest, spool: Path, phases: Phases, logins: bool = False) -> Iterator[Server]:
    """The server of a drill with every database of a set, compared. Raises BackupError."""
    stack = ExitStack()
    try:
        with phases.within(SERVER):
            server = stack.enter_context(made)
            have_roles(server, spool, logins)
        for database in manifest.databases:
            name = database.name
            with phases.within(FILL):
                if name != "postgres":
                    server.make(database, name)
                server.fill(name, spool / database.file)
            with phases.within(ROWS):
                same(database, server.count(database, name))
        yield server
    finally:
        with phases.within(TIDY):
            stack.close()


def have_roles(server: Server, spool: Path, logins: bool = False) -> None:
    """The roles of a set, as far as the server lacks them; with `logins` those of apps are good as they were."""
    script = missing_roles((spool / GLOBALS).read_text(encoding="utf-8"), server.roles(), logins)
    if script:
        server.run_globals(script)
