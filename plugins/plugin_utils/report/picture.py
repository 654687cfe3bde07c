# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The picture of a roll: a row for each host with its phases, and below, on the same axis, what requests took.

Positions are percentages, so that text keeps its size and dots stay round however wide the page is. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Optional

# Phases with a colour of their own, in the order of a transaction, each with what it means.
PHASES = {
    "start": "the new slot starts",
    "gate": "it must answer three times in a row",
    "edge": "HAProxy's own check sees it",
    "switch": "requests go to it from here on",
    "drain": "requests on the old slot end",
    "soak": "it is watched before the old slot stops",
    "stop": "the old slot stops",
    "return": "requests go back to the old slot",
}
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_TICKS = 7
CAPTION, GAP, LANE, PANEL, AXIS = 20, 26, 16, 132, 26  # pixels
NICE = [float(f"{step}e{power}") for power in range(-2, 8) for step in (1, 2, 5)]  # milliseconds
CROSS = "M-4.5-4.5 4.5 4.5M4.5-4.5-4.5 4.5"
NARROWEST = 0.25  # percent of the width, for what took no time

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Window:
    """The part of a run that is drawn, in seconds since the epoch; `zero` is where the axis says 0."""

    start: float
    end: float
    zero: float

    @classmethod
    def of(cls, report: Report) -> Window:
        """The roll with some room around it, and wherever requests failed; an image that takes long to build is not."""
        start, end = report["roll"]["start"], report["roll"]["end"]
        room = max(3.0, 0.12 * (end - start))
        failed = [mark["start"] for mark in report["marks"] if mark["failed"]]
        start = max(min(start - room, *failed, start), report["started"])
        end = min(max(end + room, *failed, end), max(report["ended"], end))
        return cls(start, max(end, start + 1.0), report["started"])

    def x(self, at: float) -> float:
        """Percent of the width."""
        return (at - self.start) / (self.end - self.start) * 100

    def holds(self, at: float) -> bool:
        return self.start <= at <= self.end

    def ticks(self) -> list[tuple[float, str]]:
        """Where the axis has a line, with its label."""
        span = self.end - self.start
        longest = STEPS[-1] * math.ceil(span / STEPS[-1] / MOST_TICKS)
        step = next((step for step in STEPS if span / step <= MOST_TICKS), longest)
        first = math.ceil((self.start - self.zero) / step)
        last = math.floor((self.end - self.zero) / step)
        return [(self.x(self.zero + count * step), clock(count * step, step)) for count in range(first, last + 1)]


@dataclass
class Picture:
    """Grows from top to bottom: what is drawn, and the labels beside it."""

    y: float = 0
    drawn: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def label(self, text: str, y: float, height: float, kind: str = "", title: str = "") -> None:
        style = f"top:{y:g}px;height:{height:g}px;line-height:{height:g}px"
        hint = f' title="{escape(title)}"' if title else ""
        self.labels.append(f'<div class="label {kind}" style="{style}"{hint}>{escape(text)}</div>')


def clock(seconds: float, step: float = 1) -> str:
    """A time on the axis: seconds, then minutes:seconds, then hours:minutes."""
    whole = round(seconds)
    if abs(whole) < 60 and step < 60:
        return f"{whole} s"
    sign, whole = ("-" if whole < 0 else ""), abs(whole)
    if whole < 3600:
        return f"{sign}{whole // 60}:{whole % 60:02}"
    return f"{sign}{whole // 3600}:{whole % 3600 // 60:02} h"


def picture(report: Report) -> str:
    """The figure: labels and SVG side by side, and the legend."""
    window = Window.of(report)
    view = Picture()
    _hosts(view, window, report["hosts"])
    if report["requests"]["measured"]:
        _requests(view, window, report)
    bottom = view.y + 6
    _axis(view, window, bottom)
    title = f"Timeline of release {report['release']} on {len(report['hosts'])} hosts"
    names = max([7, *(len(name) for name in short_names(report["hosts"]).values())])
    return (
        f'<div class="picture" style="height:{bottom + AXIS:g}px;--names:{names}ch">'
        '<div class="labels" aria-hidden="true">'
        f"{''.join(view.labels)}</div>"
        f'<svg role="img" aria-labelledby="picture-title picture-told" width="100%" height="{bottom + AXIS:g}">'
        f'<title id="picture-title">{escape(title)}</title><desc id="picture-told">{escape(told(report))}</desc>'
        f"{DEFINITIONS}{''.join(view.drawn)}</svg></div>{_legend(report)}"
    )


DEFINITIONS = (
    '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="hatch" width="3.5" height="7"/></pattern></defs>'
)


