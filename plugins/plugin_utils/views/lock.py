# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Who holds an app on the hosts of a fleet, and what stands in the way of a deploy. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import LIFETIME
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    UNSEEN,
    Results,
    Told,
    silence,
    silent,
    table,
    trouble,
)

COLUMNS = ("host", "lock", "who", "from", "since", "why")


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One host. A freeze says more than the run that may hold the app meanwhile."""
    seen = result or {}
    freeze, holder = seen.get("freeze") or {}, seen.get("holder") or {}
    by = freeze or holder
    why = freeze.get("reason") or holder.get("what")
    if holder and not freeze:
        why = f"{why} (free in {LIFETIME - holder.get('age', 0):.0f} s unless it is seen again)"
    quiet = trouble(result)
    return {
        "host": host,
        "lock": "unknown" if quiet else "frozen" if freeze else "held" if holder else "free",
        **{name: by.get(name) for name in ("who", "from", "since")},
        "why": quiet or why,
    }


def tell(results: Results) -> Told:
    """Exit code 4 where a host did not answer: what was wanted is not so everywhere."""
    rows = [row(host, result) for host, result in results.items()]
    quiet = silent(results)
    shown = table([COLUMNS, *([entry[name] for name in COLUMNS] for entry in rows)])
    return Told(shown, rows, UNSEEN if quiet else 0, silence(quiet))


def problems(host: str, result: Optional[Mapping[str, Any]]) -> list[str]:
    """What would stop a deploy on a host: its sentences without what the table says anyway."""
    found = (result or {}).get("msg") or ()
    plain = [" ".join(str(problem).split()) for problem in found]
    return [problem.removeprefix("nothing was changed; ").removeprefix(f"{host} ") for problem in plain]


def tell_problems(results: Results) -> Told:
    """A line for each problem of each host; a failure where there is any."""
    lines: list[list[Any]] = [["host", "problem"]]
    rows = []
    for host, result in results.items():
        found = problems(host, result)
        lines += [[host if number == 0 else "", problem] for number, problem in enumerate(found or ["none"])]
        rows.append({"host": host, "problems": found})
    sick = [entry["host"] for entry in rows if entry["problems"]]
    message = f"a deploy would stop before any change, because of {', '.join(map(str, sick))}" if sick else ""
    return Told(table(lines), rows, 2 if sick else 0, message)
