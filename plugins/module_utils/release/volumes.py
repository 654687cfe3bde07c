"""Directories of a host that outlive releases: an app finds them again in both slots, whatever runtime it has.

One that is new is made beside its place, with what the image or package has there and the app's user as its owner, and
appears whole. One that is there is left as it is, also by a release that does not name it and by the removal of the
app.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EBUSY
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.durable import sync_directory
from .keeps import keeps_of
from .runtime import RuntimeFailed
from .users import Owner

VOLUMES = Path("/var/lib/slipway")
# What mkfs makes in a file system of its own.
FOUND = "lost+found"
# How one is named that is not whole yet, and seconds for which its size is looked for, and its files given an owner.
UNFINISHED, SIZE_LIMIT, OWN_LIMIT = ".new-", 10.0, 600.0

# How a restore names what it put aside, backup/restoring.py.
FORMER = re.compile(r"\.slipway-before-\d{4}-\d\d-\d\dT[\d:]+Z-(?P<name>.+)")

# Puts what a release brings at a path of the app into a directory; what it does not have is nothing.
Fill = Callable[[str, Path], None]


class Volumes:
    """The volumes of one app on a host."""

    def __init__(self, app: str, root: Path = VOLUMES) -> None:
        self.directory = root / app / "volumes"

    def have(self, wanted: Mapping[str, str], owner: Owner, fill: Fill) -> list[str]:
        """Have these volumes (paths in the app by name) for this user; returns the names of those that are new.

        What is there stays as it is, whosever files it has. Raises RuntimeFailed where one cannot be made.
        """
        try:
            return [name for name, at in wanted.items() if self._have(name, at, owner, fill)]
        except (OSError, command.CommandError) as error:
            raise RuntimeFailed(f"the volumes in {self.directory} cannot be made: {error}") from error

    def _have(self, name: str, at: str, owner: Owner, fill: Fill) -> bool:
        path = self.directory / name
        if not path.is_dir():
            self._make(path, at, owner, fill)
            return True
        if _is_another_s(path, owner) and not _has_files(path):
            os.chown(path, *owner)  # a file system that somebody mounted there
        return False

    def require_owner(self, wanted: Collection[str], owner: Owner) -> None:
        """Raise RuntimeFailed where one of these has files that belong to somebody else, so that the app cannot write.

        For a release that is about to be deployed; one that is returned to shall serve, even so.
        """
        for name in wanted:
            path = self.directory / name
            if path.is_dir() and _is_another_s(path, owner) and _has_files(path):
                raise RuntimeFailed(
                    f"the files of volume {name} belong to uid {path.stat().st_uid}, and this release runs as "
                    f"{owner[0]}; on the host: chown -R {owner[0]}:{owner[1]} {path} (an earlier release that runs as "
                    "another user cannot write there then), or name the user that has them in fastapi_app_user"
                )

    def _make(self, path: Path, at: str, owner: Owner, fill: Fill) -> None:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        os.chmod(self.directory, 0o700)
        with self._alone():
            if path.is_dir():  # somebody else was faster
                return
            new = self._unfinished(path.name)
            try:
                fill(at, new)
                words = ["chown", "--recursive", "--no-dereference", f"{owner[0]}:{owner[1]}", str(new)]
                if (ran := command.run(words, OWN_LIMIT)).returncode:
                    raise RuntimeFailed(f"volume {path.name}: {ran.said}")
                new.chmod(0o750)
                command.run(["sync", "--file-system", str(new)], OWN_LIMIT)
                new.rename(path)
                sync_directory(self.directory)
            finally:
                shutil.rmtree(new, ignore_errors=True)

    def names(self) -> list[str]:
        """Those that are there; what begins with a dot is unfinished, or was put aside by a restore."""
        if not self.directory.is_dir():
            return []
        return sorted(path.name for path in self.directory.iterdir() if path.is_dir() and not path.name.startswith("."))

    def former(self, name: str = "") -> list[str]:
        """Where restores have put aside what they replaced, of the volume of that name or of all."""
        if not self.directory.is_dir():
            return []
        found = ((path, FORMER.fullmatch(path.name)) for path in sorted(self.directory.iterdir()))
        return [str(path) for path, of in found if of and name in ("", of["name"])]

    def left(self) -> list[str]:
        """Those that somebody was killed over while they were made or deleted."""
        return sorted(path.name[len(UNFINISHED) :].rpartition("-")[0] for path in self._all_unfinished())

    def remove(self, name: str) -> bool:
        """Delete a volume with all its data, and what is left of one; whether there was any. Raises RuntimeFailed."""
        there = name in self.left()
        if not there and name not in self.names():
            return False
        path = self.directory / name
        with self._alone():
            if name not in self.names():
                return there
            gone = self._unfinished(name)
            try:
                path.rename(gone / name)
                sync_directory(self.directory)
                shutil.rmtree(gone)
            except OSError as error:
                with suppress(OSError):
                    gone.rmdir()
                hint = f"; something is mounted there: umount {path}, and run this again" * (error.errno == EBUSY)
                raise RuntimeFailed(f"volume {name} could not be deleted: {error.strerror or error}{hint}") from error
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time makes or deletes; what is unfinished before was left by somebody who was killed, and goes."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for path in self._all_unfinished():
                shutil.rmtree(path, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)

    def _unfinished(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=f"{UNFINISHED}{name}-", dir=self.directory))

    def _all_unfinished(self) -> list[Path]:
        return list(self.directory.glob(f"{UNFINISHED}*"))


def _is_another_s(path: Path, owner: Owner) -> bool:
    """Whether the app may not write there, as nobody but root may everywhere."""
    return 0 not in owner[:1] and path.stat().st_uid != owner[0]


def _has_files(path: Path) -> bool:
    return any(name != FOUND for name in os.listdir(path))


def seen(volumes: Volumes, releases: Path, serving: Optional[str]) -> list[dict[str, Any]]:
    """What there is: name, path, bytes (None where that takes too long), and who uses it.

    `at` is where the release that serves has it, `releases` are the staged ones that name it.
    """
    said: dict[str, Mapping[str, str]] = {}
    for path in sorted(releases.iterdir()) if releases.is_dir() else ():
        try:
            said[path.name] = keeps_of(releases, path.name).volumes
        except (OSError, ValueError):
            continue
    return [
        {
            "name": name,
            "path": str(volumes.directory / name),
            "bytes": size_of(volumes.directory / name),
            "at": said.get(serving or "", {}).get(name, ""),
            "releases": [release for release, names in said.items() if name in names],
        }
        for name in volumes.names()
    ]


def size_of(path: Path) -> Optional[int]:
    """Bytes on the disk of a directory; None where that cannot be found out in a moment."""
    try:
        ran = command.run(["du", "--summarize", "--block-size=1", str(path)], SIZE_LIMIT)
    except command.CommandError:
        return None
    size = ran.stdout.partition("\t")[0]
    return int(size) if size.isdecimal() and not ran.timed_out else None
