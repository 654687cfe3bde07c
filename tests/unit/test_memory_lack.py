"""Which number is to be lowered where a host has less memory than a release may take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.memory_lack import memory_lack, total_mib
from ansible_collections.slipway.fleet.plugins.module_utils.release.processors import processors_lack

from tests.templates.rendering import Role

WORKER = {"worker": {"replicas": 2, "memory_mib": 256}}
BEAT = {"beat": {"replicas": 1, "memory_mib": 512, "singleton": True}}


ALL = (True, True)  # the host of the singletons, and releases that overlap


@pytest.mark.parametrize(
    ("slot", "processes", "how", "total", "said"),
    [
        (512, {}, ALL, 957, None),
        (2048, {}, ALL, 957, "this host has 957 MiB, and a slot of 2048 may take 2048; "),
        (2048, {}, ALL, 957, "Lower fastapi_app_memory_mib, or give the host more"),
        (512, WORKER, ALL, 2000, None),
        (512, WORKER, ALL, 1500, "two slots of 512 and its processes (worker 512) may take 1536; "),
        (512, WORKER, (True, False), 1500, None),
        (512, WORKER, (True, False), 1000, "a slot of 512 and its processes (worker 512) may take 1024; "),
        (512, WORKER, ALL, 1500, "Lower fastapi_app_memory_mib, or"),
        (256, WORKER, ALL, 900, "Lower memory_mib or replicas of worker in fastapi_app_processes, or"),
        (256, BEAT, ALL, 1000, "(beat 512) may take 1024; "),
        (256, BEAT, (False, True), 1000, None),
        (512, WORKER, ALL, 0, None),
    ],
)
def test_memory(slot: int, processes: dict[str, Any], how: tuple[bool, bool], total: int, said: str | None) -> None:
    found = memory_lack(slot, processes, *how, total)
    assert (found is None) if said is None else (found is not None and said in found)


SERVICES = {"postgres": 382, "redis": 96}


@pytest.mark.parametrize(
    ("slot", "processes", "how", "jobs", "others", "total", "said"),
    [
        # One processor and 1 GB, with the defaults of all roles.
        (512, {}, ALL, False, SERVICES, 957, None),
        (640, {}, ALL, False, SERVICES, 957, "a slot of 640 beside postgres 382, redis 96 may take 1118; "),
        (640, {}, ALL, False, SERVICES, 957, "Lower fastapi_app_memory_mib, or"),
        (512, {}, ALL, True, {}, 957, "a slot of 512, a job of 512 may take 1024; "),
        (512, {}, (False, True), True, {}, 957, None),
        (
            512,
            WORKER,
            ALL,
            True,
            {},
            2000,
            "slots of 512, a job of 512 and its processes (worker 512) may take 2048",
        ),
        (256, {}, ALL, False, {**SERVICES, "shop": 1024}, 957, "Lower fastapi_app_memory_mib of shop, or"),
        (256, {}, ALL, False, {"postgres": 1600}, 957, "Lower postgres_memory_mib, or"),
        (256, {}, ALL, False, {"redis-shop": 1600}, 957, "Lower redis_memory_mib of redis-shop, or"),
        (256, {}, ALL, False, {"shop": 0}, 100, "a slot of 256 may take 256; "),
    ],
)
def test_memory_of_all_that_is_on_the_host(
    slot: int,
    processes: dict[str, Any],
    how: tuple[bool, bool],
    jobs: bool,
    others: dict[str, int],
    total: int,
    said: str | None,
) -> None:
    found = memory_lack(slot, processes, *how, total, jobs, others)
    assert (found is None) if said is None else (found is not None and said in found)


# What a VM that is sold with 1 GB has, by its kernel: from 950 MiB to 985.
SMALL = 950


def of_role(role: str, **variables: Any) -> Role:
    facts = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": SMALL}
    return Role(role, ansible_facts=facts, **variables)


@pytest.mark.parametrize(
    ("processes", "said"),
    [
        ({}, None),
        # As much again as the app, which is said, with the number to lower.
        ({"worker": {"replicas": 1, "memory_mib": 512, "cpus": 2.0}}, "Lower fastapi_app_memory_mib"),
        ({"worker": {"replicas": 1, "memory_mib": 96, "cpus": 0.5}}, "two slots of 512"),
    ],
)
def test_the_defaults_fit_a_host_of_1_gb_and_one_processor(processes: dict[str, Any], said: str | None) -> None:
    app, postgres, redis = of_role("fastapi_app"), of_role("postgres"), of_role("redis")
    slot, cpus = app.value("fastapi_app_memory_mib | int"), app.value("fastapi_app_cpus | float")
    others = {"postgres": postgres.value("postgres_memory_mib | int"), "redis": redis.value("redis_memory_mib | int")}
    found = memory_lack(slot, processes, singletons=True, overlap=True, total=SMALL, others=others)
    assert (found is None) if said is None else (found is not None and said in found)
    # All that has a limit comes to a third of the slot above it at most, of which two seldom need all in one moment.
    assert slot + sum(others.values()) - SMALL <= slot // 3
    if not processes:
        assert processors_lack(cpus, processes, singletons=True, total=1, others={}) is None


def test_how_much_there_is(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:        2048000 kB\nMemFree:  1 kB\n")
    assert total_mib(tmp_path / "meminfo") == 2000
    assert total_mib(tmp_path / "none") == 0
    assert total_mib() > 0
