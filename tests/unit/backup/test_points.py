"""Which points in time can be reached, from what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import wal
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.points import (
    Base,
    Piece,
    chosen,
    gaps,
    moment,
    spans,
    stale,
    ways,
)

from tests.unit.backup.memory import host

DAY = "2026-01-01T"


def at(minute: int) -> str:
    return f"{DAY}10:{minute:02}:00Z"


def base(first: int, minute: int, last: int | None = None, stream: str = "7-1") -> Base:
    return Base(f"base-{stream}-{first}", stream, first, last or first, at(minute))


def piece(first: int, last: int, minute: int, stream: str = "7-1") -> Piece:
    return Piece(f"{stream}-{first}-{last}", stream, first, last, at(minute))


GROWN = [piece(1, 1, 1), piece(1, 2, 2), piece(1, 3, 3), piece(4, 4, 4)]


@pytest.mark.parametrize(
    ("bases", "pieces", "reached"),
    [
        ([], GROWN, []),
        ([base(2, 2)], [], []),
        ([base(2, 2)], GROWN, [(at(2), at(4))]),
        ([base(2, 2, last=5)], GROWN, []),  # its own log is not all there
        ([base(2, 5)], GROWN, []),  # the log ends before it is whole
        ([base(1, 1), base(4, 4)], GROWN, [(at(1), at(4))]),
        ([base(1, 1)], [piece(1, 2, 2), piece(4, 5, 5)], [(at(1), at(2))]),
        ([base(1, 1), base(4, 4)], [piece(1, 2, 2), piece(4, 5, 5)], [(at(1), at(2)), (at(4), at(5))]),
        ([base(1, 1)], [piece(1, 2, 2), piece(2, 4, 4)], [(at(1), at(4))]),  # pieces that overlap
        ([base(1, 1)], [piece(1, 2, 2), piece(3, 4, 4, "7-2")], [(at(1), at(2))]),  # another timeline
        (
            [base(9, 1), base(1, 6, stream="8-1")],
            [piece(9, 9, 5), piece(1, 1, 7, "8-1")],
            [(at(1), at(5)), (at(6), at(7))],
        ),
    ],
)
def test_what_can_be_reached(bases: list[Base], pieces: list[Piece], reached: list[tuple[str, str]]) -> None:
    assert spans(ways(bases, pieces)) == reached


def test_the_shortest_way_is_taken() -> None:
    found = ways([base(1, 1), base(3, 3)], GROWN)
    assert chosen(found, at(2), 15).base.first == 1
    assert [one.snapshot for one in chosen(found, at(2), 15).pieces] == ["7-1-1-3"]
    assert chosen(found, at(3), 15).base.first == 3
    assert [one.snapshot for one in chosen(found, at(4), 15).pieces] == ["7-1-1-3", "7-1-4-4"]
    assert chosen(found, f"{DAY}11:02:30.500+01:00", 15).base.first == 1


def test_what_a_server_of_another_major_version_has_left_is_not_offered(tmp_path: Path) -> None:
    """As after an upgrade: both can be reached without a gap, and the former is no data of the server."""
    bases = [replace(base(1, 1), major=15), replace(base(1, 3, stream="8-1"), major=17)]
    pieces = [piece(1, 2, 4), piece(1, 2, 6, "8-1")]
    found = ways(bases, pieces)
    assert chosen(found, at(2), 17).base.major == 15, "which is refused with the version's name"
    assert chosen(found, at(3), 15).base.major == 15
    assert chosen(found, at(3), 17).base.major == 17
    with pytest.raises(BackupError, match=f"these points can be: from {at(3)} to {at(6)}$"):
        chosen(found, at(9), 17)
    archive: Any = SimpleNamespace(contents=lambda: (bases, pieces))
    state = wal.State(Settings("/srv/sets", "h", place=tmp_path))
    wal.survey(archive, state, wal.Seen("8-1", 1 << 24, 3, "w", True, 2, "", 17))
    assert state.read()["reach"] == [[at(3), at(6)]]


def test_what_is_between_cannot_be_reached() -> None:
    reached = [(at(1), at(2)), (at(4), at(5)), (at(7), at(9))]
    assert gaps(reached) == [(at(2), at(4)), (at(5), at(7))]
    found = ways([base(1, 1), base(4, 4)], [piece(1, 2, 2), piece(4, 5, 5)])
    with pytest.raises(BackupError, match=f"these points can be: from {at(1)} to {at(2)}; from {at(4)} to {at(5)}$"):
        chosen(found, at(3), 15)
    with pytest.raises(BackupError, match="no point in time can be reached on this host"):
        chosen([], at(3), 15)
    with pytest.raises(BackupError, match=r"no point in time of db1 .* restore a set of db1 instead \(slipway_of"):
        chosen([], at(3), 15, "db1")


@pytest.mark.parametrize("text", ["", "now", "2026-01-01", "2026-01-01T10:00:00", "2026-13-01T10:00:00Z"])
def test_a_time_without_a_zone_is_none(text: str) -> None:
    with pytest.raises(BackupError, match="is no point in time; write date, time and zone"):
        moment(text)


@pytest.mark.parametrize(
    ("text", "cut"), [("2026-11-28", True), ("2026-11-28T13:10:32", False), ("2026-11-28 13:10:32", False)]
)
def test_a_date_alone_may_be_what_is_left_of_a_time(text: str, cut: bool) -> None:
    with pytest.raises(BackupError) as caught:
        moment(text)
    assert ("a blank ends a value after -e: write a T between date and time" in str(caught.value)) == cut
    assert moment("2026-11-27 10:15:00Z") == moment("2026-11-27T10:15:00Z"), "as it is advised"


@pytest.mark.parametrize(
    ("bases", "horizon", "gone"),
    [
        ([base(1, 1)], at(0), {"7-1-1-1", "7-1-1-2"}),
        ([base(1, 1), base(3, 3)], at(2), {"7-1-1-1", "7-1-1-2"}),  # the first one leads to what is wanted still
        ([base(1, 1), base(4, 4)], at(4), {"7-1-1-1", "7-1-1-2"}),
        ([base(1, 1), base(2, 2), base(4, 4)], at(3), {"base-7-1-1", "7-1-1-1", "7-1-1-2"}),
        ([base(1, 1), base(4, 4)], at(5), {"base-7-1-1", "7-1-1-1", "7-1-1-2", "7-1-1-3"}),  # the newest one stays
        ([], at(9), {"7-1-1-1", "7-1-1-2", "7-1-1-3", "7-1-4-4"}),
        ([], at(0), {"7-1-1-1", "7-1-1-2"}),  # a base for them is being made
    ],
)
def test_what_nobody_needs_goes(bases: list[Base], horizon: str, gone: set[str]) -> None:
    assert set(stale(bases, GROWN, horizon)) == gone
    kept = [one for one in bases if one.snapshot not in gone]
    left = [one for one in GROWN if one.snapshot not in gone]
    for point in (at(2), at(3), at(4)):
        if point >= horizon and bases:
            assert chosen(ways(kept, left), point, 15).pieces, "it can be reached as before"


def test_it_can_be_ended_where_the_server_writes_too_little(tmp_path: Path) -> None:
    answers = {"slot_name, pg_drop": [["slipway_wal", ""]], "system_identifier": [["7", "minimal", *"12345678"]]}
    server: Any = SimpleNamespace(sql=lambda _, asked: next(rows for part, rows in answers.items() if part in asked))
    log = wal.Log(server)
    with pytest.raises(BackupError, match="or say backup_wal: false"):
        log.look()
    assert wal.stop(log, Settings("/srv/sets", "h", place=tmp_path))


def test_another_repository_is_asked_what_it_has(tmp_path: Path) -> None:
    seen = wal.Seen("7-1", 1 << 24, 3, "w", True, 3, "", 15)
    nothing = {"elsewhere": lambda: False, "bound": lambda *_: None, "switch": lambda: None, "directory": tmp_path}
    log: Any = SimpleNamespace(look=lambda: seen, **nothing)
    archive: Any = SimpleNamespace(contents=lambda: ([], []))
    made, _ = host(tmp_path)
    of_the_former = {"stream": "7-1", "shipped": 2, "reach": [[at(1), at(9)]], "based": True, "until": at(9)}
    wal.State(made.settings).note(repository="/srv/former", **of_the_former)
    ordered: list[str] = []
    told = wal.keep(made, archive, log, lambda: ordered.append("base"))
    assert (told["reach"], told["follows"], ordered) == ([], False, ["base"])


def test_nothing_is_kept_of_a_server_of_which_no_base_can_be_made(tmp_path: Path) -> None:
    dropped: list[str] = []
    log: Any = SimpleNamespace(
        look=lambda: SimpleNamespace(slot=True),
        elsewhere=lambda: True,
        drop_slot=lambda: dropped.append("slot"),
        directory=tmp_path,
    )
    made, _ = host(tmp_path)
    archive: Any = None
    with pytest.raises(BackupError, match="the server has tablespaces"):
        wal.keep(made, archive, log)
    assert dropped == ["slot"]
    assert "the server has tablespaces" in wal.problems(wal.told(made.settings))[0]


TOLD = {
    "reach": [[at(1), at(9)]],
    "gaps": [],
    "follows": True,
    "behind": 30.0,
    "base": at(1),
    "base_error": None,
    "error": None,
}
AWAY = {"since": at(9), "fault": "no repository", "message": "it is away"}


@pytest.mark.parametrize(
    ("news", "said"),
    [
        ({}, []),
        ({"error": AWAY}, []),
        ({"error": AWAY, "behind": 901.0}, [f"points after {at(9)} cannot be reached yet (no repository): it is away"]),
        ({"behind": 901.0}, [f"the write-ahead log is behind: points after {at(9)} cannot be reached yet"]),
        ({"follows": False}, [f"points after {at(9)} cannot be reached until a new base is made"]),
        (
            {"reach": [], "behind": None, "error": AWAY},
            ["no point in time can be reached yet (no repository): it is away"],
        ),
        ({"base_error": "no room"}, ["the last base could not be made: no room"]),
    ],
)
def test_what_an_operator_is_told(news: dict[str, object], said: list[str]) -> None:
    found = wal.problems({**TOLD, **news})
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found, strict=True))
