# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The picture of a roll: a row for each host with its phases, and below, on the same axis, what requests took.

Only where everything is; `templates/picture.html.j2` draws it. Positions from left to right are percentages, so that
text keeps its size and dots stay round however wide the page is; those from top to bottom are pixels. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
# Whose answer a request got: whether of the wanted release, the class of its dot, what the legend says.
ANSWERS: Mapping[Optional[bool], tuple[str, str]] = {
    False: ("old", "answer of an earlier release"),
    True: ("new", "answer of this release"),
    None: ("some", "answer"),
}
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_TICKS = 7
CAPTION, GAP, LANE, PANEL, AXIS = 20, 26, 16, 132, 26  # pixels
NICE = [float(f"{step}e{power}") for power in range(-2, 8) for step in (1, 2, 5)]  # milliseconds
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


@dataclass(frozen=True)
class Label:
    """A text left of the picture; `title` is what it says to whoever points at it."""

    text: str
    top: float
    height: float
    kind: str = ""
    title: str = ""


@dataclass(frozen=True)
class Bar:
    """A phase of a host; `back` where it was taken back in it."""

    x: float
    width: float
    kind: str
    back: bool
    title: str


@dataclass(frozen=True)
class Moment:
    """What takes no time worth a bar: a switch, a request that failed."""

    x: float
    title: str


@dataclass(frozen=True)
class Row:
    """One host: its phases, its switches, and a cross where it failed; `idle` says why there is nothing of that."""

    top: float
    height: float
    idle: str = ""
    bars: Sequence[Bar] = ()
    switches: Sequence[Moment] = ()
    cross: Optional[float] = None

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    @property
    def bar_height(self) -> float:
        return round(self.height * 0.57)

    @property
    def bar_top(self) -> float:
        return self.top + (self.height - self.bar_height) / 2


@dataclass(frozen=True)
class Dot:
    """A request that was answered."""

    x: float
    y: float
    kind: str


@dataclass(frozen=True)
class Panel:
    """What requests took, below a lane for those that failed."""

    lane: float
    roll_x: float
    roll_width: float
    grid: Sequence[float]
    dots: Sequence[Dot]
    failures: Sequence[Moment]

    @property
    def lane_middle(self) -> float:
        return self.lane + LANE / 2

    @property
    def lane_bottom(self) -> float:
        return self.lane + LANE

    @property
    def top(self) -> float:
        return self.lane_bottom + 8

    @property
    def bottom(self) -> float:
        return self.top + PANEL


@dataclass(frozen=True)
class Entry:
    """A line of the legend; `told` is what it says to whoever points at it."""

    kind: str
    text: str
    told: str = ""


@dataclass
class Picture:
    """Grows from top to bottom; `names` is the length of the longest name."""

    title: str
    told: str
    names: int
    ticks: Sequence[tuple[float, str]]
    legend: Sequence[Entry]
    labels: list[Label] = field(default_factory=list)
    rules: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    panel: Optional[Panel] = None
    bottom: float = 0

    @property
    def height(self) -> float:
        return self.bottom + AXIS


def clock(seconds: float, step: float = 1) -> str:
    """A time on the axis: seconds, then minutes:seconds, then hours:minutes."""
    whole = round(seconds)
    if abs(whole) < 60 and step < 60:
        return f"{whole} s"
    sign, whole = ("-" if whole < 0 else ""), abs(whole)
    if whole < 3600:
        return f"{sign}{whole // 60}:{whole % 60:02}"
    return f"{sign}{whole // 3600}:{whole % 3600 // 60:02} h"


def picture(report: Report) -> Picture:
    """Where everything of the figure is."""
    window = Window.of(report)
    view = Picture(
        title=f"Timeline of release {report['release']} on {len(report['hosts'])} hosts",
        told=told(report),
        names=max([7, *(len(name) for name in short_names(report["hosts"]).values())]),
        ticks=window.ticks(),
        legend=_legend(report),
    )
    _hosts(view, window, report["hosts"])
    if report["requests"]["measured"]:
        _requests(view, window, report)
    view.bottom += 6
    return view


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
            view.bottom += 4 if position else 0
            batch = f"batch {host['batch']}" if host["batch"] else "no batch"
            view.labels.append(Label(batch, view.bottom, CAPTION, "caption"))
            view.rules.append(view.bottom + 0.5)
            view.bottom += CAPTION
        view.labels.append(
            Label(names[host["host"]], view.bottom, height, f"host {host['outcome']}", title=host["host"])
        )
        view.rows.append(_row(window, host, view.bottom, height))
        view.bottom += height


def _row(window: Window, host: Mapping[str, Any], top: float, height: float) -> Row:
    steps = host["steps"]
    if not steps:
        return Row(top, height, idle=host["outcome"][:24])
    failed = [step["start"] + step["seconds"] for step in steps if not step["revert"]]
    return Row(
        top,
        height,
        bars=[_bar(window, host, step) for step in steps if step["phase"] != "switch"],
        switches=[
            Moment(window.x(step["start"] + step["seconds"]), says(window, host, step))
            for step in steps
            if step["phase"] == "switch"
        ],
        cross=window.x(max(failed)) if failed and host["outcome"] in {"failed", "unreachable"} else None,
    )


def _bar(window: Window, host: Mapping[str, Any], step: Mapping[str, Any]) -> Bar:
    width = max(step["seconds"] / (window.end - window.start) * 100, NARROWEST)
    return Bar(window.x(step["start"]), width, kind(step["phase"]), step["revert"], says(window, host, step))


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
    good = [mark for mark in marks if not mark["failed"]]
    lane = view.bottom + GAP
    scale = Scale.of([mark["ms"] for mark in good], lane + LANE + 8)
    start, end = window.x(report["roll"]["start"]), window.x(report["roll"]["end"])
    view.panel = Panel(
        lane,
        roll_x=start,
        roll_width=max(end - start, 0),
        grid=[y for y, _ in scale.ticks()],
        dots=[Dot(window.x(mark["start"]), scale.y(mark["ms"]), ANSWERS[mark.get("new")][0]) for mark in good],
        failures=[_failure(window, mark) for mark in marks if mark["failed"]],
    )
    view.labels.append(Label("failed", lane, LANE, "caption"))
    view.labels += [Label(label, y - 8, 16, "tick") for y, label in scale.ticks()]
    view.bottom = view.panel.bottom


def _failure(window: Window, mark: Mapping[str, Any]) -> Moment:
    count = f"{mark['failed']} requests failed, first: " if mark["failed"] > 1 else "failed: "
    return Moment(window.x(mark["start"]), f"{count}{mark['error']} at {clock(mark['start'] - window.zero)}")


def _legend(report: Report) -> list[Entry]:
    """What is there, and no more."""
    steps = [step for host in report["hosts"] for step in host["steps"]]
    there = {step["phase"] for step in steps}
    names = [*(name for name in PHASES if name in there), *(["other"] if there - set(PHASES) else [])]
    entries = [Entry(kind(name) if name != "switch" else "switch", name, PHASES.get(name, "")) for name in names]
    if any(step["revert"] for step in steps):
        entries.append(Entry("back", "taking back", "the host returns to what it served before"))
    if report["requests"]["measured"]:
        answers = {mark.get("new") for mark in report["marks"] if not mark["failed"]}
        entries += [Entry(f"dot {name}", text) for which, (name, text) in ANSWERS.items() if which in answers]
        entries += [Entry("failure", "failed request")] if report["requests"]["failed"] else []
        entries += [Entry("roll", "the roll")] if steps else []
    return entries
