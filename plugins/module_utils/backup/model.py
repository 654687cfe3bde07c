"""What a backup is made of and by: the settings of a host, a set, its manifest, and what can be wrong with it."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..host.errors import SlipwayError

# The faults that a drill, a restore or a backup is refused for, by name.
WRONG_KEY = "wrong key"
LOGIN = "login refused"
HOST_KEY = "host key"
UNREACHABLE = "unreachable"
NO_REPOSITORY = "no repository"
EMPTY = "empty"
DAMAGED = "damaged"
MISSING_PART = "missing part"
DIFFERENT = "different"
LOCKED = "locked"
DISK_FULL = "disk full"
GATE = "gate"
BUSY = "busy"
REFUSED = "refused"
FAILED = "failed"

FORMAT = 1
# What the role wrote for this host.
CONFIG = Path("/etc/slipway/backup/config.json")
# What the kernel says of a full disk: ENOSPC, EDQUOT.
FULL = (errno.ENOSPC, errno.EDQUOT)
MIB = 1 << 20


class BackupError(SlipwayError):
    """A backup, a drill or a restore did not do what it was asked; `fault` is one of the names above."""

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message, {"fault": fault})
        self.fault = fault


@contextmanager
def failures(place: Path) -> Iterator[None]:
    """Raise BackupError for whatever else goes wrong within, a full disk by its name; `place` is where, if unsaid."""
    try:
        yield
    except BackupError:
        raise
    except SlipwayError as error:
        raise BackupError(FAILED, str(error)) from error
    except OSError as error:
        fault = DISK_FULL if error.errno in FULL else FAILED
        raise BackupError(fault, f"{error.filename or place}: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise BackupError(FAILED, f"`{' '.join(error.cmd[:3])}` did not end within {error.timeout:.0f} s") from error


@dataclass(frozen=True)
class Settings:
    """What the role wrote for this host.

    `directories` are paths, `volumes` patterns that may match nothing; `keep` counts days, weeks and months.
    `releases`: whether a drill starts those that serve, which have `deadline` seconds to pass their gate.
    `append_only`: whether the repository refuses to remove anything, so that it is not tried.
    `elsewhere` are the databases of a server on no host of the fleet. `drill_of` is the host whose databases a drill
    here restores besides, for the releases of this one, and `drill_image` an image for that where it names none.
    `wal`: whether the database's write-ahead log is kept, for points in time of the last `wal_days`; the server keeps
    `wal_room` MiB of it at most where it cannot be.
    """

    repository: str
    host: str
    database: str = "none"
    elsewhere: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    keep: Mapping[str, int] = field(default_factory=dict)
    releases: bool = True
    deadline: float = 300.0
    drill_of: str = ""
    drill_image: str = ""
    append_only: bool = False
    wal: bool = False
    wal_days: int = 7
    wal_room: int = 2048
    files: Path = Path("/etc/slipway/backup")
    place: Path = Path("/var/lib/slipway/backup")
    apps: Path = Path("/opt/slipway")

    @property
    def spool(self) -> Path:
        """Where dumps are written before the repository takes them."""
        return self.place / "spool"

    @property
    def scratch(self) -> Path:
        """Where a drill restores to."""
        return self.place / "scratch"

    @property
    def local(self) -> Optional[Path]:
        """The directory of a repository on this host; None for one elsewhere."""
        return Path(self.repository) if self.repository.startswith("/") else None


@dataclass(frozen=True)
class Database:
    """A database as it was dumped: how it is made, what each table had, and how many bytes it took in its server.

    `provider` is what sorts texts, as pg_database.datlocprovider has it since PostgreSQL 15 (libc alone was there
    before), `locale` that of another one than libc.
    """

    name: str
    owner: str
    encoding: str
    collate: str
    ctype: str
    bytes: int
    tables: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    heads: tuple[str, ...] = ()
    provider: str = ""
    locale: str = ""

    @property
    def file(self) -> str:
        """Name of the dump in the spool."""
        return f"database-{self.name}.dump"

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.tables.values())


@dataclass(frozen=True)
class Manifest:
    """What a set has to have: the last part of it that is written, so that a set with one is whole.

    `files` are path -> size and SHA-256; the hash is empty for a file that changed while it was read. `apps` are
    app -> release that served. `content` is the snapshot with everything else. `server` is what one that stands in for
    that of the databases has to be like (Likeness), and `caches` the same of each cache; sets of before have none.
    """

    host: str
    time: str
    content: str
    spool: str
    databases: tuple[Database, ...] = ()
    directories: tuple[str, ...] = ()
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    apps: Mapping[str, str] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)
    caches: tuple[Mapping[str, Any], ...] = ()

    @property
    def bytes(self) -> int:
        """Of all files and dumps, as they are restored."""
        return sum(size for size, _ in self.files.values())

    @property
    def rows(self) -> int:
        return sum(database.rows for database in self.databases)

    def database(self, name: str) -> Database:
        """Raises BackupError where the set has none of that name."""
        for database in self.databases:
            if database.name == name:
                return database
        names = ", ".join(database.name for database in self.databases) or "none"
        raise BackupError(REFUSED, f"the set has no database {name}; it has: {names}")

    def json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def manifest_of(content: Mapping[str, Any]) -> Manifest:
    """A manifest as it was written. Raises BackupError for one of another format or that lacks something."""
    if content.get("format") != FORMAT:
        raise BackupError(
            DAMAGED, f"the set's manifest has the format {content.get('format')!r}, and this version reads {FORMAT}"
        )
    try:
        databases = [
            Database(
                **{
                    **entry,
                    "tables": {name: (int(rows), str(digest)) for name, (rows, digest) in entry["tables"].items()},
                    "heads": tuple(entry["heads"]),
                }
            )
            for entry in content["databases"]
        ]
        return Manifest(
            host=content["host"],
            time=content["time"],
            content=content["content"],
            spool=content["spool"],
            databases=tuple(databases),
            directories=tuple(content["directories"]),
            files={path: (int(size), str(digest)) for path, (size, digest) in content["files"].items()},
            apps=dict(content["apps"]),
            server=dict(content.get("server") or {}),
            caches=tuple(content.get("caches") or ()),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BackupError(DAMAGED, f"the set's manifest cannot be read: {error}") from error
