"""Judges a release by what the edge logged: the new slot since the switch against the old one before it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from ..edge.haproxy import PORT
from ..host import command
from ..host.reading import object_of

GOOD, WORSE, UNKNOWN = "good", "worse", "unknown"


@dataclass(frozen=True)
class Counters:
    """One slot or host over the time of the comparison.

    `ms` is its p95 and `median` what half of its requests took; None where nothing was measured.
    """

    host: str
    requests: int
    errors_5xx: int
    ms: Optional[float] = None
    median: Optional[float] = None


@dataclass(frozen=True)
class Thresholds:
    """A release is worse only where both the ratio and the difference say so.

    A ratio alone would condemn 0.02 % after 0.01 %, a difference alone 6.5 % after 5 %; and one lost request among
    fifty says nothing, therefore `errors`.
    """

    requests: int = 50  # fewer on either side decide nothing
    errors: int = 3
    error_ratio: float = 2.0
    error_difference: float = 0.01
    ms_ratio: float = 3.0
    ms_difference: float = 200.0


# Seconds before the switch that the old release is looked at.
BEFORE = 300.0


@dataclass(frozen=True)
class Verdict:
    """`word` is good, worse or unknown; `sentence` says why, with the figures."""

    word: str
    sentence: str

    def as_dict(self) -> dict[str, str]:
        return {"word": self.word, "sentence": self.sentence}


def judge(new: Sequence[Counters], old: Sequence[Counters], limits: Optional[Thresholds] = None) -> Verdict:
    """Whether the new release answers as well as the old one.

    Without enough requests on both sides the verdict is unknown; the caller decides whether that stops a roll.
    """
    limits = limits or Thresholds()
    asked, before = sum(host.requests for host in new), sum(host.requests for host in old)
    if min(asked, before) < limits.requests:
        return Verdict(UNKNOWN, f"{asked} new and {before} old requests, fewer than {limits.requests}, decide nothing")
    errors = sum(host.errors_5xx for host in new)
    rate, usual = errors / asked, sum(host.errors_5xx for host in old) / before
    if errors >= limits.errors and _worse(rate, usual, limits.error_ratio, limits.error_difference):
        return Verdict(WORSE, f"{errors} of {asked} requests failed ({rate:.1%}), on the old release {usual:.1%}")
    took, usually = _average(new), _average(old)
    slower = took is not None and usually is not None and _worse(took, usually, limits.ms_ratio, limits.ms_difference)
    if slower and _median_worse(new, old):
        slowest = max((host for host in new if host.ms is not None), key=lambda host: host.ms or 0.0)
        return Verdict(WORSE, f"it takes {took:.0f} ms (most on {slowest.host}), the old release {usually:.0f} ms")
    speed = f", {took:.0f} ms after {usually:.0f} ms" if took is not None and usually is not None else ""
    return Verdict(GOOD, f"{rate:.1%} of {asked} requests failed, on the old release {usual:.1%}{speed}")


def _worse(value: float, usual: float, ratio: float, difference: float) -> bool:
    return value > usual * ratio and value - usual > difference


def _median_worse(new: Sequence[Counters], old: Sequence[Counters]) -> bool:
    """Where about every twentieth request is a slow one by nature, p95 jumps by chance; the median does not."""
    took = [host.median for host in new if host.median is not None]
    usually = [host.median for host in old if host.median is not None]
    return not took or not usually or max(took) > 1.2 * max(usually)


def _average(hosts: Sequence[Counters]) -> Optional[float]:
    """The hosts' times, each weighed by its requests: right for averages, near enough for percentiles."""
    measured = [(host.ms, host.requests) for host in hosts if host.ms is not None and host.requests > 0]
    weight = sum(requests for _, requests in measured)
    return sum(ms * requests for ms, requests in measured) / weight if weight else None


# Lines of the access log that are read at most; more do not change a rate or a percentile.
LINES = 50_000
LOG_LIMIT = 64 << 20  # bytes


def counted(lines: Iterable[str], backend: str, slot: str, between: tuple[float, float]) -> Counters:
    """What the access log tells of one slot for requests that began in an interval (seconds since the epoch).

    A line that is not one of the access log is passed over; so is a websocket, whose time is its user's.
    """
    times, errors = [], 0
    for line in lines:
        try:
            entry = object_of(line)
            of_slot = entry["slot"] in (slot, slot + PORT)
            if entry["app"] != backend or not of_slot or not between[0] <= float(entry["time"]) < between[1]:
                continue
            status, took = int(entry["status"]), float(entry["ms"]["total"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        if status != 101 and math.isfinite(took):
            times.append(took)
            errors += status >= 500
    times.sort()
    p95 = times[math.ceil(len(times) * 0.95) - 1] if times else None
    return Counters(slot, len(times), errors, p95, times[len(times) // 2] if times else None)


def access_log(since: float) -> list[str]:
    """The edge's log from the journal since a time (seconds since the epoch). Raises CommandError where it cannot."""
    words = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--since=@{since:.0f}", f"--lines={LINES}"]
    ran = command.run([*words, "SYSLOG_IDENTIFIER=haproxy"], 30, limit=LOG_LIMIT)
    if ran.returncode:
        raise command.CommandError(f"the edge's log cannot be read: {ran.said}")
    return ran.stdout.splitlines()


class Canary:
    """Compares the slots of one app on this host; called by the transaction when the soak time is over."""

    def __init__(self, backend: str, limits: Thresholds, before: float) -> None:
        self.backend = backend
        self.limits = limits
        self.before = before

    def __call__(self, new: str, old: str, seconds: float) -> Verdict:
        """`new` over the last `seconds` against `old` over the `before` seconds until then. Raises nothing."""
        switched = time.time() - seconds
        try:
            lines = access_log(switched - self.before)
        except command.CommandError as error:
            return Verdict(UNKNOWN, str(error))
        return judge(
            [counted(lines, self.backend, new, (switched, math.inf))],
            [counted(lines, self.backend, old, (switched - self.before, switched))],
            self.limits,
        )
