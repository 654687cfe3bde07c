"""The status of a fleet as rows and as a table. Pure."""

from __future__ import annotations

from typing import Any, Optional

COLUMNS = ("host", "release", "slot", "health", "since", "drift")


def row(host: str, observed: Optional[dict[str, Any]]) -> dict[str, Any]:
    """One host. `observed` is what slipway.fleet.release observes, None for a host that could not be asked."""
    if observed is None:
        return {"host": host, "release": None, "slot": None, "health": None, "since": None, "drift": ["unreachable"]}
    state = observed.get("state") or {}
    health = observed.get("health") or None
    return {
        "host": host,
        "release": state.get("release"),
        "slot": state.get("slot"),
        "health": "ok" if health == "200" else health,
        "since": state.get("since"),
        "drift": observed.get("drift", []),
    }


def with_fleet_drift(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with a note on each host whose release is not the one that most hosts run."""
    releases = [entry["release"] for entry in rows if entry["release"]]
    if len(set(releases)) < 2:
        return rows
    common = max(sorted(set(releases)), key=releases.count)
    return [
        {**entry, "drift": [*entry["drift"], f"the fleet runs {common}"]}
        if entry["release"] and entry["release"] != common
        else entry
        for entry in rows
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text: a line for each host, further differences on lines of their own."""
    lines = [list(COLUMNS)]
    for entry in rows:
        drift = entry["drift"] or ["none"]
        lines.append([str(entry[name] or "-") for name in COLUMNS[:-1]] + [drift[0]])
        lines += [[""] * (len(COLUMNS) - 1) + [more] for more in drift[1:]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)
