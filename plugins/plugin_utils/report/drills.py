# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is proven of the backups of a fleet, after a drill: as JSON, and as a page with the time line of all sets.

It is made of what each host remembers (`slipway-backup status`), of which every value may be missing; then it says
less. Texts of hosts are not trusted. Pure but for `write`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean as text
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.amounts import size, span
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.document import number
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.page import templates
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.picture import short_names

FORMAT = 1
# Drills that are listed, over all hosts, and sets of a host that are drawn.
DRILLS, SETS = 20, 400
# What a drill does one after the other, each with what it means and the class that gives it its colour.
PHASES = {
    "find": ("the set and its manifest are read", "stop"),
    "fetch": ("everything of it is restored into a directory", "start"),
    "files": ("each file is compared with its digest", "gate"),
    "server": ("a database server of its own starts", "edge"),
    "fill": ("the dumps are restored into it", "drain"),
    "rows": ("the rows of each table are compared", "soak"),
    "release": ("the release that serves passes its gate on it", "good"),
    "tidy": ("all of that is removed", "other"),
}
# Why sets are made, as the page says it.
REASONS = {"timer": "by the timer", "asked": "asked for", "": "by an earlier version"}
HOUR, DAY = 3600.0, 86400.0
# Ages at which the time line has a line.
AGES = (
    *((HOUR, "1 h"), (6 * HOUR, "6 h"), (DAY, "1 day"), (3 * DAY, "3 days"), (7 * DAY, "1 week")),
    *((30 * DAY, "1 month"), (91 * DAY, "3 months"), (182 * DAY, "6 months"), (365 * DAY, "1 year")),
)
LANE, STEM, AXIS = 64, 40, 26  # pixels: a host of the time line, the longest stem in it, the axis

# What the hosts of a play registered, by host; None for one that failed before.
Results = Mapping[str, Optional[Mapping[str, Any]]]
Report = Mapping[str, Any]


def write(report: Report, directory: Path) -> Path:
    """Write the report twice, as TIME-drill.json and as TIME-drill.html, and return the latter."""
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(report['at']))}-drill.html"
    page.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    page.write_text(render(report), encoding="utf-8")
    return page


def build(inventory: str, at: float, results: Results, drills: Results) -> dict[str, Any]:
    """The report as JSON. Times are seconds since the epoch, durations and ages seconds, sizes bytes.

    Args:
        inventory: its name
        at: when the drill ended
        results: what each host told afterwards
        drills: what its drill told, where it was to have one
    """
    tried = {name: drill for name, drill in drills.items() if not (drill or {}).get("skipped")}
    hosts = [_host(name, results.get(name) or {}, drill, at) for name, drill in tried.items()]
    failed = [host for host in hosts if host["outcome"] != "proven"]
    done = [{"host": host["host"], **drill} for host in hosts for drill in host["drills"]]
    return {
        "format": FORMAT,
        "inventory": text(inventory),
        "at": at,
        "verdict": "nothing" if not hosts else "failed" if failed else "good",
        "message": "; ".join(f"{host['host']}: {host['fault'] or host['outcome']}" for host in failed),
        "proven": len(hosts) - len(failed),
        "age": max((host["age"] for host in hosts if host["age"] is not None), default=None),
        "seconds": max((host["seconds"] for host in hosts if host["seconds"] is not None), default=None),
        "hosts": hosts,
        "drills": sorted(done, key=lambda drill: -(drill["time"] or 0))[:DRILLS],
    }


