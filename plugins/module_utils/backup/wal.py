"""The write-ahead log of the live server is kept beside the sets, so that each point in time can be reached.

Nothing is put into the server's configuration that needs a restart, and nothing of it can stop the server. A physical
replication slot has the server keep its log until that is in the archive, up to a size (`max_slot_wal_keep_size`) past
which the slot is given up and not the disk; the files are read where the server wrote them. What is lost so is told.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..host.durable import read_json, write_durably
from ..host.errors import Damaged
from . import metrics
from .archive import Archive
from .model import BUSY, DISK_FULL, FAILED, MIB, NO_REPOSITORY, BackupError, Settings, failures
from .points import Piece, Span, Way, gaps, readable, spans, ways
from .postgres import Server
from .records import age, at_time, now
from .saving import Host

SLOT = "slipway_wal"
# Segments of one piece: what the server keeps of its log though it is in the archive, so that a piece grows.
PIECE = 32
# Seconds by which a file's last change is before what was committed in it may end: the server writes in turns.
TURN = 2
# Seconds after which keeping the log is told as behind, and between two orders of a base that is missing.
BEHIND, BASE_EVERY = 900.0, 600.0
# What is left free on the server's disk; below it the log that could not be kept is given up.
SPARE = 256 * MIB
BASE_UNIT = "slipway-backup-base.service"

_LOOK = f"""\
SELECT (SELECT system_identifier FROM pg_control_system()), current_setting('wal_level'),
  (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'),
  pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0'), left(pg_walfile_name(pg_current_wal_flush_lsn()), 8),
  pg_current_snapshot(), (SELECT coalesce(pg_wal_lsn_diff(restart_lsn, '0/0')::text, 'lost')
    FROM pg_replication_slots WHERE slot_name = '{SLOT}' AND wal_status IS DISTINCT FROM 'lost'),
  EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{SLOT}'),
  (SELECT setting || ' ' || coalesce(sourcefile, '') FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
  current_setting('server_version_num')
"""  # noqa: S608 - a constant
_ELSEWHERE = "SELECT count(*) FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')"


@dataclass(frozen=True)
class Seen:
    """Where a server's log is: segments are counted from its beginning, `kept` is the first that the slot keeps.

    `work` changes whenever a transaction that wrote something has ended.
    """

    stream: str
    size: int
    writes: int
    work: str
    slot: bool
    kept: Optional[int]
    room: str
    major: int

    def name(self, segment: int) -> str:
        """The name of a segment's file (PostgreSQL's XLogFileName)."""
        each = (1 << 32) // self.size
        return f"{int(self.stream.split('-')[1]):08X}{segment // each:08X}{segment % each:08X}"


class Log:
    """The write-ahead log of a live server, read from the disk of this host."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def look(self) -> Seen:
        """Raises BackupError where the server does not answer, or writes too little into its log."""
        ((system, level, size, flushed, timeline, work, kept, slot, room, version),) = self._server.sql(
            "postgres", _LOOK
        )
        if level == "minimal":
            raise BackupError(
                FAILED,
                "the server writes too little into its log for points in time (wal_level: minimal): take that out of "
                "postgres_settings and provision, which restarts the server, or say backup_wal: false",
            )
        each = int(size)
        return Seen(
            stream=f"{system}-{int(timeline, 16)}",
            size=each,
            writes=int(flushed) // each,
            work=work,
            slot=slot == "t",
            kept=int(kept) // each if kept.isdigit() else None,
            room=room,
            major=int(version) // 10000,
        )

    def elsewhere(self) -> bool:
        """Whether it has files outside of its directory, which no base would have."""
        return self._server.sql("postgres", _ELSEWHERE) != [["0"]]

    @cached_property
    def directory(self) -> Path:
        """Of the server's data, as this host has it."""
        return self._server.disk()[0]

    def file(self, seen: Seen, segment: int) -> Path:
        return self.directory / "pg_wal" / seen.name(segment)

    def bound(self, seen: Seen, mebibytes: int) -> None:
        """Have the server keep no more than that for the slot, unless its own configuration says how much."""
        value, _, source = seen.room.partition(" ")
        if value == str(mebibytes) or (source and not source.endswith("postgresql.auto.conf")):
            return
        self._server.sql(
            "postgres", f"ALTER SYSTEM SET max_slot_wal_keep_size = '{mebibytes}MB'", "SELECT pg_reload_conf()"
        )

    def have_slot(self) -> None:
        self._server.sql(
            "postgres",
            f"SELECT pg_create_physical_replication_slot('{SLOT}', true) "  # noqa: S608 - a constant
            f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{SLOT}')",
        )

    def drop_slot(self) -> bool:
        """Returns whether there was one."""
        dropped = "SELECT slot_name, pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        return bool(self._server.sql("postgres", f"{dropped} WHERE slot_name = '{SLOT}'"))

    def switch(self) -> None:
        """End the segment that is written now, if anything is in it."""
        self._server.sql("postgres", "SELECT pg_switch_wal()")

    def release(self, seen: Seen, segment: int) -> None:
        """Have the server keep its log from that segment on."""
        at = segment * seen.size
        position = f"{at >> 32:X}/{at & 0xFFFFFFFF:X}"
        self._server.sql("postgres", f"SELECT pg_replication_slot_advance('{SLOT}', '{position}')")


class State:
    """What a host knows of its log without asking the archive. Lost, it is found anew there."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.place / "wal.json"
        self.repository = settings.repository

    def read(self) -> dict[str, Any]:
        try:
            return read_json(self._file) or {}
        except (Damaged, OSError):
            return {}

    def note(self, **news: Any) -> None:
        """Lay news over what is known; None takes something away. Raises OSError."""
        known = {name: value for name, value in {**self.read(), **news}.items() if value is not None}
        write_durably(self._file, json.dumps(known, indent=1, sort_keys=True) + "\n", mode=0o600)

    @contextmanager
    def alone(self, what: str = "wal", wait: bool = False) -> Iterator[None]:
        """One process at a time keeps the log, or makes a base; the other one is waited for, or refuses this one.

        Raises BackupError where it does.
        """
        with open(self._file.parent / f"{what}.lock", "a", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                named = {"wal": "the write-ahead log is being kept", "base": "a base is being made"}[what]
                raise BackupError(BUSY, f"nothing was done: {named} by another run; wait for its end") from None
            yield


def order_base() -> None:
    """Have a base made, by a unit of its own that nobody waits for."""
    with suppress(command.CommandError):
        command.run(["systemctl", "start", "--no-block", BASE_UNIT], 30)


def keep(
    host: Host, archive: Archive, log: Log, order: Optional[Callable[[], None]] = None, wait: bool = False
) -> dict[str, Any]:
    """Have what was committed until now in the archive; what is told. Raises BackupError.

    A base that is missing is ordered, where that is said how: without one the log leads nowhere.
    """
    state = State(host.settings)
    with state.alone(wait=wait):
        began = now()
        try:
            with failures(host.settings.place):
                seen = log.look()
                _require_base(log)
                log.bound(seen, host.settings.wal_room)
                _ship(archive, log, state, _begin(host, archive, log, state, seen))
        except BackupError as error:
            failed = _spare(log, error)
            since = (state.read().get("error") or {}).get("since") or began
            with suppress(OSError):  # of a full disk nobody can take a note; that the log is behind tells
                state.note(error={"since": since, "fault": failed.fault, "message": str(failed)}, unsure=True)
            raise failed from error
        state.note(error=None)
        metrics.tell(host.settings.place)
        known = state.read()
        if order and not known.get("based") and age(known.get("ordered") or at_time(0), now()) >= BASE_EVERY:
            state.note(ordered=now())
            order()
    return told(host.settings)


def _require_base(log: Log) -> None:
    """Raise BackupError, and keep nothing any more, where no base can be made: the repository would only grow."""
    if log.elsewhere():
        log.drop_slot()
        raise BackupError(
            FAILED,
            "the server has tablespaces, whose files are outside of its directory: points in time cannot be had of it; "
            "say backup_wal: false",
        )


def _begin(host: Host, archive: Archive, log: Log, state: State, seen: Seen) -> Seen:
    """Have a slot, and know what the archive has of this server."""
    known = state.read()
    if seen.slot and seen.kept is None:
        log.drop_slot()
    moved = known.get("repository") != state.repository
    if seen.kept is None or moved:
        _open(host, archive)
    if seen.kept is None:
        log.have_slot()
        seen = log.look()
    if seen.kept is None:
        raise BackupError(FAILED, f"{SLOT} keeps none of the server's log; slipway-backup wal tries again")
    shipped = known.get("shipped")
    broken = shipped is None or seen.kept > shipped + 1
    if known.get("stream") != seen.stream or known.get("unsure") or "reach" not in known or broken or moved:
        survey(archive, state, seen)
    return seen


def _open(host: Host, archive: Archive) -> None:
    """Have a repository, as a set has one: one that was there and is gone is not made anew. Raises BackupError."""
    try:
        archive.contents()
    except BackupError as error:
        place = host.settings.repository
        known = host.records.read().get("newest") or {}, State(host.settings).read()
        if error.fault != NO_REPOSITORY or any(one.get("repository") == place for one in known):
            raise
        host.restic.make()


def survey(archive: Archive, state: State, seen: Seen) -> None:
    """Find anew what can be reached, and whether what this server writes from now on follows on a base."""
    bases, pieces = archive.contents()
    found = ways(bases, pieces)
    here = [one for one in found if one.base.stream == seen.stream]
    shipped = max((piece.last for one in here for piece in one.pieces), default=None)
    follows = shipped is not None and seen.kept is not None and seen.kept <= shipped + 1
    mine = [piece for piece in pieces if piece.stream == seen.stream]
    last = max(mine, key=lambda one: (one.last, one.until), default=None)
    # What the slot keeps is read once more, unless all of it up to there is known to be in one piece.
    whole = last is not None and last.first == seen.kept
    ordered = state.read().get("ordered") if state.read().get("stream") == seen.stream else None
    state.note(
        repository=state.repository,
        stream=seen.stream,
        ordered=ordered,
        shipped=last.last if last and whole and follows else (seen.kept or 0) - 1,
        parent=last.snapshot if last and whole and follows else None,
        reach=[list(span) for span in spans(readable(found, seen.major))],
        based=follows,
        newest=max((base.time for base in bases), default=None),
        until=last.until if last and follows else None,
        work=None,
        unsure=None,
    )


def _ship(archive: Archive, log: Log, state: State, seen: Seen) -> None:
    """Keep the segments that are whole, and then what was written since, unless nothing was."""
    known = state.read()
    waiting = seen.writes - 1 > known["shipped"]
    if waiting and known.get("error"):
        # The archive may be away still, and a segment that is ended half full takes the room of a whole one.
        _pieces(archive, log, state, seen, None)
    at = now()
    seen = log.look()
    if seen.work != state.read().get("work"):
        log.switch()
        work, seen = seen.work, log.look()
        _pieces(archive, log, state, seen, at)
        state.note(work=work)
    elif seen.writes - 1 > state.read()["shipped"]:
        _pieces(archive, log, state, seen, at)
    else:
        _reached(state, at)


def _pieces(archive: Archive, log: Log, state: State, seen: Seen, until: Optional[str]) -> None:
    """Keep all whole segments, in pieces that grow; what was committed until `until`, if that is known, is in them."""
    first = seen.kept if seen.kept is not None else seen.writes
    while first < seen.writes:
        last = min(first + PIECE, seen.writes) - 1
        known = state.read()
        if last > known["shipped"]:
            paths = [log.file(seen, segment) for segment in range(first, last + 1)]
            if lost := next((path for path in paths if not path.exists()), None):
                log.drop_slot()
                raise BackupError(FAILED, f"the server has not kept {lost.name} of its log; it is begun anew")
            whole = until if until and last == seen.writes - 1 else at_time(paths[-1].stat().st_mtime - TURN)
            piece = Piece("", seen.stream, first, last, whole)
            kept = archive.keep_log(paths, piece, known.get("parent") or "" if known["shipped"] >= first else "")
            state.note(shipped=last, parent=kept)
            _reached(state, whole)
        if last - first + 1 < PIECE:
            return
        first = last + 1
        log.release(seen, first)


def _reached(state: State, until: str) -> None:
    known = state.read()
    reach = [list(span) for span in known.get("reach") or ()]
    if known.get("based") and reach:
        reach[-1][1] = max(reach[-1][1], until)
    state.note(reach=reach, until=max(until, known.get("until") or ""))


def _spare(log: Log, error: BackupError) -> BackupError:
    """What went wrong; what could not be kept is given up where it would fill the disk of the server."""
    with suppress(BackupError, OSError):
        free = shutil.disk_usage(log.directory).free
        if free < SPARE and log.look().slot:
            log.drop_slot()
            why = f"the disk of the server has {free // MIB} MiB free"
            return BackupError(DISK_FULL, f"{why}, so what could not be kept of its log is given up: {error}")
    return error


def stop(log: Log, settings: Settings) -> bool:
    """Have the server keep nothing for the archive any more. Returns whether it did."""
    state = State(settings)
    with state.alone(wait=True):
        slot = log.drop_slot()  # whatever the server writes into its log: that may be why
        state.note(based=False, error=None)
        metrics.tell(settings.place, ended=True)
    return slot


def reachable(archive: Archive, settings: Settings) -> list[Way]:
    """The ways to all points that can be reached, as the archive has them now.

    Where the server wrote nothing since the last piece, its host knows that this reaches until now.
    """
    bases, pieces = archive.contents()
    known = State(settings).read()
    found = []
    for one in ways(bases, pieces):
        idle = one.base.stream == known.get("stream") and one.pieces[-1].last == known.get("shipped")
        if idle and (known.get("until") or "") > one.until:
            last = one.pieces[-1]
            longer = Piece(last.snapshot, last.stream, last.first, last.last, known["until"])
            one = Way(one.base, (*one.pieces[:-1], longer), known["until"])  # noqa: PLW2901 - the same way, longer
        found.append(one)
    return found


def told(settings: Settings) -> dict[str, Any]:
    """What `status` says, without asking the archive."""
    known = State(settings).read()
    reach: list[Span] = [(since, until) for since, until in known.get("reach") or ()]
    return {
        "reach": [list(span) for span in reach],
        "gaps": [list(span) for span in gaps(reach)],
        "follows": bool(known.get("based")),
        "behind": age(known["until"], now()) if known.get("until") else None,
        "proven": known.get("proven"),
        "base": known.get("newest"),
        "base_error": known.get("base_error"),
        "error": known.get("error"),
    }


def problems(found: Mapping[str, Any]) -> list[str]:
    """What an operator is to know of the points in time, a sentence each."""
    error, behind, reach = found["error"], found["behind"], found["reach"]
    why = f" ({error['fault']}): {error['message']}" if error else ""
    said = []
    if not reach:
        said.append(f"no point in time can be reached yet{why}")
    elif not found["follows"]:
        said.append(f"points after {reach[-1][1]} cannot be reached until a new base is made, which is ordered{why}")
    elif behind is None or behind > BEHIND:
        said.append(f"the write-ahead log is behind: points after {reach[-1][1]} cannot be reached yet{why}")
    if base := found["base_error"]:
        said.append(f"the last base could not be made: {base}")
    return said
