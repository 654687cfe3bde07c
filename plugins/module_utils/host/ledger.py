"""The ledger of an app on a host: what was done to it, by whom, from where, when, and how it ended.

A line is a record. One of a release has `release` and `result`; an event `event`; an operation `operation`, and two
lines of one `id`: that it began (`result` is BEGUN), and how it ended. So one that was killed is seen as not ended.
Lines are appended with fsync, and one that a crash tore is cut off by the next.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, Optional

from .durable import sync_directory
from .reading import object_of
from .shown import staged

# Below it every app of a host has a directory.
APPS = Path("/opt/slipway")
NAME = "ledger.jsonl"
BEGUN, DONE, FAILED = "begun", "done", "failed"
# What the record of a failed operation has of an error's details, and as what: `release` makes one of a release.
CODES = {"rc": "rc", "release": "serving"}
# What says which record it is; text in each one that was ever written.
NAMING = ("id", "release", "result", "operation", "event", "run", "start", "end")
# How a module is told whose operation it is, and of which app: the directory of the app on the host.
RECORD_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "options": {"root": {"type": "path"}, **{name: {"type": "str"} for name in ("run", "who", "from")}},
}


class Ledger:
    """The ledger in the directory of an app. Words of the app stand there, so only root reads it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / NAME
        # What was read, and of which file: (inode, size, time of change).
        self._read: tuple[tuple[int, int, int], list[dict[str, Any]]] = ((0, 0, 0), [])

    def entries(self) -> list[dict[str, Any]]:
        """All lines, oldest first. Those that cannot be read are left out; `damaged` counts them."""
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._read[0]:
                text = self._path.read_text(encoding="utf-8", errors="replace")
                self._read = (seen, [_parsed(line) for line in text.split("\n") if line.strip()])
        except FileNotFoundError:
            self._read = ((0, 0, 0), [])
        return [entry for entry in self._read[1] if entry]

    def damaged(self) -> int:
        """How many lines cannot be read."""
        self.entries()
        return sum(not entry for entry in self._read[1])

    def told(self) -> list[dict[str, Any]]:
        """The records, oldest first, one for each operation: how it ended, or that it began where it has not."""
        ended = {entry.get("id") for entry in self.entries() if entry.get("result") != BEGUN}
        return [entry for entry in self.entries() if entry.get("result") != BEGUN or entry.get("id") not in ended]

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add one line, durably, without the secrets of the app. Raises OSError, and has added nothing then."""
        line = json.dumps(staged(self._root / "releases").told(entry), sort_keys=True).encode() + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "r+b") as stream:
            os.fchmod(descriptor, 0o600)  # one of an earlier version could be read by everybody
            fcntl.flock(stream, fcntl.LOCK_EX)  # an operation's and a drainer's records come from other processes
            end = _mend(stream)
            try:
                stream.write(line)
                stream.flush()
                os.fsync(descriptor)
            except OSError:
                stream.raw.truncate(end)
                raise
        if end == 0:
            sync_directory(self._root)


class Note:
    """The record of one operation while it is under way. A ledger that cannot be written stops no operation.

    `more` is told at its end as well; `warnings` has why it is not in the ledger.
    """

    def __init__(self, root: Optional[Path], begun: Mapping[str, Any]) -> None:
        self.begun = dict(begun)
        self.more: dict[str, Any] = {}
        self.warnings: list[str] = []
        self._root = root

    def begin(self) -> None:
        self._append({**self.begun, "result": BEGUN})

    def end(self, result: str, **more: Any) -> None:
        self._append({**self.begun, "end": moment(), "result": result, **self.more, **more})

    def unwritten(self) -> dict[str, Any]:
        """`warnings` for a result; nothing where it is in the ledger."""
        return {"warnings": self.warnings} if self.warnings else {}

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._root is None:
            return
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            Ledger(self._root).append(entry)
        except OSError as error:
            self.warnings.append(f"this is not in the ledger {self._root / NAME}: {error.strerror or error}")


def noted(record: Optional[Mapping[str, Any]], operation: str, what: str, **more: Any) -> Note:
    """The note of an operation of the run that `record` tells, which begins now; of no ledger where it tells none."""
    by = record or {}
    root = by.get("root")
    begun = {
        **{name: by.get(name) or "" for name in ("run", "who", "from")},
        "id": uuid.uuid4().hex,
        "operation": operation,
        "what": what,
        "start": moment(),
        **more,
    }
    return Note(Path(root) if root else None, begun)


@contextmanager
def recorded(record: Optional[Mapping[str, Any]], operation: str, what: str, **more: Any) -> Iterator[Note]:
    """Record that an operation begins, and how it ends: failed with the first line of an error, done otherwise."""
    note = noted(record, operation, what, **more)
    note.begin()
    try:
        yield note
    except BaseException as error:
        details = getattr(error, "details", None) or {}
        codes = {name: details[key] for key, name in CODES.items() if key in details}
        note.end(FAILED, cause=(str(error).strip() or type(error).__name__).splitlines()[0], **codes)
        raise
    note.end(DONE)


def by_hand(root: Path) -> dict[str, str]:
    """Whose operation it is that somebody began on the host itself, for the ledger in `root`."""
    who = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"
    return {"root": str(root), "run": "", "who": who, "from": socket.gethostname()}


def ledgers(apps: Path = APPS) -> list[Path]:
    """The directories of the apps of this host that have a ledger."""
    return sorted(path.parent for path in apps.glob(f"*/{NAME}"))


def moment() -> str:
    """Now, as records have it: UTC, ISO 8601 in seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _parsed(line: str) -> dict[str, Any]:
    """One record; empty for a line that is none, or that nobody wrote who writes records."""
    try:
        entry = object_of(line)
    except ValueError:
        return {}
    return entry if all(isinstance(entry.get(name), (str, type(None))) for name in NAMING) else {}


def _mend(stream: BinaryIO) -> int:
    """Go to the end of a ledger, with a last line that is not whole made whole or cut off; returns where that is."""
    size = end = stream.seek(0, os.SEEK_END)
    tail = b""
    while end and b"\n" not in tail:
        begin = max(end - 65536, 0)
        stream.seek(begin)
        tail = stream.read(end - begin) + tail
        end = begin
    torn = tail.rpartition(b"\n")[2]
    if torn and _parsed(torn.decode(errors="replace")):
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n")
        return size + 1
    stream.seek(size - len(torn))
    stream.truncate()
    return size - len(torn)
