"""Which number is to be lowered where a host has less memory than a release may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.memory_problem import memory_problem, total_mib

WORKER = {"worker": {"replicas": 2, "memory_mib": 256}}
BEAT = {"beat": {"replicas": 1, "memory_mib": 512, "singleton": True}}


@pytest.mark.parametrize(
    ("slot", "processes", "singletons", "total", "said"),
    [
        (512, {}, True, 957, None),
        (2048, {}, True, 957, "this host has 957 MiB, and a slot may take 2048; lower fastapi_app_memory_mib"),
        (512, WORKER, True, 2000, None),
        (
            512,
            WORKER,
            True,
            1500,
            "two slots of 512 and its processes (worker 512) may take 1536. Lower fastapi_app_mem",
        ),
        (256, WORKER, True, 900, "may take 1024. Lower memory_mib or replicas of worker in fastapi_app_processes"),
        (256, BEAT, True, 1000, "(beat 512) may take 1024. Lower memory_mib or replicas of beat"),
        (256, BEAT, False, 1000, None),
        (512, WORKER, True, 0, None),
    ],
)
def test_memory(slot: int, processes: dict[str, Any], singletons: bool, total: int, said: str | None) -> None:
    found = memory_problem(slot, processes, singletons, total)
    assert (found is None) if said is None else (found is not None and said in found)


def test_how_much_there_is(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:        2048000 kB\nMemFree:  1 kB\n")
    assert total_mib(tmp_path / "meminfo") == 2000
    assert total_mib(tmp_path / "none") == 0
    assert total_mib() > 0
