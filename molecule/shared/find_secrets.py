"""Runs on a host (Python 3.9 and later, nothing installed): where do these texts stand?"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LARGEST = 64 << 20  # bytes; larger files under these directories are not text


def main(values: Mapping[str, str], directories: Iterable[str], commands: Iterable[str]) -> None:
    """Print a JSON list with the name of the value, the place, and mode and owner of a file."""
    found = []
    for path in (path for directory in directories for path in files(directory)):
        content, mode, uid = read(path)
        names = [name for name, value in values.items() if value.encode() in content]
        found += [{"name": name, "place": str(path), "mode": oct(mode), "uid": uid} for name in names]
    for command in commands:
        content = subprocess.run(  # noqa: S602 - the commands are the test's own, and need pipes
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        ).stdout
        found += [
            {"name": name, "place": command, "mode": "", "uid": -1}
            for name, value in values.items()
            if value.encode() in content
        ]
    print(json.dumps(found))


def files(directory: str) -> Iterator[Path]:
    """Regular files below a directory on the file systems that hold files, and of /proc what describes a process."""
    if directory == "/proc":
        for process in Path(directory).glob("[0-9]*"):
            yield from (process / "cmdline", process / "environ")
        return
    for parent, below, names in os.walk(directory):
        below[:] = [name for name in below if not Path(parent, name).is_symlink()]
        for path in (Path(parent, name) for name in names):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size <= LARGEST:
                yield path


def read(path: Path) -> tuple[bytes, int, int]:
    """Content, mode bits and owner; nothing where the file or the process is gone, or has none to give."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            return stream.read(), stat.S_IMODE(status.st_mode), status.st_uid
    except OSError:
        return b"", 0, 0
