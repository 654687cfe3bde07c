"""With which variables no cache can be run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.saying import says

STORE = {"redis_mode": "store", "redis_eviction": "noeviction", "redis_persistence": True}
RIGHT: dict[str, Any] = {
    "redis_password": "a" * 16,
    "redis_memory_mib": "32",
    "redis_publish": "",
    "redis_instance": "",
    "redis_settings": {},
    **STORE,
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"redis_password": "short"}, ["set vault_redis_password"]),
        ({"redis_password": "a" * 16 + "\n"}, ["a newline at its end or other"]),
        ({"redis_memory_mib": 31}, ["redis_memory_mib is 31; use at least 32."]),
        ({"redis_publish": "[::]:6379"}, ["such as 10.0.0.5:6379"]),
        ({"redis_instance": "shop-2"}, []),
        ({"redis_instance": "Shop"}, ['redis_instance is "Shop"; use up to 40 small letters']),
        ({"redis_instance": "shop-"}, ["redis_instance"]),
        ({"redis_instance": "../shop"}, ["redis_instance"]),
        ({"redis_eviction": "volatile-ttl"}, ["is volatile-ttl, by which a store (redis_mode) loses keys"]),
        ({"redis_mode": "cache", "redis_eviction": "volatile-ttl"}, []),
        (
            {"redis_settings": {"dir": "/srv", "AppendOnly": "no", "maxmemory-policy": None, "hz": 20}},
            ["redis_settings has dir", "redis_settings has AppendOnly", "redis_settings has maxmemory-policy"],
        ),
        (
            {"redis_settings": {"appendfilename": "a", "appenddirname": "b"}},
            [
                "redis_settings has appendfilename",
                "redis_settings has appenddirname, by which a store (redis_mode) is kept",
            ],
        ),
        ({"redis_mode": "cache", "redis_settings": {"dir": "/srv", "appendonly": False}}, []),
        ({"redis_eviction": "allkeys-lru"}, ["by which a store (redis_mode) loses keys"]),
        ({"redis_persistence": False}, ["a store (redis_mode) is empty after a restart"]),
        ({"redis_mode": "cache", "redis_eviction": "allkeys-lru", "redis_persistence": False}, []),
        ({"redis_password": "", "redis_memory_mib": 1}, ["redis_password", "redis_memory_mib"]),
    ],
)
def test_caches_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("redis", RIGHT | changed, *said)
