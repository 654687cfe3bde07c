# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The certificates of edges, and which of them are not as they should be. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    Results,
    Told,
    problems_of,
    row_of,
    table,
)

COLUMNS = ("host", "name", "certificate", "issuer", "since", "hsts", "trouble")
DAY = 86400


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One edge for programs."""
    return row_of(host, result, {"certificates": list((result or {}).get("names") or ())})


def names(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of the names and their certificates; empty where no host has any."""
    found = [line(entry["host"], one) for entry in rows for one in entry["certificates"]]
    return table([COLUMNS, *found]) if found else ""


def line(host: str, one: Mapping[str, Any]) -> list[Any]:
    """A name as a line of the table."""
    overdue = f"overdue since {one['overdue']}" if one.get("overdue") else ""
    days = None if one["days"] is None else f"{one['days']} days"
    about = [one["name"], days, one["issuer"] or None, one["renewed"] or None, hsts(one)]
    return [host, *about, one["error"] or overdue or "none"]


def hsts(one: Mapping[str, Any]) -> Optional[str]:
    """For how long browsers are told to stay with HTTPS, or from when on they are."""
    seconds, begins = int(one.get("hsts") or 0), str(one.get("hsts_from") or "")
    if seconds:
        return f"{seconds // DAY} days" if seconds >= DAY else f"{seconds} s"
    return f"from {begins[:10]}" if begins else None


def tell(results: Results) -> Told:
    """The table; never a failure by itself."""
    rows = [row(host, result) for host, result in results.items()]
    return Told(names(rows), rows)


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a certificate is not as it should be; 4 where an edge did not answer."""
    return problems_of([row(host, result) for host, result in results.items()])
