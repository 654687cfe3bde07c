"""Whether the apps of a host may use many more processors than it has, so that each waits for the others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

# Limits of all apps together, for each processor of the host: more than that they seldom need in one moment.
AT_ONCE = 2


def processors() -> int:
    """How many this host has."""
    return len(os.sched_getaffinity(0))


def processors_lack(
    slot: float, processes: Mapping[str, Any], singletons: bool, total: int, others: Mapping[str, float]
) -> Optional[str]:
    """Which number to lower where limits are far more than the host has; None where they are not.

    No limit counts for more than the host has, as none lets a process have more. What runs beside the slot and the
    `others`, the other apps by name, are there all the time; the second slot is there for the seconds of a release, and
    does not count.
    """
    beside = {
        name: one["replicas"] * min(one["cpus"], total)
        for name, one in processes.items()
        if singletons or not one.get("singleton")
    }
    slot = min(slot, total)
    needed = slot + sum(beside.values()) + sum(others.values())
    if not slot or needed <= AT_ONCE * total:
        return None
    takes = f"a slot of {slot:g}"
    if beside:
        takes += f" and its processes ({', '.join(f'{name} {cpus:g}' for name, cpus in beside.items())})"
    if others:
        takes += f" beside {', '.join(f'{name} {cpus:g}' for name, cpus in others.items())}"
    return (
        f"processors: this host has {total}, and {takes} may use {needed:g} at once; then each waits for the others. "
        f"Lower {_lower(slot, beside, others)}, or give the host more"
    )


def _lower(slot: float, beside: Mapping[str, float], others: Mapping[str, float]) -> str:
    """The variable that makes the most of it."""
    names = {"fastapi_app_cpus": slot}
    names |= {f"cpus or replicas of {name} in fastapi_app_processes": cpus for name, cpus in beside.items()}
    names |= {f"fastapi_app_cpus of {name}": cpus for name, cpus in others.items()}
    return max(names, key=lambda name: names[name])
