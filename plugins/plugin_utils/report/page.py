# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The report as one HTML page that needs no network and no script. Pure.

Whatever comes from a run is escaped. Each figure has `data-figure` with its place in the JSON and `data-value` with its
value there, so that a test can compare the two.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from html import escape
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.report.picture import clock, picture
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.style import STYLE

VERDICTS = {"good": "Good", "nothing": "Nothing to do", "reverted": "Reverted", "held": "Held", "failed": "Failed"}
FAILURES_SHOWN = 20
NONE = "\N{EN DASH}"

Report = Mapping[str, Any]


def render(report: Report) -> str:
    """The page of a report that `build` made."""
    parts = [_head(report), _figures(report), _timeline(report), _hosts(report), _failed_hosts(report)]
    parts += [_failures(report), _plays(report), _foot(report)]
    title = f"{report['app']} {report['release']}: {VERDICTS.get(report['verdict'], report['verdict'])}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{"".join(part + chr(10) for part in parts if part)}</main>
</body>
</html>
"""


def value_at(report: Report, place: str) -> Any:
    """The value at a place like `hosts.0.was`."""
    found: Any = report
    for key in place.split("."):
        found = found[int(key)] if isinstance(found, (list, tuple)) else found[key]
    return found


def figure(report: Report, place: str, shown: Optional[str] = None, tag: str = "span", kind: str = "") -> str:
    """A value of the report with its place; `shown` is how it reads, without it as it is."""
    value = value_at(report, place)
    reads = shown if shown is not None else "" if value is None else str(value)
    attributes = f' class="{kind}"' if kind else ""
    data = f'data-figure="{place}" data-value="{escape(json.dumps(value))}"'
    return f"<{tag}{attributes} {data}>{escape(reads)}</{tag}>"


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


def _head(report: Report) -> str:
    known = VERDICTS.get(report["verdict"], report["verdict"] or "unknown")
    kind = report["verdict"] if report["verdict"] in VERDICTS else "unknown"
    over = " · ".join(part for part in (report["operation"], report["inventory"]) if part)
    message = f'<p class="lead">{_sentence(report["message"])}</p>' if report["message"] else ""
    return (
        f'<header><p class="over">{escape(over)}</p><h1>{figure(report, "app")} '
        f"{figure(report, 'release', tag='code')}</h1>"
        f"{figure(report, 'verdict', known, 'p', f'verdict is-{kind}')}{message}</header>"
    )


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])


def _figures(report: Report) -> str:
    requests = report["requests"]
    if not requests["measured"]:
        big = '<p class="big none">not measured</p><p class="note">The probe was off or had nothing to ask.</p>'
        return f'<section class="figures">{big}</section>'
    if not requests["requests"]:
        told = f"No request was answered; the first said: {requests['first_error']}."
        return (
            f'<section class="figures"><p class="big none">no answer</p><p class="note">{escape(told)} '
            f"Requests sent: {figure(report, 'requests.before_first_answer')}.</p></section>"
        )
    failed, total = requests["failed"], requests["requests"]
    big = (
        f'<p class="big {"bad" if failed else "well"}">{figure(report, "requests.failed", count(failed), "b")} '
        f"<small>of</small> {figure(report, 'requests.requests', count(total), 'b')}</p>"
        f'<p class="under">{"request" if total == 1 else "requests"} failed · availability '
        f"{figure(report, 'requests.availability', share(requests['availability']), 'b')}</p>"
    )
    if requests["before_first_answer"]:
        big += (
            f'<p class="note">{figure(report, "requests.before_first_answer", count(requests["before_first_answer"]))} '
            "before the first answer are not counted: nothing was served yet.</p>"
        )
    return f'<section class="figures"><div>{big}</div>{_latency(report)}</section>'


def _latency(report: Report) -> str:
    columns = (("p50_ms", "p50"), ("p95_ms", "p95"), ("p99_ms", "p99"), ("max_ms", "max"))
    head = "".join(f'<th scope="col">{name}</th>' for _, name in columns)
    rows = ""
    for part in ("before", "during", "after"):
        there = report["latency"][part]
        cells = "".join(
            f"<td>{figure(report, f'latency.{part}.{key}', milliseconds(there[key]))}</td>" for key, _ in columns
        )
        asked = figure(report, f"latency.{part}.requests", count(there["requests"]))
        rows += f'<tr><th scope="row">{part}</th>{cells}<td class="count">{asked}</td></tr>'
    caption = "<caption>Latency around the roll, in milliseconds</caption>"
    return (
        f'<table class="latency">{caption}<thead><tr><td></td>{head}<th scope="col" class="count">requests</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _timeline(report: Report) -> str:
    if not report["hosts"] and not report["requests"]["measured"]:
        return ""
    took = figure(report, "roll.seconds", duration(report["roll"]["seconds"]))
    told = f"<small>the roll took {took}; the axis counts from the start of the run</small>"
    return f"<section><h2>Timeline {told}</h2>{picture(report)}</section>"


def _hosts(report: Report) -> str:
    if not report["hosts"]:
        return ""
    names = ("host", "batch", "was", "tried", "now", "outcome", "seconds")
    head = "".join(f'<th role="columnheader" scope="col" class="{name}">{name}</th>' for name in names)
    rows = "".join(_host(report, position) for position in range(len(report["hosts"])))
    return (
        '<section><h2>Hosts</h2><table class="hosts" role="table">'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table></section>'
    )


def _host(report: Report, position: int) -> str:
    host, at = report["hosts"][position], f"hosts.{position}"
    outcome = figure(report, f"{at}.outcome", kind=f"outcome is-{_outcome(host['outcome'])}")
    ids = "".join(
        f'<td role="cell" class="{name}" data-name="{name}">'
        f"{figure(report, f'{at}.{name}', host[name] or NONE, 'code')}</td>"
        for name in ("was", "tried", "now")
    )
    seconds = figure(report, f"{at}.seconds", f"{host['seconds']:.1f}" if host["steps"] else NONE)
    unit = "<small> s</small>" if host["steps"] else ""
    return (
        f'<tr role="row"><th role="rowheader" scope="row" class="host">{figure(report, f"{at}.host")}</th>'
        f'<td role="cell" class="batch">{figure(report, f"{at}.batch", str(host["batch"] or NONE))}</td>'
        f'{ids}<td role="cell" class="outcome">{outcome}</td>'
        f'<td role="cell" class="seconds">{seconds}{unit}</td></tr>'
    )


def _outcome(word: str) -> str:
    """The class of an outcome: those that need somebody stand out."""
    known = {"good", "unchanged", "untouched", "reverted", "held", "failed", "unreachable"}
    return word if word in known else "unknown"


def _failed_hosts(report: Report) -> str:
    bad = [(position, host) for position, host in enumerate(report["hosts"]) if host["cause"] or host["diagnosis"]]
    if not bad:
        return ""
    return f"<section><h2>What went wrong</h2>{''.join(_failed_host(report, *entry) for entry in bad)}</section>"


def _failed_host(report: Report, position: int, host: Mapping[str, Any]) -> str:
    left = f'<p class="note">{count(host["left_out"])} earlier lines are left out.</p>' if host["left_out"] else ""
    log = f'{left}<pre tabindex="0">{escape(host["diagnosis"])}</pre>' if host["diagnosis"] else ""
    cause = figure(report, f"hosts.{position}.cause", host["cause"] or host["outcome"])
    return f"<details open><summary><b>{escape(host['host'])}</b> {cause}</summary>{log}</details>"


def _failures(report: Report) -> str:
    failures = report["requests"]["failures"][:FAILURES_SHOWN]
    if not failures:
        return ""
    rows = "".join(
        f'<tr><td class="when" title="{utc(entry["time"])}">{moment(entry["time"] - report["started"])}</td>'
        f"<td>{figure(report, f'requests.failures.{position}.error')}</td>"
        f"<td>{escape(', '.join(entry['under_way']) or NONE)}</td></tr>"
        for position, entry in enumerate(failures)
    )
    more = report["requests"]["failed"] - len(failures)
    rest = f'<p class="note">and {count(more)} more</p>' if more > 0 else ""
    head = '<tr><th scope="col">at</th><th scope="col">what happened</th><th scope="col">under way</th></tr>'
    return (
        f'<section><h2>Failed requests</h2><table class="failures"><thead>{head}</thead><tbody>{rows}</tbody></table>'
        f"{rest}</section>"
    )


def _plays(report: Report) -> str:
    timed = [(position, play) for position, play in enumerate(report["plays"]) if play["seconds"] is not None]
    if not timed:
        return ""
    whole = max(report["seconds"], 0.1)
    rows = ""
    for position, play in timed:
        left = min(max((play["start"] - report["started"]) / whole * 100, 0), 100)
        width = min(play["seconds"] / whole * 100, 100 - left)
        seconds = figure(report, f"plays.{position}.seconds", duration(play["seconds"]))
        rows += (
            f'<li><span class="name">{escape(play["name"])}</span><span class="bar"><i style="margin-left:{left:.2f}%;'
            f'width:{width:.2f}%"></i></span>{seconds}</li>'
        )
    return f'<section><h2>The whole run</h2><ol class="plays">{rows}</ol></section>'


def _foot(report: Report) -> str:
    who = " from ".join(part for part in (report["who"], report["from"]) if part)
    by = f"By {escape(who)}, " if who else ""
    began = f'<time datetime="{utc(report["started"], "%Y-%m-%dT%H:%M:%SZ")}">{utc(report["started"])}</time>'
    took = figure(report, "seconds", duration(report["seconds"]))
    told = "Written by Slipway; the JSON beside this page has every figure."
    return f"<footer><p>{by}{began}, {took} in all. {told}</p></footer>"
