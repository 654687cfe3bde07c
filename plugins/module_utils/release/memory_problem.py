"""Whether a host has the memory that a release may take: two slots, and what runs beside them."""

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


def memory_problem(slot_mib: int, processes: Mapping[str, Any], singletons: bool, total: int) -> Optional[str]:
    """Which number to lower where a release's limits are more than the host has; None where they fit, or nobody knows.

    Limits in MiB. Without processes it is one slot that must fit: two seldom need all of theirs in the moment in which
    both run. What runs beside them is there all the time.
    """
    beside = {
        name: one["replicas"] * one["memory_mib"]
        for name, one in processes.items()
        if singletons or not one.get("singleton")
    }
    needed = (2 * slot_mib if beside else slot_mib) + sum(beside.values())
    if not total or needed <= total:
        return None
    if not beside:
        return f"memory: this host has {total} MiB, and a slot may take {slot_mib}; lower fastapi_app_memory_mib"
    listed = ", ".join(f"{name} {mib}" for name, mib in beside.items())
    largest = max(beside, key=lambda name: beside[name])
    lower = "fastapi_app_memory_mib" if slot_mib >= beside[largest] else f"memory_mib or replicas of {largest}"
    return (
        f"memory: this host has {total} MiB; two slots of {slot_mib} and its processes ({listed}) may take {needed}. "
        f"Lower {lower}{'' if lower.startswith('fastapi') else ' in fastapi_app_processes'} by what is too much"
    )
