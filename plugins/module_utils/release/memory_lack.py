"""Whether a host has the memory that a release may take: its slots, and what runs beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

_TOTAL = re.compile(r"^MemTotal:\s+(\d+) kB$", re.MULTILINE)


def total_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    """The memory of this host in MiB, 0 where it does not say."""
    try:
        found = _TOTAL.search(meminfo.read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) >> 10 if found else 0


def memory_lack(
    slot_mib: int, processes: Mapping[str, Any], singletons: bool, overlap: bool, total: int
) -> Optional[str]:
    """Which number to lower where a release's limits are more than the host has; None where they fit, or nobody knows.

    Limits in MiB; they reserve nothing, so one that is too high keeps no release from serving. What runs beside the
    slots is there all the time, and beside it two slots where the releases `overlap`; without processes it is one slot
    that must fit, since two seldom need all of theirs in the moment in which both run.
    """
    beside = {
        name: one["replicas"] * one["memory_mib"]
        for name, one in processes.items()
        if singletons or not one.get("singleton")
    }
    slots = 2 if beside and overlap else 1
    needed = slots * slot_mib + sum(beside.values())
    if not total or needed <= total:
        return None
    largest = max(beside, key=lambda name: beside[name], default="")
    lower = "fastapi_app_memory_mib"
    if largest and beside[largest] > slot_mib:
        lower = f"memory_mib or replicas of {largest} in fastapi_app_processes"
    takes = f"two slots of {slot_mib}" if slots == 2 else f"a slot of {slot_mib}"
    if beside:
        takes += f" and its processes ({', '.join(f'{name} {mib}' for name, mib in beside.items())})"
    return (
        f"memory: this host has {total} MiB, and {takes} may take {needed}; where they do the kernel ends one of them, "
        f"or another program. Lower {lower}, or give the host more"
    )
