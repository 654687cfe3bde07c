"""What is told of the processes beside the slots: how many run, how often they were restarted, what they printed."""

from __future__ import annotations

from typing import Any, Optional

from .processes import Processes
from .records import UNSEEN

# A line of status: name, running, wanted, restarts, and how many of an earlier release end still.
Row = dict[str, Any]


def seen_beside(
    work: Processes, slot: str, release: Optional[str], moving: bool = False
) -> tuple[list[Row], list[str]]:
    """A line for each process of what serves in a slot, and every difference from what it declares. Raises nothing.

    Where a run holds the app it may be `moving` singletons from one host to another: that is no difference.
    """
    try:
        there = work.runtime.beside.instances()
        wanted = work.wanted(release) if release else {}
        others = work.difference(slot, release, there).others
    except UNSEEN as error:
        return [], [str(error)]
    rows, drift = [], []
    for name in sorted({one.name for one in there if not one.gone} | set(wanted)):
        named = [one for one in there if one.name == name and not one.gone]
        mine = [one for one in named if not one.ending and one not in others]
        row: Row = {
            "name": name,
            "running": sum(one.running for one in mine),
            "wanted": wanted[name].replicas if name in wanted else 0,
            "restarts": sum(one.restarts for one in mine),
            "ending": sum(one.ending for one in named),
        }
        rows.append(row)
        if moving and name in wanted and wanted[name].singleton:
            continue
        if row["running"] < row["wanted"]:
            drift.append(f"of the process {name} {row['running']} of {row['wanted']} run")
        if row["restarts"]:
            drift.append(f"the process {name} was restarted {row['restarts']} times")
    surplus = [one for one in others if not one.gone and not (moving and work.is_single(one))]
    drift += [f"the process {one.name} of release {one.release} runs too" for one in surplus]
    return rows, drift


def logs_beside(work: Processes, lines: int) -> list[dict[str, str]]:
    """The last lines of each process that runs, by its name; of several with a number. Raises RuntimeFailed."""
    there = [one for one in work.runtime.beside.instances() if not one.gone]
    found = []
    for name in sorted({one.name for one in there}):
        named = [one for one in there if one.name == name]
        for number, one in enumerate(named, 1):
            label = f"{name} {number}" if len(named) > 1 else name
            found.append({"name": label, "log": work.runtime.beside.logs(one, lines)})
    return found
