# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The status of a fleet, with every difference from what was recorded. Pure."""

from __future__ import annotations

from collections import Counter
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

COLUMNS = ("host", "release", "slot", "health", "since", "free MiB", "certificate", "lock", "drift")


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One host. A host that did not answer is a row like the others, and that is its drift."""
    seen = result or {}
    state = seen.get("state") or {}
    health = seen.get("health") or None
    quiet = trouble(result)
    return {
        "host": host,
        "answers": not quiet,
        "release": state.get("release"),
        "slot": state.get("slot"),
        "health": "ok" if health == "200" else health,
        "since": state.get("since"),
        "sbom": seen.get("sbom"),
        "free_mib": seen.get("free_mib"),
        "certificate_days": seen.get("certificate_days"),
        "freeze": seen.get("freeze") or None,
        "holder": seen.get("holder") or None,
        "volumes": list(seen.get("volumes") or ()),
        "drift": [quiet] if quiet else list(seen.get("drift") or ()),
    }


def with_fleet_drift(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with a note on each host whose release is not the one that most hosts run."""
    releases = Counter(sorted(entry["release"] for entry in rows if entry["release"]))
    if len(releases) < 2:
        return list(rows)
    common = releases.most_common(1)[0][0]
    return [
        {**entry, "drift": [*entry["drift"], f"the fleet runs {common}"]}
        if entry["release"] and entry["release"] != common
        else entry
        for entry in rows
    ]


def lock(entry: Mapping[str, Any]) -> str:
    """Who holds the app or why it is frozen; empty when it is free. Neither is drift."""
    if freeze := entry["freeze"]:
        return f"frozen by {freeze.get('who')}: {freeze.get('reason')}"
    holder = entry["holder"]
    return f"{holder.get('what')} by {holder.get('who')}" if holder else ""


def lines(entry: Mapping[str, Any]) -> list[list[Any]]:
    """A host as lines of the table: one, and one more for each further difference."""
    drift = entry["drift"] or ["none"]
    days = entry["certificate_days"]
    first = [
        *(entry[name] for name in ("host", "release", "slot")),
        (entry["health"] or "")[:40] or None,
        entry["since"],
        entry["free_mib"],
        None if days is None else f"{days} days",
        lock(entry) or None,
        drift[0],
    ]
    return [first, *([""] * (len(COLUMNS) - 1) + [more] for more in drift[1:])]


def volume(host: str, found: Mapping[str, Any]) -> str:
    """A volume as a line: how large, where on the host, and who has it where."""
    size = "size unknown" if found.get("bytes") is None else f"{int(found['bytes']) / 2**20:.1f} MiB"
    releases = found.get("releases") or ()
    if found.get("at"):
        use = f"the app has it as {found['at']}"
    elif releases:
        use = f"what serves does not use it; to go back to {', '.join(releases)} it is needed"
    else:
        use = "no release uses it any more, and nothing deletes it (remove_volume.yml does, when told its name)"
    return f"volume {found['name']} on {host}, {size} in {found['path']}: {use}"


def tell(results: Results) -> Told:
    """Exit code 3 where anything differs; 4 where all is well on every host that answered, and one did not."""
    rows = with_fleet_drift([row(host, result) for host, result in results.items()])
    quiet = [entry["host"] for entry in rows if not entry["answers"]]
    drifted = [entry["host"] for entry in rows if entry["drift"] and entry["answers"]]
    code = DRIFT if drifted else UNSEEN if quiet else 0
    message = "; ".join(
        f"{words} {', '.join(hosts)}" for words, hosts in (("drift on", drifted), ("no answer from", quiet)) if hosts
    )
    volumes = [volume(entry["host"], found) for entry in rows for found in entry["volumes"]]
    shown = table([COLUMNS, *(line for entry in rows for line in lines(entry))])
    return Told("\n".join([shown, *([""] if volumes else []), *volumes]), rows, code, message)
