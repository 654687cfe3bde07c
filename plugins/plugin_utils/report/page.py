# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The report as one HTML page that needs no network and no script; what it looks like is in `templates/`.

Whatever comes from a run is escaped. Each figure has `data-figure` with its place in the JSON and `data-value` with its
value there, so that a test can compare the two.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.report.picture import clock, picture
from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")
VERDICTS = {"good": "Good", "nothing": "Nothing to do", "reverted": "Reverted", "held": "Held", "failed": "Failed"}
# Outcomes with a look of their own: those that need somebody stand out.
OUTCOMES = ("good", "unchanged", "untouched", "reverted", "held", "failed", "unreachable")
FAILURES_SHOWN = 20
NONE = "\N{EN DASH}"

Report = Mapping[str, Any]


def render(report: Report) -> str:
    """The page of a report that `build` made."""
    template = templates().get_template("page.html.j2")
    return template.render(report=report, picture=picture(report), plays=plays(report)) + "\n"


def value_at(report: Report, place: str) -> Any:
    """The value at a place like `hosts.0.was`."""
    found: Any = report
    for key in place.split("."):
        found = found[int(key)] if isinstance(found, (list, tuple)) else found[key]
    return found


def plays(report: Report) -> list[dict[str, Any]]:
    """The plays that ended with their places in the report; where they began and how long they were in percent."""
    whole = max(report["seconds"], 0.1)
    found = []
    for position, play in enumerate(report["plays"]):
        if play["seconds"] is not None:
            left = min(max((play["start"] - report["started"]) / whole * 100, 0), 100)
            width = min(play["seconds"] / whole * 100, 100 - left)
            found.append({"position": position, "left": left, "width": width, **play})
    return found


def count(value: int) -> str:
    return f"{value:,}"


def share(value: Optional[float]) -> str:
    """A percentage that is never rounded up: one lost request is not 100 %."""
    if value is None:
        return "unknown"
    return f"{math.floor(value * 100_000) / 1000:g} %"


def milliseconds(value: Optional[float]) -> str:
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def moment(seconds: float) -> str:
    """A time since the start of the run, finer than on the axis."""
    return f"{seconds:.1f} s" if abs(seconds) < 100 else clock(seconds)


def utc(at: float, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return time.strftime(form, time.gmtime(at))


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


@functools.cache
def templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        {word.__name__: word for word in (count, share, milliseconds, duration, moment, utc, sentence)},
        json=json.dumps,
        percent=lambda value: f"{value:.3f}%",
        pixels=lambda value: f"{value:g}",
    )
    templates.globals.update(
        value_at=value_at, VERDICTS=VERDICTS, OUTCOMES=OUTCOMES, FAILURES_SHOWN=FAILURES_SHOWN, NONE=NONE
    )
    return templates
