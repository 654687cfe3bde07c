# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Who has the floating addresses of a fleet, and whether each is had once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    DRIFT,
    UNSEEN,
    Results,
    Told,
    table,
    trouble,
)

COLUMNS = ("balancer", "has", "stands by", "state", "problem")
# What lets two of them believe that they are alone.
NOT_HEARD = (
    "clients reach the one or the other. They do not hear each other: let VRRP (IP protocol 112) pass between them, "
    "and look at `journalctl -u keepalived` of each"
)
SPLIT = "split brain: "


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One balancer for programs."""
    told = (result or {}).get("told") or {}
    quiet = trouble(result)
    return {
        "host": host,
        "answers": not quiet,
        "addresses": list(told.get("addresses") or ()),
        "holds": list(told.get("holds") or ()),
        "state": told.get("state") or None,
        "stands_by": bool(told.get("stands_by")),
        "problems": [quiet] if quiet else list(told.get("problems") or ()),
    }


def of_addresses(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each floating address that two balancers have, or none."""
    found = []
    for address in sorted({one for entry in rows for one in entry["addresses"]}):
        having = [entry["host"] for entry in rows if address in entry["holds"]]
        if len(having) > 1:
            found.append(f"{SPLIT}{' and '.join(having)} have {address} at the same time, so {NOT_HEARD}")
        elif not having:
            unseen = [entry["host"] for entry in rows if not entry["answers"]]
            but = f" that answered here ({', '.join(unseen)} did not)" if unseen else ""
            found.append(f"no balancer{but} has {address}")
    return found


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
    return Told("\n".join([shown, *of_addresses(rows)]), rows)


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a balancer has a problem, or an address is had by two or none; 4 where one did not answer."""
    rows = [row(host, result) for host, result in results.items()]
    quiet = [f"no answer from {entry['host']}" for entry in rows if not entry["answers"]]
    # One that did not answer may have what nobody else has.
    wrong = [one for one in of_addresses(rows) if not quiet or one.startswith(SPLIT)]
    wrong += [f"{entry['host']}: {problem}" for entry in rows if entry["answers"] for problem in entry["problems"]]
    message = "; ".join([*wrong, *quiet])
    return Told(message, rows, DRIFT if wrong else UNSEEN if quiet else 0, message)
