"""What the agent keeps on a host: itself, compiled, and the files of a run for as long as that lasts."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import io
import marshal
import os
import re
import shutil
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

# Agents of controllers of several versions that stay beside the one that ran last.
AGENTS = 3
# Seconds for which the files of a run wait for a channel that comes back.
RETURN = 900.0
NAME = re.compile(r"(?!\.\.?(/|$))[^/\0]+(/(?!\.\.?(/|$))[^/\0]+)?")


class Files:
    """The files that the controller sent, in a directory that is locked as long as an agent of its run lives."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._directory: Optional[Path] = None
        self._lock = -1

    def open(self, run: str) -> None:
        """Take the directory of a run, and remove those of runs that never came back. Raises OSError."""
        if not NAME.fullmatch(run) or "/" in run:
            raise OSError(f"no name of a run: {run!r}")
        self._directory = self._runs / run
        if self._directory.is_dir():
            self._hold(self._directory)
        for directory in self._runs.glob("*"):
            if directory != self._directory:
                _forget_abandoned(directory)

    def write(self, name: str, at: int, data: bytes) -> dict[str, Any]:
        """Put a piece into a file of the run, which begins anew with its first one. Raises OSError."""
        path = self._path(name)
        with open(path, "r+b" if at else "wb") as stream:
            stream.seek(at)
            stream.write(data)
        return {"path": str(path)}

    def _path(self, name: str) -> Path:
        if self._directory is None or not NAME.fullmatch(name):
            raise OSError(f"no name of a file of the run: {name!r}")
        path = self._directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold(self._directory)
        return path

    def _hold(self, directory: Path) -> None:
        """Lock the directory against the runs that tidy up; forked processes hold it, too."""
        if self._lock < 0:
            self._lock = os.open(directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def close(self) -> None:
        """Let go of the files; they wait for the run's next channel."""
        if self._lock >= 0:
            os.utime(self._lock)
            os.close(self._lock)
            self._lock = -1

    def forget(self) -> None:
        """Remove the files, since the run is over."""
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def _forget_abandoned(directory: Path) -> None:
    """Remove the files of a run whose controller is gone for good."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime > RETURN:
                shutil.rmtree(directory, ignore_errors=True)
        finally:
            os.close(descriptor)


def read(path: Path, at: int, wanted: int) -> tuple[dict[str, Any], bytes]:
    """A piece of a file, and how many bytes the file has. Raises OSError."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(at)
        return {"size": size}, stream.read(wanted)


def tidy(place: Path, digest: str) -> None:
    """Have this agent compiled for the next time, and no more agents than a few. Raises OSError.

    Python compiles what it imports from an archive each time, which costs a small host a quarter of a second.
    """
    sent = place / f"{digest}.pyz"
    os.utime(sent)
    tag = sys.implementation.cache_tag
    if not any(place.glob(f"{digest}.{tag}.*.pyz")):
        data = compiled(sent)
        _put(place / f"{digest}.{tag}.{hashlib.sha256(data).hexdigest()}.pyz", data)
    agents = sorted((path for path in place.glob("*.pyz") if path.name.count(".") == 1), key=_age)
    stale = {path.name.split(".")[0] for path in agents[AGENTS:]}
    for path in place.glob("*.pyz"):
        if path.name.split(".")[0] in stale:
            path.unlink()


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _put(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    os.replace(temporary, path)


def compiled(archive: Path) -> bytes:
    """The archive with the code of this Python instead of sources."""
    target = io.BytesIO()
    with zipfile.ZipFile(archive) as sources, zipfile.ZipFile(target, "w") as codes:
        for name in sources.namelist():
            code = compile(sources.read(name), name, "exec", dont_inherit=True)
            # As importlib writes it; time and size of the source are not looked at where there is none.
            codes.writestr(zipfile.ZipInfo(f"{name}c"), importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
    return target.getvalue()
