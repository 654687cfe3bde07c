"""With which variables no cache can be run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.saying import says

RIGHT: dict[str, Any] = {"redis_password": "a" * 16, "redis_memory_mib": "32", "redis_publish": ""}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"redis_password": "short"}, ["set vault_redis_password"]),
        ({"redis_password": "a" * 16 + "\n"}, ["a newline at its end or other"]),
        ({"redis_memory_mib": 31}, ["redis_memory_mib is 31; use at least 32."]),
        ({"redis_publish": "[::]:6379"}, ["such as 10.0.0.5:6379"]),
        ({"redis_password": "", "redis_memory_mib": 1}, ["redis_password", "redis_memory_mib"]),
    ],
)
def test_caches_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("redis", RIGHT | changed, *said)
