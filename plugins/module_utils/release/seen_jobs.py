"""What is told of jobs: when each is due, what became of it last, and where timers are not as they should be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

from ..host.errors import Damaged
from .records import UNSEEN
from .timers import Timers

# A line of status: name, schedule, next (when it is due, in systemd's words), running (since when, or empty), and what
# became of it last: release, began, ended, seconds, rc, cause (empty where it went well), log; of one that runs still
# that of the run before it, as `before`.
Row = dict[str, Any]


def seen_jobs(timers: Timers, release: Optional[str]) -> tuple[list[Row], list[str]]:
    """A row for each job that this host runs, and every difference of its timers. Raises nothing."""
    try:
        wanted = timers.wanted(release)
        due = timers.next(wanted)
    except UNSEEN as error:
        return [], [str(error)]
    rows = []
    for name, job in sorted(wanted.items()):
        runs = timers.store.job_runs(name) or ""
        rows.append({"name": name, "schedule": job.schedule, "next": due[name], "running": runs, **_last(timers, name)})
    return rows, timers_problems(timers, release)


def timers_problems(timers: Timers, release: Optional[str]) -> list[str]:
    """A sentence for each difference of the timers from what they should be. Raises nothing."""
    try:
        return timers.drift(release)
    except UNSEEN as error:
        return [str(error)]


def running(timers: Timers, names: Optional[Sequence[str]] = None) -> str:
    """A job that runs here (one that has a timer, or one of `names`), with since when; empty where none does."""
    for name in timers.names() if names is None else names:
        if runs := timers.store.job_runs(name):
            return f"{name} ({runs})"
    return ""


def _last(timers: Timers, name: str) -> Row:
    """What became of a job last; empty where it never ran."""
    try:
        found = timers.store.job(name)
    except (Damaged, OSError) as error:
        return {"cause": str(error)}
    if found and "ended" not in found and not timers.store.job_runs(name):
        found["cause"] = "it was cut before its end; the host went down, or its program was killed"
    return found
