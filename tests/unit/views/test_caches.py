"""What operators are told of the caches on the hosts of a fleet."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import caches

GONE = {"unreachable": True, "msg": "no route to host"}


def cache(name: str, used: int | None = 14, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "app": "links",
        "mode": "cache",
        "provider": "native",
        "limit_mib": 96,
        "used_mib": used,
        "unseen": "",
        **more,
    }


def test_each_cache_is_a_line() -> None:
    found = {"own": "redis", "caches": [cache("redis"), cache("redis-shop", 41, app="", mode="store", limit_mib=64)]}
    told = caches.tell({"db1": found, "web1": {"skipped": True}})
    assert told.text.splitlines() == [
        "host  cache       mode   runs by  memory        app    problem",
        "db1   redis       cache  native   14 of 96 MiB  links  none",
        "db1   redis-shop  store  native   41 of 64 MiB  -      none",
    ]
    assert told.code == 0
    assert [row["name"] for row in told.rows] == ["redis", "redis-shop"]
    assert caches.tell({"db1": {"own": "", "caches": []}}).text == ""


@pytest.mark.parametrize(
    ("own", "found", "said"),
    [
        ("redis", [cache("redis")], ""),
        ("redis", [cache("redis", None)], "the cache redis on db1: does not run"),
        ("redis", [], "the cache redis on db1: is not there; run slipway.fleet.provision"),
        ("redis", [cache("redis", None, unseen="no docker")], "the cache redis on db1: no docker"),
        ("redis-shop", [cache("redis", None), cache("redis-shop")], ""),
        ("", [cache("redis", None)], ""),
    ],
)
def test_a_cache_of_the_inventory_that_does_not_run_is_drift_and_one_of_others_is_shown(
    own: str, found: list[dict[str, Any]], said: str
) -> None:
    results = {"db1": {"own": own, "caches": found}}
    told = caches.tell_problems(results)
    assert (told.message, told.code) == (said, 3 if said else 0)
    assert [one["name"] in caches.tell(results).text for one in found] == [True] * len(found)


def test_a_host_that_did_not_answer_is_a_line() -> None:
    told = caches.tell({"db1": GONE})
    columns, _, why = told.text.splitlines()[1].partition("cannot")
    assert columns.split() == ["db1", "-", "-", "-", "-", "-"]
    assert why == " be reached: no route to host"
    assert caches.tell_problems({"db1": GONE}).code == 0, "Ansible's own code for it stands"