def _host(name: str, result: Mapping[str, Any], drill: Optional[Mapping[str, Any]], at: float) -> dict[str, Any]:
    """What is known of one host: its sets, how its drill ended, and what is proven."""
    told = _mapping(result.get("told"))
    drills = [_drill(one) for one in _entries(told, "drills")]
    proven, last = _mapping(told.get("proven")), drills[-1] if drills else None
    made = epoch(proven.get("time"))
    cause = _cause(drill)
    fault = text((drill or {}).get("fault")) or ("failed" if cause else "")
    if (drill or {}).get("unreachable"):
        fault = "unreachable"
    known = last is not None and bool(last["fault"]) == bool(cause)  # else it did not come to be recorded
    of_a_drill = {text(drill["set"]): drill["time"] for drill in drills if not drill["fault"]}
    if proven:
        of_a_drill.setdefault(text(proven.get("set")), epoch(proven.get("proven")))
    return {
        "host": text(name),
        "outcome": "unreachable" if fault == "unreachable" else "failed" if cause else "proven",
        "fault": fault,
        "cause": cause,
        "repository": text(told.get("repository")),
        "set": text(proven.get("set")),
        "made": made,
        "age": max(at - made, 0.0) if made is not None else None,
        **{key: number(proven.get(key)) for key in ("seconds", "bytes", "rows", "tables", "files")},
        "releases": [
            {key: text(one.get(key)) for key in ("app", "release", "unproven")} for one in _entries(proven, "releases")
        ],
        "unproven": text(proven.get("unproven")),
        "next": text(told.get("next_drill")),
        "problems": [said for said in map(text, told.get("problems") or ()) if not (cause and cause in said)],
        "phases": last["phases"] if last and known else [],
        "sets": [_set(one, of_a_drill) for one in _entries(told, "sets")[-SETS:]],
        "drills": [{key: value for key, value in drill.items() if key != "phases"} for drill in drills],
        "points": _points(_mapping(told.get("points")).get("reach")),
    }


def _cause(drill: Optional[Mapping[str, Any]]) -> str:
    """Why nothing is proven by it; empty where it succeeded."""
    if drill is None:
        return "it failed earlier in this run"
    wrong = drill.get("failed") or drill.get("unreachable")
    return (text(drill.get("msg")) or "it failed without a word") if wrong else ""


def _set(one: Mapping[str, Any], proven: Mapping[str, Optional[float]]) -> dict[str, Any]:
    """A set; `proven` is when a drill proved it, None where none did."""
    name = text(one.get("set"))
    return {
        "set": name,
        "time": epoch(one.get("time")),
        "bytes": number(one.get("bytes")),
        "reason": text(one.get("reason")),
        "proven": proven.get(name),
    }


def _points(reach: Any) -> list[list[float]]:
    """From when until when points in time can be reached."""
    spans = [list(map(epoch, span)) for span in reach or () if isinstance(span, (list, tuple)) and len(span) == 2]
    return [[moment for moment in span if moment is not None] for span in spans if None not in span]


