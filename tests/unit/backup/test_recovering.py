"""What a recovery takes in before its server starts, and what it leaves free on the disk of the live one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import DISK_FULL, MIB, BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.points import Base, Piece, Way
from ansible_collections.slipway.fleet.plugins.module_utils.backup.recovering import Recovered

AT = "2026-01-01T10:00:00Z"
WAY = Way(Base("base", "7-1", 1, 1, AT), (Piece("a", "7-1", 1, 32, AT), Piece("b", "7-1", 33, 34, AT)), AT)


class Archive:
    """Data, and pieces of a log with a MiB written in each segment."""

    def __init__(self) -> None:
        self.fetched: list[str] = []

    def fetch_data(self, _: object, into: Path) -> None:
        (into / "pg_tblspc").mkdir(parents=True)

    def fetch_log(self, pieces: Sequence[Piece], into: Path) -> None:
        for piece in pieces:
            self.fetched.append(piece.snapshot)
            for segment in range(piece.first, piece.last + 1):
                (into / str(segment)).write_bytes(b"x" * MIB)


class Live:
    def disk(self) -> tuple[Path, int]:
        return Path("/"), 10 * MIB


class OfTests(Recovered):
    def _stop(self) -> None:
        pass

    def fetched(self) -> None:
        self._fetch()


@pytest.mark.parametrize("full", ["", "the log of the recovery"])
def test_room_for_the_log_is_asked_for_before_each_piece_and_before_it_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    asked: list[tuple[str, int]] = []

    def room(what: str, need: tuple[Path, int]) -> None:
        asked.append((what, need[1] // MIB))
        if what == full:
            raise BackupError(DISK_FULL, what)

    monkeypatch.setattr(files, "room", room)
    settings = Settings("/srv/sets", "h", database="compose", place=tmp_path)
    archive: Any = Archive()
    live: Any = Live()
    about = {"bytes": 200 * MIB, "size": 16 * MIB, "label": ""}
    made = OfTests(archive, live, settings, WAY, about, AT)
    if full:
        with pytest.raises(BackupError, match=full):
            made.fetched()
        assert archive.fetched == []
        return
    made.fetched()
    log = "the log of the recovery"
    assert asked[:3] == [("the recovery", 200), (log, 32 * 16), (log, 2 * 16)]
    assert asked[3:] == [("the replay of the log", 34 + 10)]
    assert archive.fetched == ["a", "b"]
