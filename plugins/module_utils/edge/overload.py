"""Whether an app is asked for more than it can do, as the edge's counters of its answers show it.

Whoever waits has left long before an app that is behind answers, but the edge waits on: so what it counts are answers
that take many times as long as they did, while as many come as ever. An app that is slow because of something else
answers fewer. Only what is answered counts: a websocket and a stream of events are as soon as they have begun.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Optional

from .counts import Ask, Counts, counts
from .haproxy import number_in, rows_of

# Seconds between the two looks, where the first one tells of slow answers.
PAUSE = 2.0
# Answers of the last minutes that tell something, and of the seconds between the two looks.
LATELY, NOW = 100, 10
# An answer that is late: in ms, and of what the quick ones take.
LATE_MS, LATE_RATIO = 1000, 8
# Of all answers, the quick ones: what a request takes where it waits for no other one. And the slow ones of the last
# minutes, which tell that a second look is worth its time.
QUICK, SLOW = 0.1, 0.9
# Twice the number by which the app is busy all the time costs nothing (docs/protection.md).
ROOM = 2


def within(times: Mapping[int, int], share: float) -> int:
    """The time in ms within which that share of the answers came; 0 without any."""
    least, seen = share * sum(times.values()), 0
    for ms in sorted(times):
        seen += times[ms]
        if seen >= least:
            return ms
    return 0


def overload(ask: Ask, backend: str, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """What tells that a slot is asked for more than it can do; empty where none is. Raises EdgeError.

    `ms` is what half of the answers take now and `usual_ms` what they take where nothing waits, `rate` how many come a
    second, and `number` by Little's law how many the app does at a time then, with room: for
    `fastapi_app_max_connections`. With such a number what waits does so at the edge, and nothing is told.
    """
    first = counts(ask, backend)
    late = [
        slot for slot, of in first.lately.items() if of.answered >= LATELY and _is_late(of.times, SLOW, first, slot)
    ]
    if not late or _limited(ask, backend):
        return {}
    began = time.monotonic()
    sleep(PAUSE)
    second = counts(ask, backend)
    took = max(time.monotonic() - began, PAUSE)
    found = (_judged(slot, first, second, took) for slot in late if first.worker == second.worker)
    return next(filter(None, found), {})


def _judged(slot: str, first: Counts, second: Counts, took: float) -> Optional[dict[str, Any]]:
    """Of what came between two looks."""
    now = second.ever[slot].times - first.ever[slot].times
    answered = sum(now.values())
    rate, before = answered / took, first.ever[slot].answered / max(first.age, 1.0)
    if answered < NOW or rate < before / 2 or not _is_late(now, 0.5, first, slot):
        return None
    usual = within(first.ever[slot].times, QUICK)
    return {
        "slot": slot,
        "ms": within(now, 0.5),
        "usual_ms": usual,
        "rate": round(rate),
        "number": max(1, math.ceil(ROOM * rate * usual / 1000)),
    }


def _is_late(times: Counter[int], share: float, counted: Counts, slot: str) -> bool:
    return within(times, share) >= max(LATE_MS, LATE_RATIO * within(counted.ever[slot].times, QUICK))


def _limited(ask: Ask, backend: str) -> bool:
    """Whether the slots have a limit of requests at a time."""
    rows = rows_of(ask("show stat"), ",", ("pxname", "svname", "slim"), backend)
    return any(row["svname"] != "BACKEND" and number_in(row, "slim") for row in rows)