def _drill(drill: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "time": epoch(drill.get("time")),
        **{key: text(drill.get(key)) for key in ("set", "fault", "message")},
        "seconds": number(drill.get("seconds")),
        "bytes": number(drill.get("bytes")),
        "phases": [
            {"phase": text(phase.get("phase")), "seconds": max(number(phase.get("seconds")) or 0.0, 0.0)}
            for phase in _entries(drill, "phases")
        ],
    }


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _entries(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The dictionaries of a list; nothing where there is no list."""
    found = value.get(key)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, (list, tuple)) else []


def epoch(moment: Any) -> Optional[float]:
    """A time as records and restic have it; None where it is none."""
    try:
        # restic tells nanoseconds, and Python reads at most six digits of them.
        whole, _, rest = str(moment).partition(".")
        zone = rest.lstrip("0123456789")
        return datetime.fromisoformat((whole + zone).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


@dataclass(frozen=True)
class Stem:
    """A set on the time line: how high it is tells its size."""

    x: float
    top: float
    kind: str
    title: str


@dataclass(frozen=True)
class Lane:
    """A host of the time line; `base` is where its stems stand."""

    host: str
    title: str
    top: float
    base: float
    stems: Sequence[Stem]
    failures: Sequence[tuple[float, str]]
    points: Sequence[tuple[float, float, str]]


@dataclass(frozen=True)
class Line:
    """The time line: the age of each set, on an axis on which the last day has as much room as the months before."""

    lanes: Sequence[Lane]
    ticks: Sequence[tuple[float, str]]
    bottom: float
    names: int
    told: str
    legend: Sequence[tuple[str, str]]

    @property
    def height(self) -> float:
        return self.bottom + AXIS


def timeline(report: Report) -> Line:
    """Where everything of the time line is; pixels from top to bottom, percent from left to right."""
    hosts, at = report["hosts"], report["at"]
    ages = [at - one["time"] for host in hosts for one in host["sets"] if one["time"] is not None]
    ages += [at - since for host in hosts for since, _ in host["points"]]
    oldest = max([*ages, 2 * DAY])
    largest = max((one["bytes"] or 0 for host in hosts for one in host["sets"]), default=0) or 1
    names = short_names(hosts)

    def x(age: float) -> float:
        return 97 - 94 * math.log1p(max(age, 0) / HOUR) / math.log1p(oldest / HOUR)

    lanes = []
    for position, host in enumerate(hosts):
        top = position * LANE
        base = top + LANE - 12
        stems = [
            Stem(
                x(at - one["time"]),
                base - max(STEM * (one["bytes"] or 0) / largest, 7),
                "proven" if one["proven"] is not None else "plain",
                told_of(one),
            )
            for one in host["sets"]
            if one["time"] is not None
        ]
        failures = [
            (x(at - drill["time"]), f"drill of {utc(drill['time'])}: {drill['fault']}")
            for drill in host["drills"]
            if drill["fault"] and drill["time"] is not None and at - drill["time"] <= oldest
        ]
        points = [
            (x(at - since), x(at - until), f"each point in time from {utc(since)} to {utc(until)}")
            for since, until in host["points"]
        ]
        lanes.append(Lane(names[host["host"]], host["host"], top, base, stems, failures, points))
    there = {stem.kind for lane in lanes for stem in lane.stems}
    legend = [
        ("set proven", "a set that a drill has proven"),
        ("set plain", "a set"),
        ("points", "each point in time can be restored"),
        ("wrong", "a drill that failed"),
    ]
    shown = {"set proven": "proven" in there, "set plain": "plain" in there}
    shown["points"] = any(lane.points for lane in lanes)
    shown["wrong"] = any(lane.failures for lane in lanes)
    return Line(
        lanes=lanes,
        ticks=[*((x(age), label) for age, label in AGES if age < 0.93 * oldest), (x(0), "now")],
        bottom=len(lanes) * LANE + 4,
        names=max([7, *(len(name) for name in names.values())]),
        told=". ".join(in_words(host) for host in hosts[:60]),
        legend=[entry for entry in legend if shown[entry[0]]],
    )


def told_of(one: Mapping[str, Any]) -> str:
    """A set in words."""
    reason = REASONS.get(one["reason"], one["reason"].replace("-", " "))
    parts = [f"{one['set']} of {utc(one['time'])}", size(whole(one["bytes"])) or "", reason]
    parts.append(f"proven {utc(one['proven'])}" if one["proven"] is not None else "not proven")
    return ", ".join(part for part in parts if part)


def in_words(host: Mapping[str, Any]) -> str:
    """A host of the time line, for those who cannot see it."""
    proven = sum(1 for one in host["sets"] if one["proven"] is not None)
    points = ", ".join(f"points in time from {utc(since)} to {utc(until)}" for since, until in host["points"])
    said = f"{host['host']}: {len(host['sets'])} sets, {proven} of them proven, {host['outcome']}"
    return f"{said}; {points}" if points else said


@dataclass(frozen=True)
class Part:
    """A phase of the drill of a host, in percent of the longest drill."""

    left: float
    width: float
    kind: str
    title: str


def bars(report: Report) -> list[list[Part]]:
    """For each host the phases of its last drill, one after the other."""
    longest = max((sum(phase["seconds"] for phase in host["phases"]) for host in report["hosts"]), default=0) or 1
    found = []
    for host in report["hosts"]:
        left, parts = 0.0, []
        for phase in host["phases"]:
            width = phase["seconds"] / longest * 100
            kind = PHASES[phase["phase"]][1] if phase["phase"] in PHASES else "other"
            parts.append(Part(left, width, kind, f"{phase['phase']} {phase['seconds']:.1f} s"))
            left += width
        found.append(parts)
    return found


def whole(value: Optional[float]) -> Optional[int]:
    return None if value is None else int(value)


def utc(at: Optional[float]) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def render(report: Report) -> str:
    """The page of a report that `build` made."""
    known = {phase["phase"] for host in report["hosts"] for phase in host["phases"]}
    page = templates().get_template("drills.html.j2")
    return (
        page.render(
            report=report,
            line=timeline(report),
            bars=bars(report),
            phases={name: told for name, told in PHASES.items() if name in known},
            says={"size": lambda value: size(whole(value)), "span": span, "day": utc},
        )
        + "\n"
    )
