"""Which number is to be lowered where the apps of a host may use far more processors than it has."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.processors import processors, processors_lack

WORKER = {"worker": {"replicas": 3, "cpus": 1.0}}
BEAT = {"beat": {"replicas": 1, "cpus": 8.0, "singleton": True}}


@pytest.mark.parametrize(
    ("slot", "processes", "singletons", "total", "others", "said"),
    [
        # The defaults, on the smallest host, and two apps with them on one of two.
        (2.0, {}, True, 1, {}, None),
        (2.0, {}, True, 2, {"shop": 2.0}, None),
        (2.0, {}, True, 2, {"shop": 2.0, "blog": 0.5}, "a slot of 2 beside shop 2, blog 0.5 may use 4.5 at once; "),
        (64.0, {}, True, 2, {}, None),
        (2.0, WORKER, True, 2, {}, "this host has 2, and a slot of 2 and its processes (worker 3) may use 5 at once"),
        (2.0, WORKER, True, 2, {}, "Lower cpus or replicas of worker in fastapi_app_processes, or give"),
        (0.5, WORKER, True, 2, {}, None),
        (2.0, WORKER, True, 4, {}, None),
        (2.0, BEAT, True, 1, {"shop": 1.0}, "(beat 1) beside shop 1 may use 3 at once"),
        (2.0, BEAT, False, 1, {"shop": 1.0}, None),
        (2.0, {}, True, 2, {"shop": 3.0}, "Lower fastapi_app_cpus of shop, or"),
        (4.0, {}, True, 4, {"shop": 3.0, "blog": 3.0}, "Lower fastapi_app_cpus, or"),
        (0.0, {}, True, 1, {"shop": 9.0}, None),
    ],
)
def test_processors(
    slot: float, processes: dict[str, Any], singletons: bool, total: int, others: dict[str, float], said: str | None
) -> None:
    found = processors_lack(slot, processes, singletons, total, others)
    assert (found is None) if said is None else (found is not None and said in found), found


def test_how_many_there_are() -> None:
    assert processors() > 0
