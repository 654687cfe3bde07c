# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is known of the caches on the hosts of a fleet. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import DRIFT, Results, Told, table, trouble

COLUMNS = ("host", "cache", "mode", "runs by", "memory", "app", "problem")


def rows_of(results: Results) -> list[dict[str, Any]]:
    """A row for each cache, for one that is to be there and is not, and for a host that did not answer."""
    rows: list[dict[str, Any]] = []
    for host, result in results.items():
        if quiet := trouble(result):
            rows.append({"host": host, "name": None, "problem": quiet, "own": False})
        elif result and not result.get("skipped"):
            rows += of_host(host, result)
    return rows


def of_host(host: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    own = result["own"]
    rows = [{"host": host, **one, "own": one["name"] == own, "problem": problem(one)} for one in result["caches"]]
    if own and own not in [row["name"] for row in rows]:
        rows.append({"host": host, "name": own, "own": True, "problem": "is not there; run slipway.fleet.provision"})
    return rows


def problem(cache: Mapping[str, Any]) -> Optional[str]:
    if cache["unseen"]:
        return str(cache["unseen"])
    return "does not run" if cache["used_mib"] is None else None


def line(row: Mapping[str, Any]) -> list[Any]:
    used, limit = row.get("used_mib"), row.get("limit_mib")
    memory = None if used is None else f"{used} of {limit} MiB" if limit else f"{used} MiB"
    said = (row["host"], row["name"], row.get("mode"), row.get("provider"), memory, row.get("app") or None)
    return [*said, row["problem"] or "none"]


def tell(results: Results) -> Told:
    """The table of all caches, nothing where there are none; never a failure by itself."""
    rows = rows_of(results)
    return Told(table([COLUMNS, *map(line, rows)]) if rows else "", rows)


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a cache of the inventory is not as it should be; those of others are for others to mend."""
    wrong = [row for row in rows_of(results) if row["own"] and row["problem"]]
    message = "; ".join(f"the cache {row['name']} on {row['host']}: {row['problem']}" for row in wrong)
    return Told("", wrong, DRIFT if wrong else 0, message)
