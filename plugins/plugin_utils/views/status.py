# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The status of a fleet, with every difference from what was recorded. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views import certificates, history
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    DRIFT,
    UNSEEN,
    Results,
    Told,
    brief,
    table,
    trouble,
)

COLUMNS = ("host", "release", "slot", "health", "since", "free MiB", "certificate", "lock", "drift")
# A column before the last one, where a host has any.
BESIDE = "processes"


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One host. A host that did not answer is a row like the others, and that is its drift."""
    seen = result or {}
    state = seen.get("state") or {}
    quiet = trouble(result)
    return {
        "host": host,
        "answers": not quiet,
        "release": state.get("release"),
        "slot": state.get("slot"),
        "health": health(seen),
        "since": state.get("since"),
        "processes": list(seen.get("processes") or ()),
        "sbom": seen.get("sbom"),
        "free_mib": seen.get("free_mib"),
        "certificate_days": seen.get("certificate_days"),
        "certificates": list(seen.get("certificates") or ()),
        "page": seen.get("page") or None,
        "overload": seen.get("overload") or None,
        "freeze": seen.get("freeze") or None,
        "holder": seen.get("holder") or None,
        "under_way": seen.get("under_way") or None,
        "volumes": list(seen.get("volumes") or ()),
        "jobs": list(seen.get("jobs") or ()),
        "files": seen.get("files") or None,
        "last": seen.get("last") or None,
        "drift": [quiet] if quiet else [*(seen.get("drift") or ()), *failed_jobs(seen)],
    }


def health(seen: Mapping[str, Any]) -> Optional[str]:
    """What the health path answers, `ok` for 200, and whether a process of the slot ran out of memory."""
    said = "ok" if seen.get("health") == "200" else seen.get("health") or None
    slot = (seen.get("slots") or {}).get((seen.get("state") or {}).get("slot")) or {}
    return f"{said or '-'}, ran out of memory" if slot.get("out_of_memory") else said


def with_fleet_drift(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with a note on each host whose release is not the one that most hosts run.

    While a run is at work on any of them that is what it does, one host after the other.
    """
    if any(entry["holder"] or entry["under_way"] for entry in rows):
        return list(rows)
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


def under_way(entry: Mapping[str, Any]) -> str:
    """The transaction that is at work on a host as a line; empty where none is."""
    if not (found := entry["under_way"]):
        return ""
    since = f" since {found['since']}" if found.get("since") else ""
    return f"under way on {entry['host']}{since}: {found['by']}"


def beside(entry: Mapping[str, Any]) -> str:
    """What runs beside the slot, as `worker 2 of 2, beat 1 of 1`."""
    return ", ".join(
        f"{one['name']} {one['running']} of {one['wanted']}"
        + (f" ({one['restarts']} restarts)" if one["restarts"] else "")
        + (f" ({one['ending']} ending)" if one["ending"] else "")
        for one in entry["processes"]
    )


def lines(entry: Mapping[str, Any], columns: Sequence[str]) -> list[list[Any]]:
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
        *([beside(entry) or None] if BESIDE in columns else ()),
        drift[0],
    ]
    return [first, *([""] * (len(columns) - 1) + [more] for more in drift[1:])]


def volume(host: str, found: Mapping[str, Any]) -> str:
    """A volume as a line: how large, where on the host, and who has it where."""
    size = "size unknown" if found.get("bytes") is None else f"{int(found['bytes']) / 2**20:.1f} MiB"
    releases = found.get("releases") or ()
    if found.get("at"):
        use = f"the app has it as {found['at']}"
    elif releases:
        use = f"what serves does not use it; to go back to {', '.join(releases)} it is needed"
    else:
        use = "no release uses it any more; nothing deletes it (slipway.fleet.remove_volume does, when told its name)"
    return f"volume {found['name']} on {host}, {size} in {found['path']}: {use}"


