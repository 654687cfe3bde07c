"""Judges a release by what the edge counted: the new slot since the switch against the old one before it.

A release is worse where more requests fail, or are slow, than chance explains, and more than is tolerated anyway.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from ..edge.counts import Answers, Counts
from ..host.errors import SlipwayError

GOOD, WORSE, UNKNOWN = "good", "worse", "unknown"
# What becomes of a release that cannot be judged: it goes on, no further host is begun, or it goes back.
GO, HOLD, REVERT = "go", "hold", "revert"
CHOICES = (GO, HOLD, REVERT)
# The share of requests that may be slower than what is called slow: p95.
TAIL = 0.05
# What reading the edge's counters may raise; ValueError is half an answer.
UNREAD = (SlipwayError, OSError, ValueError)


@dataclass(frozen=True)
class Thresholds:
    """A release is worse only where ratio, difference and chance say so, each by itself.

    A ratio alone would condemn 0.02 % after 0.01 %, a difference alone 6.5 % after 5 %, and both alone what happens to
    every twentieth release that is no worse. The first requests of each worker are slow, therefore `slow`.
    """

    requests: int = 50  # fewer on either side tell nothing good
    errors: int = 3
    error_ratio: float = 2.0
    error_difference: float = 0.01
    slow: int = 10
    ms_ratio: float = 3.0
    ms_difference: float = 200.0
    chance: float = 0.001  # that a release which is no worse looks like this


@dataclass(frozen=True)
class Slot:
    """What one slot did in a time: its requests, how many of them failed, and the times of its answers in ms."""

    requests: int = 0
    errors: int = 0
    times: Counter[int] = field(default_factory=Counter)

    def within(self, share: float) -> Optional[int]:
        """The time in ms within which that share of the answers came; None without answers."""
        least, seen = share * sum(self.times.values()), 0
        for ms in sorted(self.times):
            seen += self.times[ms]
            if seen >= least:
                return ms
        return None

    def slower(self, than: float) -> int:
        """How many answers took longer than so many ms."""
        return sum(count for ms, count in self.times.items() if ms > than)

    def as_dict(self) -> dict[str, Any]:
        return {"requests": self.requests, "errors": self.errors, "p50": self.within(0.5), "p95": self.within(1 - TAIL)}


@dataclass(frozen=True)
class Verdict:
    """`word` is good, worse or unknown; `sentence` says why, with the figures, which also are in `new` and `old`."""

    word: str
    sentence: str
    new: Optional[Slot] = None
    old: Optional[Slot] = None

    def as_dict(self) -> dict[str, Any]:
        """For result and ledger; times in ms."""
        figures = {name: slot.as_dict() for name, slot in (("new", self.new), ("old", self.old)) if slot}
        return {"word": self.word, "sentence": self.sentence, **figures}


def judge(new: Slot, old: Slot, limits: Optional[Thresholds] = None) -> Verdict:
    """Whether the new release answers as well as the old one.

    Without enough requests on both sides it is unknown, unless what there was is bad enough.
    """
    limits = limits or Thresholds()
    errors = _share(new.errors, new.requests), _share(old.errors, old.requests)
    failed = f"{errors[0]:.1%} of {new.requests} requests failed, on the old release {errors[1]:.1%} of {old.requests}"
    took, usual = new.within(1 - TAIL), old.within(1 - TAIL)
    speed = f"; 95 % took up to {took} ms, on the old release {usual} ms" if took is not None is not usual else ""
    if _more_errors(new, old, limits):
        return Verdict(WORSE, failed, new, old)
    if min(new.requests, old.requests) < limits.requests:
        few = f"{new.requests} new and {old.requests} old requests, fewer than {limits.requests}, tell too little"
        return Verdict(UNKNOWN, few, new, old)
    return Verdict(WORSE if _slower(new, old, limits) else GOOD, failed + speed, new, old)


def _more_errors(new: Slot, old: Slot, limits: Thresholds) -> bool:
    rate, usual = _share(new.errors, new.requests), _share(old.errors, old.requests)
    return (
        new.errors >= limits.errors
        and rate > usual * limits.error_ratio
        and rate - usual > limits.error_difference
        and chance(new.errors, new.requests, old.errors, old.requests) < limits.chance
    )


def _slower(new: Slot, old: Slot, limits: Thresholds) -> bool:
    """Whether p95 is over what is called slow, and that by more answers than chance explains.

    Where about every twentieth request is a slow one by nature, p95 jumps; the share of the slow ones does not.
    """
    usual = old.within(1 - TAIL)
    if usual is None:
        return False
    limit = max(usual * limits.ms_ratio, usual + limits.ms_difference)
    slow, slow_before = new.slower(limit), old.slower(limit)
    answers, answers_before = sum(new.times.values()), sum(old.times.values())
    return (
        slow >= limits.slow
        and slow > TAIL * answers
        and chance(slow, answers, slow_before, answers_before) < limits.chance
    )


def chance(bad: int, of: int, bad_before: int, of_before: int) -> float:
    """How likely it is that so many or more of the bad ones fall on the new side, if both sides are alike.

    Fisher's exact test, one-sided: the upper tail of the hypergeometric distribution.
    """
    all_bad, everyone = bad + bad_before, of + of_before
    total, certain = 0.0, _log_choose(everyone, of)
    for number in range(bad, min(of, all_bad) + 1):
        term = math.exp(_log_choose(all_bad, number) + _log_choose(everyone - all_bad, of - number) - certain)
        total += term
        if term < total * 1e-9 and number > all_bad * of / everyone:
            break  # from its most likely number on each is less than the one before
    return min(total, 1.0)


def _log_choose(of: int, number: int) -> float:
    if not 0 <= number <= of:
        return -math.inf
    return math.lgamma(of + 1) - math.lgamma(number + 1) - math.lgamma(of - number + 1)


def _share(part: int, of: int) -> float:
    return part / of if of else 0.0


class Canary:
    """Compares the slots of one app on this host, for a transaction. Raises nothing."""

    def __init__(
        self, count: Callable[[], Counts], forget: Callable[[str], None], limits: Thresholds, unknown: str = GO
    ) -> None:
        """`count` tells what the edge has counted so far, `forget` ends that for a slot; both raise EdgeError."""
        self._count = count
        self._forget = forget
        self._limits = limits
        self._before: Optional[Counts] = None
        self._trouble = "nobody asked"
        self.unknown = unknown

    def begin(self, new: str) -> None:
        """The switch to slot `new` comes now; what is counted of it is another release's."""
        try:
            self._forget(new)
            self._before = self._count()
        except UNREAD as error:
            self._before, self._trouble = None, str(error)

    def verdict(self, new: str, old: str) -> Verdict:
        """On slot `new` since the switch, against slot `old` in the time before that for which the edge counts."""
        if self._before is None:
            return Verdict(UNKNOWN, f"what the edge counts could not be read at the switch: {self._trouble}")
        try:
            before, after = self._before, self._count()
        except UNREAD as error:
            return Verdict(UNKNOWN, f"what the edge counts could not be read: {error}")
        reloaded = after.worker != before.worker
        since = after.of(new) if reloaded else after.of(new).since(before.of(new))
        found = judge(_slot(since), _slot(before.lately.get(old, Answers())), self._limits)
        notes = []
        if reloaded:
            notes.append(f"the edge was reloaded {after.age:.0f} s ago, and what came before is not counted")
        elif before.age < before.recent:
            notes.append(f"the edge counted for {before.age:.0f} s before the switch")
        return replace(found, sentence="; ".join([found.sentence, *notes]))


def _slot(answers: Answers) -> Slot:
    unanswered = answers.unanswered
    return Slot(answers.answered + unanswered, answers.failed + unanswered, answers.times)
