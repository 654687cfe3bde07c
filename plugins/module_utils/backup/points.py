"""Points in time that can be reached, from what is kept of a server: bases, and pieces of its write-ahead log. Pure.

A stream is one line of a server's log: the server's identifier, as it was made, and its timeline. Segments of it are
counted from its beginning. A base is reached from the moment at which its copy was whole; from there on every point is,
as far as the pieces follow each other without a gap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Optional

from .model import REFUSED, BackupError


@dataclass(frozen=True)
class Base:
    """A copy of a server's data, and the segments `first` to `last` without which it is none; whole at `time`.

    Servers of its `major` version alone read it; 0 where that is not known.
    """

    snapshot: str
    stream: str
    first: int
    last: int
    time: str
    major: int = 0


@dataclass(frozen=True)
class Piece:
    """The segments `first` to `last` of a log, kept as one; all that was committed until `until` is in them."""

    snapshot: str
    stream: str
    first: int
    last: int
    until: str


@dataclass(frozen=True)
class Way:
    """How a point is reached: a base, and the pieces after it in their order. Points are there until `until`."""

    base: Base
    pieces: tuple[Piece, ...]
    until: str


Span = tuple[str, str]


_DATE = re.compile(r"\d{4}-\d\d-\d\d")
# What Ansible leaves of a time that was written with a blank.
_CUT = (
    "; a blank ends a value after -e: write a T between date and time, or "
    """-e '{"slipway_time": "2026-11-27 10:15:00Z"}'"""
)


def moment(text: str) -> datetime:
    """A time as an operator writes it, or as records have it. Raises BackupError for what is none, or of no zone."""
    try:
        found = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BackupError(
            REFUSED,
            f"nothing was done: {text!r} is no point in time; write date, time and zone, such as 2026-11-27T10:15:00Z"
            f"{_CUT if _DATE.fullmatch(text.strip()) else ''}",
        )
    return found.astimezone(timezone.utc)


def way(base: Base, pieces: Iterable[Piece]) -> Optional[Way]:
    """What follows a base without a gap; None where the log ends before the base is one."""
    covered, until, chain = base.first - 1, "", []
    own = [piece for piece in pieces if piece.stream == base.stream and piece.last >= base.first]
    # Of two that begin together the longer one: the other was kept on the way to it.
    for piece in sorted(sorted(own, key=lambda one: one.until, reverse=True), key=lambda one: (one.first, -one.last)):
        if piece.first > covered + 1:
            break
        if piece.last > covered:
            covered = piece.last
            chain.append(piece)
            until = max(until, piece.until)
    return Way(base, tuple(chain), until) if covered >= base.last and until >= base.time else None


def ways(bases: Iterable[Base], pieces: Sequence[Piece]) -> list[Way]:
    """Of each base that reaches anything, the oldest first."""
    found = [reached for base in bases if (reached := way(base, pieces))]
    return sorted(found, key=lambda one: one.base.time)


def spans(found: Iterable[Way]) -> list[Span]:
    """From when until when each point can be reached, in their order; what is between two of them cannot be."""
    together: list[Span] = []
    for since, until in sorted((one.base.time, one.until) for one in found):
        if together and since <= together[-1][1]:
            together[-1] = together[-1][0], max(until, together[-1][1])
        else:
            together.append((since, until))
    return together


def readable(found: Iterable[Way], major: int) -> list[Way]:
    """Those that lead to data which a server of this major version reads."""
    return [one for one in found if one.base.major in (0, major)]


def chosen(found: Sequence[Way], wanted: str, major: int, whose: str = "") -> Way:
    """The shortest way to a point of this host or that one, of what a server of this version reads if there is one.

    Raises BackupError for one that cannot be reached, with those that can.
    """
    at = moment(wanted)
    fits = [one for one in found if moment(one.base.time) <= at <= moment(one.until)]
    if not fits:
        raise BackupError(REFUSED, f"nothing was done: {unreachable(wanted, spans(readable(found, major)), whose)}")
    best = max(readable(fits, major) or fits, key=lambda one: one.base.time)
    needed = []
    for piece in best.pieces:
        needed.append(piece)
        if piece.last >= best.base.last and moment(piece.until) >= at:
            break
    return Way(best.base, tuple(needed), best.until)


def unreachable(wanted: str, reached: Sequence[Span], whose: str = "") -> str:
    """Why a point of this host cannot be reached, or of that one, and which can."""
    if not reached and whose:
        return (
            f"no point in time of {whose} can be reached, so {wanted} cannot; restore a set of {whose} instead "
            "(slipway_of without slipway_time)"
        )
    if not reached:
        return f"no point in time can be reached on this host, so {wanted} cannot; slipway-backup status says why"
    parts = "; ".join(f"from {since} to {until}" for since, until in reached)
    return f"{wanted} cannot be reached; these points can be: {parts}"


def gaps(reached: Sequence[Span]) -> list[Span]:
    """What lies between points that can be reached, and cannot be."""
    return [(before[1], after[0]) for before, after in zip(reached, reached[1:])]


def stale(bases: Sequence[Base], pieces: Sequence[Piece], horizon: str) -> list[str]:
    """The snapshots without which each point since `horizon` is reached that can be now, those of bases first."""
    found = ways(bases, pieces)
    before = [one.base for one in found if one.base.time < horizon <= one.until]
    needed = [base for base in bases if base.time >= horizon] + before[-1:]
    # Where nothing reaches so far, the newest that reaches anything stays: a log that stopped is no reason to lose it.
    needed = needed or [one.base for one in found[-1:]]
    since = {stream: min(one.first for one in needed if one.stream == stream) for stream in {b.stream for b in needed}}
    gone = [base.snapshot for base in bases if base not in needed]
    for piece in pieces:
        within = any(_within(piece, other) for other in pieces if other is not piece)
        old = piece.last < since[piece.stream] if piece.stream in since else piece.until < horizon
        if within or old:
            gone.append(piece.snapshot)
    return gone


def _within(piece: Piece, other: Piece) -> bool:
    """Whether another one has all of it, and more; of two with the same segments one of them has."""
    if piece.stream != other.stream or piece.first < other.first or piece.last > other.last:
        return False
    same = (piece.first, piece.last) == (other.first, other.last)
    return not same or (other.until, other.snapshot) > (piece.until, piece.snapshot)