def files(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """How large files may be that users send, and which variable lets larger ones; once for hosts that say the same."""
    found: dict[str, list[str]] = {}
    for entry in rows:
        if room := entry["files"]:
            first, *others = room["takes"]
            takes = f"{first} and {len(others)} more take" if others else f"{first} takes"
            said = (
                f"{takes} files, which lie in /tmp while they come: {room['tmp_mib']} MiB for all at a time, and what "
                "does not fit is answered 400. Larger ones: fastapi_app_tmp_mib, or a volume's directory as TMPDIR in "
                "fastapi_app_environment"
            )
            found.setdefault(said, []).append(entry["host"])
    return [f"files on {', '.join(hosts)}: {said}" for said, hosts in found.items()]


def over(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The last run of a job; of one that runs still, the run before that where there was one."""
    runs = found.get("running") and "ended" not in found
    before: Mapping[str, Any] = found.get("before") or found if runs else found
    return before


def failed_jobs(seen: Mapping[str, Any]) -> list[str]:
    """A sentence for each job that did not go well the last time: it holds up no release, and somebody should look."""
    runs = [(found["name"], over(found)) for found in seen.get("jobs") or ()]
    return [
        f"the job {name} failed at {run.get('ended') or run.get('began')}: {run['cause']}"
        for name, run in runs
        if run.get("cause")
    ]


def job(host: str, found: Mapping[str, Any]) -> str:
    """A job as a line, when and how it went, with what it printed last."""
    line = f"job {found['name']} on {host}, {found['schedule']}, next {found.get('next') or 'not known'}: "
    run = over(found)
    if found.get("running"):
        where = f"runs in release {found['release']}" if found.get("began") and "ended" not in found else "waits"
        before = f"; the run before {became(run)}" if "ended" in run else ""
        return f"{line}{where} {found['running']}{before}"
    return line + became(run)


def became(run: Mapping[str, Any]) -> str:
    """What became of a run that is over."""
    if not run.get("began"):
        return str(run.get("cause") or "has not run yet")
    code = f" with exit code {run['rc']}" if "rc" in run else ""
    how = f"failed{code} ({brief(run['cause'])})" if run.get("cause") else f"ended{code}"
    when = f"at {run['ended']} after {run['seconds']:g} s" if "ended" in run else f"after {run['began']}"
    last = "".join(f"\n    {text}" for text in str(run.get("log") or "").splitlines())
    return f"{how} {when}, in release {run['release']}{last}"


def pages(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each maintenance page, with the hosts that show it."""
    found: dict[str, list[str]] = {}
    for entry in rows:
        if page := entry["page"]:
            by = (("since", page["since"]), ("by", page["who"]))
            known = "".join(f" {word} {value}" for word, value in by if value)
            remedy = (
                "take the app out of haproxy_maintenance and provision"
                if page["declared"]
                else "slipway.fleet.maintenance -e slipway_maintenance=off takes it away"
            )
            found.setdefault(f"{known}: users get that and not the app; {remedy}", []).append(entry["host"])
    return [f"maintenance page on {', '.join(hosts)}{said}" for said, hosts in found.items()]


def overload(entry: Mapping[str, Any]) -> str:
    """A host that is asked for more than its app can do, as a line; empty where it is not. It is no drift."""
    if not (found := entry["overload"]):
        return ""
    took, alone = (f"{found[name] / 1000:.3g} s" for name in ("ms", "usual_ms"))
    return (
        f"overloaded on {entry['host']}: half of the answers take {took} or more, where the app alone takes {alone}, "
        f"so users may have left before. It does {found['rate']} requests a second: fastapi_app_max_connections: "
        f"{found['number']} and slipway.fleet.provision would have it answer as many in time, and the edge refuse the "
        "others"
    )


def last(rows: Sequence[Mapping[str, Any]]) -> str:
    """The newest record of the ledgers as a line; empty where there is none."""
    newest = max((row for row in rows if row["last"]), key=lambda row: str(row["last"].get("start")), default=None)
    if newest is None:
        return ""
    one = history.entry(newest["host"], newest["last"])
    words = [one["operation"], one["release"], f"on {newest['host']} by {one['who']} from {one['from']}"]
    said = f"last: {one['start']} {' '.join(str(word) for word in words if word)}"
    return said + "".join(f"; {more}" for more in (one["result"], brief(one["cause"] or "", 200)) if more)


def tell(results: Results) -> Told:
    """Exit code 3 where anything differs; 4 where all is well on every host that answered, and one did not."""
    rows = with_fleet_drift([row(host, result) for host, result in results.items()])
    quiet = [entry["host"] for entry in rows if not entry["answers"]]
    drifted = [entry["host"] for entry in rows if entry["drift"] and entry["answers"]]
    code = DRIFT if drifted else UNSEEN if quiet else 0
    message = "; ".join(
        f"{words} {', '.join(hosts)}" for words, hosts in (("drift on", drifted), ("no answer from", quiet)) if hosts
    )
    columns = (*COLUMNS[:-1], BESIDE, COLUMNS[-1]) if any(entry["processes"] for entry in rows) else COLUMNS
    volumes = [volume(entry["host"], found) for entry in rows for found in entry["volumes"]]
    volumes += [job(entry["host"], found) for entry in rows for found in entry["jobs"]]
    names = certificates.names(rows)
    shown = table([columns, *(line for entry in rows for line in lines(entry, columns))])
    shown += f"\n\n{names}" if names else ""
    below = [
        *filter(None, map(under_way, rows)),
        *filter(None, map(overload, rows)),
        *pages(rows),
        *files(rows),
        *volumes,
        *filter(None, [last(rows)]),
    ]
    return Told("\n".join([shown, *([""] if below else []), *below]), rows, code, message)
