# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Compares hosts with the new release with hosts with the old one, by HAProxy's counters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

GOOD, WORSE, UNKNOWN = "good", "worse", "unknown"


@dataclass(frozen=True)
class Counters:
    """One host over the time of the comparison. `ms` is its average or its p95; None where nothing was measured."""

    host: str
    requests: int
    errors_5xx: int
    ms: Optional[float] = None


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
    ms_ratio: float = 1.5
    ms_difference: float = 20.0


@dataclass(frozen=True)
class Verdict:
    """`word` is good, worse or unknown; `sentence` says why, with the figures."""

    word: str
    sentence: str


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
    if took is not None and usually is not None and _worse(took, usually, limits.ms_ratio, limits.ms_difference):
        slowest = max((host for host in new if host.ms is not None), key=lambda host: host.ms or 0.0)
        return Verdict(WORSE, f"it takes {took:.0f} ms (most on {slowest.host}), the old release {usually:.0f} ms")
    speed = f", {took:.0f} ms after {usually:.0f} ms" if took is not None and usually is not None else ""
    return Verdict(GOOD, f"{rate:.1%} of {asked} requests failed, on the old release {usual:.1%}{speed}")


def _worse(value: float, usual: float, ratio: float, difference: float) -> bool:
    return value > usual * ratio and value - usual > difference


def _average(hosts: Sequence[Counters]) -> Optional[float]:
    """The hosts' times, each weighed by its requests: right for averages, near enough for percentiles."""
    measured = [(host.ms, host.requests) for host in hosts if host.ms is not None and host.requests > 0]
    weight = sum(requests for _, requests in measured)
    return sum(ms * requests for ms, requests in measured) / weight if weight else None
