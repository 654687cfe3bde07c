"""The databases of another host of the fleet in a drill of the app's: the newest set of that host, restored here.

Where the database has a host of its own, that one proves its rows and has no release to start, and the app's host has
the release and its volumes and no database. Both keep their sets in one repository, so that one can have all of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.errors import Damaged
from ..postgres.server import Run
from ..release.stage import Unfit
from ..release.store import Store
from . import files
from .away import PROGRAMS
from .likeness import having, likeness_from
from .model import REFUSED, BackupError, Manifest
from .phases import FETCH, FILES, Phases
from .restic import Snapshot
from .saving import Host, serving
from .scratch import Abroad

# Below the scratch directory, where no directory of a set is.
PLACE = ".beyond"
# Letters of a time as all records have it, to the second.
SECOND = len("2026-11-27T10:15:00")


@dataclass(frozen=True)
class Beyond:
    """A set of another host, with its dumps below `place`, and what stands in for the server that it is of."""

    found: Snapshot
    manifest: Manifest
    place: Path
    live: Abroad
    provider: str

    @property
    def spool(self) -> Path:
        return Path(f"{self.place}{self.manifest.spool}")

    @property
    def name(self) -> str:
        return f"set {self.found.short} of {self.manifest.host}"

    def told(self) -> dict[str, Any]:
        """What a proof says of it."""
        return {
            "host": self.manifest.host,
            "set": self.found.short,
            "time": self.manifest.time,
            "rows": self.manifest.rows,
        }


def require(host: Host, source: Host) -> None:
    """Raise BackupError where the databases of that host cannot be restored here for a release."""
    if host.live is not None or source.settings.host == host.settings.host:
        raise BackupError(
            REFUSED,
            f"nothing was done: {host.settings.host} backs a database up itself, so its own set has what a release "
            "needs; leave backup_drill_of (--of) away",
        )


def server_for(
    source: Host, manifest: Manifest, run: Run = command.run, programs: Optional[Path] = None
) -> tuple[Abroad, str]:
    """What stands in for the server of a set here, and as what it runs. Raises Unfit where this host lacks that."""
    name, likeness = manifest.host, likeness_from(manifest.server)
    if not manifest.databases or likeness is None:
        raise Unfit(
            f"the newest set of {name} has no database of a server of its own, or is of before this version, which "
            "writes down what that server is like; make one there (slipway.fleet.backup)"
        )
    likeness = replace(likeness, port=likeness.published or likeness.port, names=(*likeness.names, name), lacks="")
    lacks = []
    if image := likeness.named or source.settings.drill_image:
        if found := having(image, run):
            return Abroad(name, replace(likeness, image=found)), "compose"
        lacks.append(f"the image {image}")
    if ((programs or PROGRAMS) / str(likeness.major) / "bin" / "initdb").exists():
        return Abroad(name, likeness), "native"
    lacks.append(f"the programs of PostgreSQL {likeness.major} (package postgresql-{likeness.major})")
    raise Unfit(f"this host has not {' nor '.join(lacks)}, with which it would stand in for the server of {name}")


def fetched(source: Host, found: Snapshot, manifest: Manifest, place: Path, phases: Phases) -> Beyond:
    """Have the dumps of that set, compared, below the scratch directory. Raises BackupError and Unfit."""
    live, provider = server_for(source, manifest)
    into, wanted = place / PLACE, [manifest.spool, *_settings_of_caches(manifest)]
    sizes = (size for path, (size, _) in manifest.files.items() if any(files.below(path, one) for one in wanted))
    files.room(f"what is fetched of set {found.short} of {manifest.host}", (place, sum(sizes)))
    with phases.within(FETCH):
        source.restic.restore(manifest.content, into, wanted)
    with phases.within(FILES):
        for path in wanted:
            files.same(manifest, into, path)
    return Beyond(found, manifest, into, live, provider)


def _settings_of_caches(manifest: Manifest) -> list[str]:
    return sorted({source for like in manifest.caches for source in like.get("binds") or ()})


def fitting(manifest: Manifest, root: Path) -> tuple[str, str]:
    """The release of an app that suits a set of another host, and why it may not, where nobody knows.

    It is the one that serves, or that of then where the schema of then is recorded as another one. Raises Unfit where
    none serves.
    """
    now = serving(root)
    if not now:
        raise Unfit("it serves no release")
    store = Store(root)
    with suppress(Damaged, OSError):
        begun = [entry for entry in store.releases_recorded() if entry["result"] == "good"]
        then = [entry["release"] for entry in begun if str(entry.get("start"))[:SECOND] <= manifest.time[:SECOND]][-1:]
        if then:
            kept, wanted = (store.last_record(release).get("migration") for release in (now, then[0]))
            return (now if kept == wanted else then[0]), ""
    return now, f"no release is known that served here when {manifest.host} made it ({manifest.time})"
