"""Where bases of a server and its write-ahead log are kept: a small interface, and restic's repository behind it.

What stands in tags can be asked for in one command; what only a restore needs is in the snapshot of a base, whose
presence makes that base whole, as a set's manifest does.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional, Protocol

from ..host import command
from ..host.durable import read_json
from ..host.errors import Damaged
from .model import DAMAGED, MISSING_PART, BackupError, Settings
from .points import Base, Piece, moment
from .restic import Restic, Snapshot

BASE, BASE_DATA, LOG = "slipway-base", "slipway-base-data", "slipway-wal"
BASE_FILE = "base.json"
# For how long data without its base stays: one may be made just now.
MAKING = timedelta(days=1)


class Archive(Protocol):
    """What is kept of this host's server. Everything raises BackupError where the place cannot be reached."""

    def contents(self) -> tuple[list[Base], list[Piece]]:
        """All bases and pieces, in no order."""

    def keep_log(self, segments: Sequence[Path], piece: Piece, before: str) -> str:
        """Take segments in as one piece; returns its snapshot. `before` is one that has the first of them already."""

    def keep_data(self, data: Path, left_out: Sequence[str], stamp: str) -> str:
        """Take the directory of a server in, while it changes; returns its snapshot."""

    def keep_base(self, base: Base, about: Mapping[str, Any], stamp: str) -> str:
        """Make that data a base, with what a restore needs to know; returns its snapshot."""

    def about(self, base: Base) -> dict[str, Any]:
        """What was kept with a base."""

    def fetch_data(self, about: Mapping[str, Any], into: Path) -> None:
        """Put the directory of a server at `into`, which is not there yet, on the disk of its parent."""

    def fetch_log(self, pieces: Iterable[Piece], into: Path) -> None:
        """Put all segments of the pieces into a directory."""

    def orphans(self) -> list[str]:
        """Snapshots of data that became no base."""


class Repository:
    """The archive in the repository of the sets."""

    def __init__(self, settings: Settings, restic: Restic) -> None:
        self._settings, self._restic = settings, restic

    def contents(self) -> tuple[list[Base], list[Piece]]:
        found = self._restic.tagged(BASE, LOG)
        bases = [
            Base(one.id, *_segments(one), _tag(one, "whole-"), int(_tag(one, "major-") or 0))
            for one in found
            if BASE in one.tags
        ]
        return bases, [Piece(one.id, *_segments(one), _tag(one, "until-")) for one in found if LOG in one.tags]

    def keep_log(self, segments: Sequence[Path], piece: Piece, before: str) -> str:
        more = [*_tags(piece.stream, piece.first, piece.last), f"until-{piece.until}"]
        words = ["--parent", before] if before else ["--force"]
        return self._restic.save([str(path) for path in segments], LOG, stamp(), more=more, words=words)[0]

    def keep_data(self, data: Path, left_out: Sequence[str], stamp: str) -> str:
        # Read anew, all of it: a page that was written in the moment in which it was read may leave no other trace.
        return self._restic.save([str(data)], BASE_DATA, stamp, left_out, words=["--force"])[0]

    def keep_base(self, base: Base, about: Mapping[str, Any], stamp: str) -> str:
        file = self._settings.place / BASE_FILE
        try:
            file.write_text(json.dumps(about), encoding="utf-8")
            more = [*_tags(base.stream, base.first, base.last), f"whole-{base.time}", f"major-{base.major}"]
            return self._restic.save([str(file)], BASE, stamp, more=more)[0]
        finally:
            file.unlink(missing_ok=True)

    def about(self, base: Base) -> dict[str, Any]:
        into = self._settings.place / f"{BASE_FILE}.read"
        try:
            self._restic.read(base.snapshot, str(self._settings.place / BASE_FILE), into)
            return read_json(into) or {}
        except Damaged as error:
            raise BackupError(DAMAGED, f"what was kept with the base of {base.time} cannot be read: {error}") from error
        finally:
            into.unlink(missing_ok=True)

    def fetch_data(self, about: Mapping[str, Any], into: Path) -> None:
        beside = into.parent / f"{into.name}.fetched"
        self._restic.restore(str(about["content"]), beside)
        Path(f"{beside}{about['data']}").rename(into)

    def fetch_log(self, pieces: Iterable[Piece], into: Path) -> None:
        beside = into.parent / f"{into.name}.fetched"
        for piece in pieces:
            self._restic.restore(piece.snapshot, beside)
            for segment in beside.rglob("*"):
                if segment.is_file():
                    without_zeros(segment)
                    segment.replace(into / segment.name)
        if not any(into.iterdir()):
            raise BackupError(MISSING_PART, "the pieces of the write-ahead log have nothing in them")

    def orphans(self) -> list[str]:
        found = self._restic.tagged(BASE, BASE_DATA)
        whole = {one.stamp for one in found if BASE in one.tags}
        before = datetime.now(timezone.utc) - MAKING
        data = [one for one in found if BASE_DATA in one.tags and one.stamp not in whole]
        return [one.id for one in data if moment(one.stamp[3:23]) < before]


def stamp() -> str:
    """What the two snapshots of a base have in common, and its time first."""
    return f"at-{datetime.now(timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')}-{secrets.token_hex(3)}"


def without_zeros(segment: Path) -> None:
    """Have a segment take no room for what is not written in it: most of one that was ended by time is empty."""
    with suppress(command.CommandError, subprocess.SubprocessError):
        command.run(["fallocate", "--dig-holes", str(segment)], 60)


def _tags(stream: str, first: int, last: int) -> list[str]:
    return [f"stream-{stream}", f"segments-{first}-{last}"]


def _tag(snapshot: Snapshot, begin: str) -> str:
    return next((tag[len(begin) :] for tag in snapshot.tags if tag.startswith(begin)), "")


def _segments(snapshot: Snapshot) -> tuple[str, int, int]:
    found: Optional[re.Match[str]] = re.fullmatch(r"(\d+)-(\d+)", _tag(snapshot, "segments-"))
    if not found:
        raise BackupError(DAMAGED, f"snapshot {snapshot.short} does not say which part of the write-ahead log it has")
    return _tag(snapshot, "stream-"), int(found[1]), int(found[2])
