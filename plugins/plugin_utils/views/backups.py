# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is known of the backups of a fleet, and what a restore will do and did. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.backup.confirming import not_confirmed
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.amounts import size, span
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    DRIFT,
    Results,
    Told,
    brief,
    table,
    trouble,
)

# Where volumes of apps are, each below its app's own directory.
_VOLUME = re.compile(r"/var/lib/slipway/(?P<app>[^/]+)/volumes/")
COLUMNS = ("host", "newest", "age", "size", "proven", "age", "restored in", "with release", "next", "problem")


def row(host: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One host for programs; ages are seconds, sizes bytes."""
    told = (result or {}).get("told") or {}
    quiet = trouble(result)
    return {
        "host": host,
        "set_up": bool((result or {}).get("set_up")),
        "repository": told.get("repository"),
        "database": told.get("database"),
        "elsewhere": told.get("elsewhere") or [],
        "append_only": bool(told.get("append_only")),
        "newest": told.get("newest"),
        "proven": told.get("proven"),
        "ages": told.get("ages") or {},
        "next": told.get("next"),
        "next_drill": told.get("next_drill"),
        "points": told.get("points"),
        "problems": [quiet] if quiet else list(told.get("problems") or ()),
    }


def lines(entry: Mapping[str, Any]) -> list[list[Any]]:
    """A host as lines of the table: one, and one more for each further problem."""
    newest, proven, ages = entry["newest"] or {}, entry["proven"] or {}, entry["ages"]
    problems = entry["problems"] or ["none"]
    first = [
        entry["host"],
        newest.get("set"),
        span(ages.get("newest")),
        size(newest.get("bytes")),
        proven.get("set"),
        span(ages.get("proven")),
        span(proven.get("seconds")),
        with_releases(proven),
        entry["next"],
        problems[0],
    ]
    return [first, *([""] * (len(COLUMNS) - 1) + [more] for more in problems[1:])]


def with_releases(proven: Mapping[str, Any]) -> Optional[str]:
    """The releases that passed their gates on a proven set; none where none did, None where nobody knows."""
    if "releases" not in proven:
        return None
    return ", ".join(str(one["release"]) for one in proven["releases"] if not one["unproven"]) or "none"


def beyond(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By the host of a database the line that says which other host proved a release on its set."""
    said = {}
    for entry in rows:
        proven = entry["proven"] or {}
        of, passed = proven.get("of"), with_releases(proven)
        if of and passed not in (None, "none"):
            said[of["host"]] = (
                f"{of['host']}: release {passed} passed its gate on set {of['set']} ({of['rows']} rows) in the drill "
                f"of {entry['host']}"
            )
    return said


def unproven(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why of a set that is proven no release was started against it, a line each, or who did that elsewhere."""
    proved = beyond(rows)
    said = list(proved.values())
    for entry in rows:
        proven = entry["proven"] or {}
        if entry["host"] in proved and not proven.get("releases"):
            continue
        whole = [("", proven.get("unproven"))]
        parts = [(f" of {one['app']}", one["unproven"]) for one in proven.get("releases") or ()]
        said += [
            f"{entry['host']}: no release{app} was started against set {proven['set']}: {brief(why)}"
            for app, why in whole + parts
            if why
        ]
    return said


def elsewhere(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets have of a database elsewhere, for which an operator might take more, a line each host."""
    none = "no database, since that is elsewhere (postgres_provider: none)"
    ways = "backup_database_elsewhere says how it is dumped, or whoever runs it keeps it"
    return [
        f"{entry['host']}: its sets have {', '.join(dumped)}, which is elsewhere and has no points in time"
        if (dumped := entry["elsewhere"])
        else f"{entry['host']}: its sets have {none}; {ways}"
        for entry in rows
        if entry["database"] == "elsewhere"
    ]


def kept(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which hosts remove nothing of their repository, so that it grows, a line each."""
    return [
        f"{entry['host']}: nothing is removed from {entry['repository']} (backup_append_only)"
        + ("; each copy of the log adds snapshots to it, so raise backup_wal_every" if entry["points"] else "")
        for entry in rows
        if entry["append_only"]
    ]


def points(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """To which points in time each host can be restored, how far behind keeping them is, and what lies between."""
    said = []
    for entry in rows:
        found = entry["points"] or {}
        if not found.get("reach"):
            continue
        reach = " and ".join(f"from {since} to {until}" for since, until in found["reach"])
        behind = f", {span(found['behind'])} behind" if found["behind"] is not None else ""
        proven = found.get("proven")
        drilled = f"; a drill recovered {proven['time']} in {span(proven['seconds'])}" if proven else ""
        said.append(f"{entry['host']}: any point in time {reach}{behind}{drilled}")
        said += [f"{entry['host']}: no point in time from {since} to {until}" for since, until in found["gaps"]]
    return said


def tell(results: Results) -> Told:
    """The table of the hosts where backups are set up, or where nobody could look; never a failure by itself."""
    rows = [row(host, result) for host, result in results.items()]
    seen = [entry for entry in rows if entry["set_up"] or entry["problems"]]
    if not seen:
        return Told("no host of this run is backed up; docs/backup.md says how", rows)
    shown = table([COLUMNS, *(line for entry in seen for line in lines(entry))])
    return Told("\n".join([shown, *elsewhere(seen), *kept(seen), *unproven(seen), *points(seen)]), rows)


def tell_outside(results: Results, controller: Sequence[str]) -> Told:
    """Whether what must be kept outside is, as far as that can be seen, a line each; never a failure."""
    rows = [{"host": host, "outside": _outside(result)} for host, result in results.items()]
    said: dict[str, list[str]] = {}
    for entry in rows:
        said.setdefault(entry["outside"], []).append(entry["host"])
    heading = "Kept outside, for the day on which all of this is lost (docs/backup.md):"
    lines = [f"{', '.join(hosts)}: {where}" for where, hosts in said.items()]
    return Told("\n".join([heading, *lines, *controller]), [*rows, {"controller": list(controller)}])


def _outside(result: Optional[Mapping[str, Any]]) -> str:
    """Where the sets of a host are."""
    if quiet := trouble(result):
        return quiet
    told = (result or {}).get("told") or {}
    if not told:
        return "nothing is backed up here (backup_repository)"
    if told.get("own_disk"):
        return f"its sets are in {told['repository']}, on the disk that they are to outlive; name another place"
    newest = told.get("newest") or {}
    return f"its sets are in {told['repository']}, the newest of {newest.get('time') or 'no day yet'}"


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a host that is backed up has a problem; shows nothing more."""
    rows = [row(host, result) for host, result in results.items()]
    wrong = [entry for entry in rows if entry["set_up"] and entry["problems"]]
    message = "; ".join(f"backups of {entry['host']}: {', '.join(map(brief, entry['problems']))}" for entry in wrong)
    return Told(message, rows, DRIFT if wrong else 0, message)


def plan(told: Mapping[str, Any], safety: bool, app: str = "", databases: Sequence[str] = ()) -> list[str]:
    """What a restore will do, a line each, how long it takes, and whether a set of what is there is made before.

    What is not of the `app` of this inventory, and none of its `databases`, is another's, which serves on meanwhile.
    """
    lines = _plan(told, safety)
    if others := [*_strangers(told, databases), *_strange_directories(told, app)]:
        lines.append(
            f"not of {app or 'this inventory'}: {', '.join(others)}; who has that serves on meanwhile, without the "
            "maintenance page, and what is written there from now on is lost. Take it off by "
            "slipway.fleet.maintenance with its own inventory first, or restore a part: slipway_restore=database:NAME"
        )
    return lines


def _strangers(told: Mapping[str, Any], databases: Sequence[str]) -> list[str]:
    """The databases of a plan that are none of an inventory's, as far as it says which are."""
    return [f"database {name}" for name in told["databases"] if databases and name not in databases]


def _strange_directories(told: Mapping[str, Any], app: str) -> list[str]:
    """The volumes of a plan that are another app's."""
    found = ((path, _VOLUME.match(path)) for path in told["directories"] if app)
    return [f"directory {path}" for path, volume in found if volume and volume["app"] != app]


def _plan(told: Mapping[str, Any], safety: bool) -> list[str]:
    parts = [
        *(f"database {name}" for name in told["databases"]),
        *(f"directory {path}" for path in told["directories"]),
        *(f"store {name}" for name in told.get("stores", ())),
    ]
    took = f"about {span(told['seconds'])}, as the last drill took" if told["seconds"] else "nobody knows how long"
    if told["seconds"] and not told.get("whole", True):
        took = f"nobody knows how long; the last drill took {span(told['seconds'])} for all of a set"
    lacks = f", without {', '.join(told['absent'])} (not there)" if told["absent"] else ""
    before = f"a set of what is there is made before{lacks}" if safety else "no set of what is there is made before"
    of = f" of {told['of']}" if told.get("of") else ""
    if told.get("point"):
        replayed = "as long as it takes to replay it and restore what it has"
        if told["seconds"]:
            replayed = (
                f"about {span(told['seconds'])} to recover it, as in the last drill, and then to restore what it has"
            )
        log = f"{told['segments']} segments of the write-ahead log after it"
        return [
            f"the point in time {told['point']}{of}: the base of {told['base']}, and {log}",
            f"in place of what is there: {', '.join(parts)} ({size(told['bytes'])}); all else stays as it is",
            f"takes {replayed}, and {before}",
            "whether its schema fits the release that serves is seen then; where it does not, nothing is replaced",
        ]
    return [
        f"set {told['set']}{of} of {told['time']}, {'proven' if told['proven'] else 'not proven by a drill'}",
        f"in place of what is there: {', '.join(parts) or 'nothing'} ({told['rows']} rows, {size(told['bytes'])})",
        f"takes {took}, and {before}",
    ]


def refused(told: Mapping[str, Any], confirmed: str, any_schema: bool) -> str:
    """Why the restore may not be done; empty where it may."""
    if not told["databases"] and not told["directories"] and not told.get("stores"):
        return f"Nothing was done: set {told['set']} has nothing that could be restored."
    if told["impossible"]:
        return f"Nothing was done: {told['impossible']}"
    which = f"the point in time {told['point']}" if told.get("point") else f"set {told['set']}"
    if said := not_confirmed(which, told["names"], confirmed):
        return f"N{said[1:]}"
    return f"Nothing was done: {told['unfit']}" if told["unfit"] and not any_schema else ""


def restored(told: Mapping[str, Any]) -> list[str]:
    """What a restore did, a line each, and what is left to do."""
    if not told:
        return ["nothing was restored"]
    which = f"the point in time {told['point']}" if told.get("point") else f"set {told['set']} of {told['time']}"
    said = [f"restored {which} in {span(told['seconds'])}"]
    for part in told["restored"]:
        kept = f"; what was there is kept as {part['kept']}" if part["kept"] else ""
        said.append(f"{part['name']}{kept}")
    lacks = f", without {', '.join(told['absent'])} (was not there)" if told["absent"] else ""
    said.append(f"the set made before it: {told['safety'] or 'none'}{lacks}")
    if told["restart"]:
        said.append(
            "the app has the former directories open until it is started anew, which slipway.fleet.restore does next; "
            "where that fails, the maintenance page stays: slipway.fleet.restart, then slipway.fleet.maintenance with "
            "-e slipway_maintenance=off"
        )
    return said


def stand_in_images(other: Mapping[str, Any]) -> list[dict[str, str]]:
    """The images of database and cache that a host's variables name, for a drill on another one."""
    kinds = [kind for kind in ("postgres", "redis") if other.get(f"{kind}_provider", "compose") == "compose"]
    named = [(other.get(f"{kind}_image"), other.get(f"{kind}_image_source", "pull")) for kind in kinds]
    return [{"name": str(name), "source": str(source)} for name, source in named if name]
