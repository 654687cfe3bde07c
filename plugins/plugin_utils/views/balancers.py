# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Who has the floating addresses of a fleet, and whether each is had once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    DRIFT,
    Results,
    Told,
    problems_of,
    row_of,
    table,
)

COLUMNS = ("balancer", "has", "stands by", "state", "problem")
# What lets two of them believe that they are alone.
NOT_HEARD = (
    "clients reach the one or the other. They do not hear each other: let VRRP (IP protocol 112) pass between them, "
    "and look at `journalctl -u keepalived` of each"
)


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One balancer for programs."""
    told = (result or {}).get("told") or {}
    seen = {
        "addresses": list(told.get("addresses") or ()),
        "balancers": list(told.get("balancers") or ()),
        "holds": list(told.get("holds") or ()),
        "state": told.get("state") or None,
        "stands_by": bool(told.get("stands_by")),
    }
    return row_of(host, result, seen)


def split(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each floating address that several balancers have."""
    return [
        f"split brain: {' and '.join(having)} have {address} at the same time, so {NOT_HEARD}"
        for address, having in _having(rows).items()
        if len(having) > 1
    ]


def lost(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each address that none of its balancers has; where one was not asked, it may be that one."""
    known = [entry for entry in rows if entry["answers"]]
    return [
        f"no balancer has {address}"
        for address, having in _having(rows).items()
        if not having
        and sum(address in entry["addresses"] for entry in known)
        >= max(len(entry["balancers"]) for entry in known if address in entry["addresses"])
    ]


def _having(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The hosts that have each floating address."""
    every = sorted({address for entry in rows for address in entry["addresses"]})
    return {address: [entry["host"] for entry in rows if address in entry["holds"]] for address in every}


def lines(entry: Mapping[str, Any]) -> list[list[Any]]:
    """A balancer as lines of the table: one, and one more for each further problem."""
    problems = entry["problems"] or ["none"]
    by = "yes" if entry["stands_by"] and not entry["holds"] else None
    first = [entry["host"], ", ".join(entry["holds"]) or None, by, entry["state"], problems[0]]
    return [first, *([""] * (len(COLUMNS) - 1) + [more] for more in problems[1:])]


def tell(results: Results) -> Told:
    """The table of the balancers; never a failure by itself."""
    rows = [row(host, result) for host, result in results.items()]
    shown = table([COLUMNS, *(line for entry in rows for line in lines(entry))])
    return Told("\n".join([shown, *split(rows), *lost(rows)]), rows)


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a balancer has a problem, or an address is had by two or none; 4 where one did not answer."""
    rows = [row(host, result) for host, result in results.items()]
    return problems_of(rows, [*split(rows), *lost(rows)])


def tell_addresses(results: Results) -> Told:
    """Exit code 3 where an address is had by two or none; what else is wrong is told and no failure."""
    rows = [row(host, result) for host, result in results.items()]
    wrong = [*split(rows), *lost(rows)]
    also = [f"{entry['host']}: {problem}" for entry in rows for problem in entry["problems"]]
    return Told("\n".join([*wrong, *also]), rows, DRIFT if wrong else 0, "; ".join(wrong))
