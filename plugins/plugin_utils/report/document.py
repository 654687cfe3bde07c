# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a run over the fleet did and what its users noticed: as JSON, as a page, as a table for the terminal.

Every value of a run may be missing; then the report says less. Texts of apps and hosts are not trusted. Pure but for
`read_samples` and `write`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean as text
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client as probe
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.page import render

__all__ = ["build", "read_samples", "render", "table", "write"]

FORMAT = 1
LOG_LINES = 120  # of a diagnosis, the last ones
OK_BINS = 240  # each keeps its slowest and its fastest request
FAILED_BINS = 120
COLUMNS = ("host", "was", "tried", "now", "outcome", "canary", "seconds")

Run = Mapping[str, Any]


def read_samples(path: Optional[str]) -> list[dict[str, Any]]:
    """What the probe wrote down; nothing where there was no probe."""
    return probe.read_samples(Path(path))[0] if path and Path(path).exists() else []


def write(report: Mapping[str, Any], directory: Path, name: str) -> Path:
    """Write `name`.json and `name`.html and return the latter."""
    directory.mkdir(parents=True, exist_ok=True)
    page = directory / f"{name}.html"
    (directory / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    page.write_text(render(report), encoding="utf-8")
    return page


def name_of(run: Run) -> str:
    """File name of a report without its ending: UTC time and release."""
    at = time.gmtime(number(run.get("started")) or 0)
    release = re.sub(r"[^\w.-]", "_", text(run.get("release")) or "none")
    return f"{time.strftime('%Y%m%dT%H%M%SZ', at)}-{release[:64]}"


def build(run: Run, samples: Iterable[probe.Sample] = ()) -> dict[str, Any]:
    """The report as JSON. Times are seconds since the epoch, durations seconds, latencies milliseconds."""
    hosts = [_host(host) for host in _entries(run, "hosts")]
    asked = sorted((found for sample in samples if (found := _sample(sample))), key=_start)
    served = run["served"] if isinstance(run.get("served"), list) else []
    counting = probe.counted(asked, served)[1]
    started, ended = _span(run, hosts, asked)
    roll = _roll(hosts) or (started, ended)
    return {
        "format": FORMAT,
        **{key: text(run.get(key)) for key in ("app", "inventory", "operation", "release", "who", "from", "verdict")},
        "message": text(run.get("message")),
        "started": started,
        "ended": ended,
        "seconds": round(ended - started, 1),
        "roll": {"start": roll[0], "end": roll[1], "seconds": round(roll[1] - roll[0], 1)},
        "requests": _requests(asked, hosts, served),
        "latency": {
            "before": _part(sample for sample in counting if _start(sample) < roll[0]),
            "during": _part(sample for sample in counting if roll[0] <= _start(sample) <= roll[1]),
            "after": _part(sample for sample in counting if _start(sample) > roll[1]),
        },
        "plays": [_play(play) for play in _entries(run, "plays")],
        "hosts": hosts,
        "api": _breaks(hosts),
        "marks": marks(counting, text(run.get("release"))),
    }


def table(run: Run) -> str:
    """Host by host what it was, what was tried, and what it is now, for the terminal."""
    hosts = [_host(host) for host in _entries(run, "hosts")]
    columns = [name for name in COLUMNS if name != "canary" or any(host["canary"] for host in hosts)]
    lines = [columns]
    for host in hosts:
        seconds = f"{host['seconds']:.1f}" if host["steps"] else "-"
        shown = {**host, "canary": (host["canary"] or {}).get("word"), "seconds": seconds}
        lines.append([(str(shown[name] or "-"))[:40] for name in columns])
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def number(value: Any) -> Optional[float]:
    """The value where it is a number that can be reckoned with, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < 1e15 else None  # false for NaN, too


def marks(samples: Sequence[probe.Sample], release: str) -> list[dict[str, Any]]:
    """What the picture shows of the requests: at most two for each moment that was answered, and one that was not.

    Slowest and fastest are kept, so that thinning hides no slow one. `new` tells whether the wanted release answered.
    """
    good = [sample for sample in samples if not sample.get("error")]
    bad = [sample for sample in samples if sample.get("error")]
    kept = good
    if len(good) > 2 * OK_BINS:
        groups = _bins(good, OK_BINS)
        kept = [
            sample
            for group in groups
            for sample in {id(one): one for one in (_fastest(group), _slowest(group))}.values()
        ]
    found: list[dict[str, Any]] = [
        {"start": _start(sample), "ms": _ms(sample), "failed": 0, "new": _is_new(sample, release)} for sample in kept
    ]
    found += [
        {"start": _start(group[0]), "ms": _ms(_slowest(group)), "failed": len(group), "error": group[0]["error"]}
        for group in _bins(bad, FAILED_BINS)
    ]
    return sorted(found, key=_start)


def _bins(samples: Sequence[probe.Sample], count: int) -> list[list[probe.Sample]]:
    """The samples in at most `count` groups of equal time; a group for each where there are no more than that."""
    if len(samples) <= count:
        return [[sample] for sample in samples]
    first, last = _start(samples[0]), _start(samples[-1])
    width = (last - first) / count or 1.0
    groups: dict[int, list[probe.Sample]] = {}
    for sample in samples:
        groups.setdefault(min(int((_start(sample) - first) / width), count - 1), []).append(sample)
    return list(groups.values())


def _slowest(samples: Sequence[probe.Sample]) -> probe.Sample:
    return max(samples, key=_ms)


def _fastest(samples: Sequence[probe.Sample]) -> probe.Sample:
    return min(samples, key=_ms)


def _start(sample: Mapping[str, Any]) -> float:
    return number(sample.get("start")) or 0.0


def _ms(sample: probe.Sample) -> float:
    return number(sample.get("ms")) or 0.0


def _is_new(sample: probe.Sample, release: str) -> Optional[bool]:
    """Whether the wanted release answered; None where the answer does not name one."""
    answered = sample.get("release")
    if not answered or not release:
        return None
    return answered.startswith(release) or release.startswith(answered)


def _part(samples: Iterable[probe.Sample]) -> dict[str, Any]:
    there = list(samples)
    failed = sum(1 for sample in there if sample.get("error"))
    return {"requests": len(there), "failed": failed, **probe.latency(there)}


def _requests(
    samples: Sequence[probe.Sample], hosts: Sequence[Mapping[str, Any]], served: Sequence[int]
) -> dict[str, Any]:
    """The figures of the probe, each failure with what was under way on the hosts."""
    figures = probe.summarize(samples, served)
    for failure in figures["failures"]:
        at = number(failure["time"]) or 0.0
        failure["under_way"] = [
            f"{host['host']} {step['phase']}"
            for host in hosts
            for step in host["steps"]
            if step["start"] <= at <= step["start"] + step["seconds"]
        ]
    errors = [sample["error"] for sample in samples if sample.get("error")]
    figures["first_error"] = errors[0] if errors else ""
    return {"measured": bool(samples), **figures}


def _entries(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The dictionaries of a list; nothing where there is no list."""
    found = value.get(key)
    return [entry for entry in found if isinstance(entry, Mapping)] if isinstance(found, (list, tuple)) else []


def _sample(sample: probe.Sample) -> Optional[dict[str, Any]]:
    """A request as the probe wrote it down, without what cannot be reckoned with."""
    start = number(sample.get("start"))
    if start is None:
        return None
    found = {"start": start, "ms": max(number(sample.get("ms")) or 0.0, 0.0), "url": number(sample.get("url"))}
    return {
        **found,
        "by": probe.giver(sample),
        **{key: text(sample[key]) for key in ("error", "release", "slot") if sample.get(key)},
    }


def _host(host: Mapping[str, Any]) -> dict[str, Any]:
    steps = [found for step in _entries(host, "steps") if (found := _step(step))]
    log = text(host.get("diagnosis")).strip("\n").splitlines()
    return {
        "host": text(host.get("host")) or "?",
        "batch": int(number(host.get("batch")) or 0),
        **{key: text(host[key]) if host.get(key) is not None else None for key in ("was", "tried", "now")},
        "outcome": text(host.get("outcome")) or "unknown",
        "cause": text(host.get("cause")),
        "diagnosis": "\n".join(log[-LOG_LINES:]),
        "left_out": max(len(log) - LOG_LINES, 0),
        "breaks": [text(found) for found in host["breaks"]] if isinstance(host.get("breaks"), (list, tuple)) else [],
        "breaks_left_out": int(number(host.get("breaks_left_out")) or 0),
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "gap": round(number(host.get("gap")) or 0.0, 2),
        "canary": _canary(host.get("canary")),
        "steps": steps,
    }


def _canary(found: Any) -> Optional[dict[str, Any]]:
    """The verdict with its figures, None where nobody judged."""
    if not isinstance(found, Mapping):
        return None
    figures = {name: found[name] for name in ("new", "old") if isinstance(found.get(name), Mapping)}
    return {
        **{name: text(found.get(name)) for name in ("word", "sentence")},
        **{
            name: {of: number(slot.get(of)) for of in ("requests", "errors", "p50", "p95")}
            for name, slot in figures.items()
        },
    }


def _breaks(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the release breaks of the API, once for all hosts on which it breaks the same."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for host in hosts:
        if host["breaks"]:
            known = {"hosts": [], "breaks": host["breaks"], "left_out": host["breaks_left_out"]}
            found.setdefault(tuple(host["breaks"]), known)["hosts"].append(host["host"])
    return list(found.values())


def _step(step: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    start = number(step.get("start"))
    if start is None:
        return None
    seconds = max(number(step.get("seconds")) or 0.0, 0.0)
    return {"phase": text(step.get("phase")), "start": start, "seconds": seconds, "revert": bool(step.get("revert"))}


def _play(play: Mapping[str, Any]) -> dict[str, Any]:
    start, end = number(play.get("start")), number(play.get("end"))
    seconds = round(max(end - start, 0.0), 1) if start is not None and end is not None else None
    return {"name": text(play.get("name")), "start": start, "end": end, "seconds": seconds}


def _roll(hosts: Sequence[Mapping[str, Any]]) -> Optional[tuple[float, float]]:
    """From the first phase on any host to the last one, taking back included."""
    steps = [step for host in hosts for step in host["steps"]]
    if not steps:
        return None
    return min(step["start"] for step in steps), max(step["start"] + step["seconds"] for step in steps)


def _span(run: Run, hosts: Sequence[Mapping[str, Any]], samples: Sequence[probe.Sample]) -> tuple[float, float]:
    """When the run began and ended; where it does not say, what is known of it."""
    known = [*(_roll(hosts) or ()), *(_start(sample) for sample in (*samples[:1], *samples[-1:]))]
    started = number(run.get("started"))
    ended = number(run.get("ended"))
    started = started if started is not None else min(known, default=ended or 0.0)
    ended = ended if ended is not None else max(known, default=started)
    return started, max(started, ended)
