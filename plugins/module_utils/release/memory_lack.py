"""Whether a host has the memory that a release may take: its slots, and what runs beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

# The part of a host's memory that the limits of all that shares it may be above it.
SHARED = 8
# What has its limit in a variable of its own name; a cache of another name than the first in the inventory of its app.
SERVICES = ("postgres", "redis")
CACHE = "redis-"

_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def total_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """The memory of this host in MiB, 0 where it does not say."""
    try:
        found = _TOTAL.search(meminfo.read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) >> 10 if found else 0


def memory_lack(
    slot_mib: int,
    processes: Mapping[str, Any],
    singletons: bool,
    overlap: bool,
    total: int,
    jobs: bool = False,
    others: Optional[Mapping[str, int]] = None,
) -> Optional[str]:
    """Which number to lower where limits are more than the host has; None where they fit, or nobody knows.

    Limits in MiB; they reserve nothing, so one that is too high keeps no release from serving. What runs beside the
    slots is there all the time, and beside it two slots where the releases `overlap`; without processes it is one slot
    that must fit, since two seldom need all of theirs in the moment in which both run. A job runs in what a slot has,
    and jobs seldom run at a time. `others` are database, cache and other apps by name: not all of a host take all of
    theirs at once, so together they may have an eighth more than there is.
    """
    beside = {
        name: one["replicas"] * one["memory_mib"]
        for name, one in processes.items()
        if singletons or not one.get("singleton")
    }
    others = {name: mib for name, mib in (others or {}).items() if mib}
    job = slot_mib if jobs and singletons else 0
    slots = 2 if beside and overlap else 1
    needed = slots * slot_mib + job + sum(beside.values()) + sum(others.values())
    room = total + total // SHARED if others else total
    if not total or needed <= room:
        return None
    takes = f"two slots of {slot_mib}" if slots == 2 else f"a slot of {slot_mib}"
    takes += f", a job of {job}" if job else ""
    if beside:
        takes += f" and its processes ({', '.join(f'{name} {mib}' for name, mib in beside.items())})"
    if others:
        takes += f" beside {', '.join(f'{name} {mib}' for name, mib in others.items())}"
    return (
        f"memory: this host has {total} MiB, and {takes} may take {needed}; where they do the kernel ends one of them, "
        f"or another program. Lower {_lower(slot_mib, beside, others)}, or give the host more"
    )


def _lower(slot_mib: int, beside: Mapping[str, int], others: Mapping[str, int]) -> str:
    """The variable that makes the most of it."""
    largest = max(beside, key=lambda name: beside[name], default="")
    lower, most = "fastapi_app_memory_mib", slot_mib
    if largest and beside[largest] > slot_mib:
        lower, most = f"memory_mib or replicas of {largest} in fastapi_app_processes", beside[largest]
    other = max(others, key=lambda name: others[name], default="")
    if other and others[other] > most:
        lower = _variable(other)
    return lower


def _variable(other: str) -> str:
    if other in SERVICES:
        return f"{other}_memory_mib"
    return f"redis_memory_mib of {other}" if other.startswith(CACHE) else f"fastapi_app_memory_mib of {other}"