def told(report: Report) -> str:
    """The picture in words, for those who cannot see it."""
    requests = report["requests"]
    hosts = ". ".join(
        f"{host['host']}: {host['outcome']}"
        + "".join(
            f", {'back: ' if step['revert'] else ''}{step['phase']} {step['seconds']:.1f} s" for step in host["steps"]
        )
        for host in report["hosts"][:60]
    )
    return f"{hosts}. {requests['failed']} of {requests['requests']} requests failed."


def short_names(hosts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of hosts without the domain, where all have the same."""
    names = [host["host"] for host in hosts]
    domains = {name.partition(".")[2] for name in names}
    if len(domains) != 1 or any(name.replace(".", "").isdigit() for name in names):
        return {name: name for name in names}
    return {name: name.partition(".")[0] for name in names}


def _hosts(view: Picture, window: Window, hosts: Sequence[Mapping[str, Any]]) -> None:
    height = 28 if len(hosts) <= 12 else 20 if len(hosts) <= 30 else 15
    ordered = sorted(hosts, key=lambda host: host["batch"])
    batches = sorted({host["batch"] for host in hosts})
    names = short_names(hosts)
    for position, host in enumerate(ordered):
        if len(batches) > 1 and (position == 0 or ordered[position - 1]["batch"] != host["batch"]):
            view.y += 4 if position else 0
            view.label(f"batch {host['batch']}" if host["batch"] else "no batch", view.y, CAPTION, "caption")
            view.drawn.append(f'<line class="rule" x1="0" x2="100%" y1="{view.y + 0.5:g}" y2="{view.y + 0.5:g}"/>')
            view.y += CAPTION
        view.label(names[host["host"]], view.y, height, f"host {escape(host['outcome'])}", host["host"])
        view.drawn += _row(window, host, view.y, height)
        view.y += height


def _row(window: Window, host: Mapping[str, Any], y: float, height: float) -> list[str]:
    """One host: its phases, and a cross where it failed."""
    thick = round(height * 0.57)
    top = y + (height - thick) / 2
    middle = y + height / 2
    if not host["steps"]:
        return [f'<text class="idle" x="4" y="{middle:g}" dy=".35em">{escape(host["outcome"][:24])}</text>']
    drawn = [f'<line class="track" x1="0" x2="100%" y1="{middle:g}" y2="{middle:g}"/>']
    moments = []
    for step in host["steps"]:
        if step["phase"] == "switch":
            moments.append(_moment(window, host, step, y, height))
        else:
            drawn.append(_bar(window, host, step, top, thick))
    failed = [step for step in host["steps"] if not step["revert"]]
    if host["outcome"] in {"failed", "unreachable"} and failed:
        at = window.x(max(step["start"] + step["seconds"] for step in failed))
        cross = f'<path class="cross-back" d="{CROSS}"/><path d="{CROSS}"/>'
        drawn.append(f'<svg class="cross" x="{at:.3f}%" y="{middle:g}" overflow="visible">{cross}</svg>')
    return drawn + moments


def _bar(window: Window, host: Mapping[str, Any], step: Mapping[str, Any], top: float, thick: float) -> str:
    x = window.x(step["start"])
    width = max(step["seconds"] / (window.end - window.start) * 100, NARROWEST)
    place = f'x="{x:.3f}%" y="{top:g}" width="{width:.3f}%" height="{thick:g}" rx="2"'
    title = f"<title>{escape(says(window, host, step))}</title>"
    bar = f'<rect class="phase {kind(step["phase"])}" {place}>{title}</rect>'
    return f'{bar}<rect class="back" {place}>{title}</rect>' if step["revert"] else bar


def _moment(window: Window, host: Mapping[str, Any], step: Mapping[str, Any], y: float, height: float) -> str:
    """The switch takes no time worth a bar, and is what all is about."""
    x = f"{window.x(step['start'] + step['seconds']):.3f}%"
    line = f'x1="{x}" x2="{x}" y1="{y + 2:g}" y2="{y + height - 2:g}"'
    return f'<line class="switch" {line}><title>{escape(says(window, host, step))}</title></line>'


def says(window: Window, host: Mapping[str, Any], step: Mapping[str, Any]) -> str:
    back = "taking back: " if step["revert"] else ""
    return f"{host['host']}: {back}{step['phase']} {step['seconds']:.1f} s, at {clock(step['start'] - window.zero)}"


def kind(phase: str) -> str:
    """The class that gives a phase its colour."""
    return f"phase-{phase}" if phase in PHASES else "phase-other"


@dataclass(frozen=True)
class Scale:
    """Latencies on a logarithmic axis, because a stall of a second and an answer in 3 ms must both be seen."""

    low: float  # milliseconds
    high: float
    top: float

    @classmethod
    def of(cls, values: Sequence[float], top: float) -> Scale:
        smallest, largest = max(min(values, default=1.0), 0.05), max(max(values, default=10.0), 0.1)
        low = max(value for value in NICE if value <= smallest)
        high = min((value for value in NICE if value > max(largest, 5 * low)), default=largest)
        return cls(low, high, top)

    def y(self, ms: float) -> float:
        share = math.log(max(ms, self.low) / self.low) / math.log(self.high / self.low)
        return self.top + PANEL * (1 - share)

    def ticks(self) -> list[tuple[float, str]]:
        """Powers of ten, and where those are few the steps between them."""
        within = [value for value in NICE if self.low <= value <= self.high]
        powers = [value for value in within if math.log10(value).is_integer()]
        return [
            (self.y(value), f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms")
            for value in (powers if len(powers) > 2 else within)
        ]


def _requests(view: Picture, window: Window, report: Report) -> None:
    marks = [mark for mark in report["marks"] if window.holds(mark["start"])]
    lane = view.y + GAP
    panel = lane + LANE + 8
    scale = Scale.of([mark["ms"] for mark in marks if not mark["failed"]], panel)
    roll = (window.x(report["roll"]["start"]), window.x(report["roll"]["end"]))
    view.drawn.append(
        f'<rect class="roll" x="{roll[0]:.3f}%" width="{max(roll[1] - roll[0], 0):.3f}%" y="{lane:g}" '
        f'height="{panel + PANEL - lane:g}"/><line class="track" x1="0" x2="100%" y1="{lane + LANE / 2:g}" '
        f'y2="{lane + LANE / 2:g}"/>'
    )
    view.label("failed", lane, LANE, "caption")
    for y, label in scale.ticks():
        view.drawn.append(f'<line class="grid" x1="0" x2="100%" y1="{y:g}" y2="{y:g}"/>')
        view.label(label, y - 8, 16, "tick")
    view.drawn += [_dot(window, scale, mark) for mark in marks if not mark["failed"]]
    view.drawn += [_failure(window, mark, lane, panel) for mark in marks if mark["failed"]]
    view.y = panel + PANEL


def _dot(window: Window, scale: Scale, mark: Mapping[str, Any]) -> str:
    which = {True: "new", False: "old", None: "some"}[mark.get("new")]
    return f'<circle class="{which}" cx="{window.x(mark["start"]):.3f}%" cy="{scale.y(mark["ms"]):.1f}" r="2.1"/>'


def _failure(window: Window, mark: Mapping[str, Any], lane: float, panel: float) -> str:
    x = f"{window.x(mark['start']):.3f}%"
    count = f"{mark['failed']} requests failed, first: " if mark["failed"] > 1 else "failed: "
    title = f"<title>{escape(count + mark['error'])} at {clock(mark['start'] - window.zero)}</title>"
    return (
        f'<line class="trace" x1="{x}" x2="{x}" y1="{panel:g}" y2="{panel + PANEL:g}"/>'
        f'<line class="failure" x1="{x}" x2="{x}" y1="{lane:g}" y2="{lane + LANE:g}">{title}</line>'
    )


def _axis(view: Picture, window: Window, bottom: float) -> None:
    ticks = window.ticks()
    lines = "".join(f'<line class="grid" x1="{x:.3f}%" x2="{x:.3f}%" y1="0" y2="{bottom:g}"/>' for x, _ in ticks)
    texts = "".join(f'<text class="time" x="{x:.3f}%" y="{bottom + 18:g}">{label}</text>' for x, label in ticks)
    view.drawn.insert(0, lines)
    view.drawn.append(f'<line class="axis" x1="0" x2="100%" y1="{bottom:g}" y2="{bottom:g}"/>{texts}')


def _legend(report: Report) -> str:
    steps = [step for host in report["hosts"] for step in host["steps"]]
    there = {step["phase"] for step in steps}
    names = [*(name for name in PHASES if name in there), *(["other"] if there - set(PHASES) else [])]
    entries = [_entry(kind(name) if name != "switch" else "switch", name, PHASES.get(name, "")) for name in names]
    if any(step["revert"] for step in steps):
        entries.append(_entry("back", "taking back", "the host returns to what it served before"))
    if report["requests"]["measured"]:
        answers = {mark.get("new") for mark in report["marks"] if not mark["failed"]}
        words: tuple[tuple[Optional[bool], str, str], ...] = (
            (False, "old", "answer of an earlier release"),
            (True, "new", "answer of this release"),
            (None, "some", "answer"),
        )
        entries += [_entry(f"dot {name}", told, "") for which, name, told in words if which in answers]
        entries.append(_entry("failure", "failed request", "")) if report["requests"]["failed"] else None
        entries.append(_entry("roll", "the roll", "")) if steps else None
    return f'<ul class="legend">{"".join(entries)}</ul>'


def _entry(name: str, text: str, told: str) -> str:
    return f'<li title="{escape(told)}"><i class="{name}"></i>{escape(text)}</li>'
