# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the slots of a fleet and its commands printed. Pure."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import object_of
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean as text
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import UNSEEN, Results, Told, silence, silent

# 2026-11-24T22:15:48.877Z, and Gunicorn's [2026-11-24 22:15:48 +0000], at the beginning of a line.
_TIME = re.compile(r"^\[?(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?\d* ?(Z|[+-]\d\d:?\d\d)?")
_NAMES = ("time", "timestamp", "ts", "@timestamp")
_LATEST = 1e11  # seconds; a larger number counts milliseconds
_EPOCH = datetime.fromtimestamp(0, timezone.utc)


def moment(line: str) -> Optional[float]:
    """When a line was written, in seconds since the epoch; None where it does not say. Without a zone it is UTC."""
    if line.startswith("{"):
        try:
            found = object_of(line)
        except ValueError:
            return None
        value = next((found[name] for name in _NAMES if name in found), None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _finite(value / 1000 if value > _LATEST else float(value))
        line = str(value or "")
    match = _TIME.match(line)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+0000" if zone in (None, "Z") else zone.replace(":", "")
    try:
        parsed = datetime.strptime(f"{day} {clock} {zone}", "%Y-%m-%d %H:%M:%S %z")
    except ValueError:
        return None
    # Without a way over UTC, in which the first and the last day of all that it knows are none.
    return (parsed - _EPOCH).total_seconds() + float(f"0.{fraction or 0}")


def _finite(seconds: float) -> Optional[float]:
    return seconds if math.isfinite(seconds) else None


def timed(host: str, log: str) -> Iterator[tuple[float, str, str]]:
    """The lines of a host with their times, which never go back; a line without one belongs to the line before it."""
    last = 0.0
    for line in log.splitlines():
        last = max(last, moment(line) or 0.0)
        yield last, host, text(line)


def tell(results: Results) -> Told:
    """The lines of all hosts and of their processes in the order of time. Exit code 4 where a host did not tell."""
    quiet = silent(results)
    told = {host: (result or {}).get("log") or "" for host, result in results.items() if host not in quiet}
    for host, result in results.items():
        if host not in quiet:
            told |= {f"{host} {one['name']}": one["log"] for one in (result or {}).get("processes") or ()}
    width = max(map(len, told), default=0)
    streams = [timed(host, log) for host, log in told.items()]
    lines = [f"{host:<{width}} | {line}" for _, host, line in heapq.merge(*streams, key=lambda found: found[0])]
    lines += [f"{host:<{width}} | (it has printed nothing)" for host, log in told.items() if not log.strip()]
    return Told("\n".join(lines), [], UNSEEN if quiet else 0, silence(quiet))


def tell_output(results: Results) -> Told:
    """What a command printed on the one host that ran it."""
    host, found = next(((host, ran) for host, ran in results.items() if ran and "rc" in ran), ("", None))
    if found is None:
        return Told("Nothing was run.")
    parts = [f"--- {host}, release {found.get('release')} ---", text(found.get("stdout")), text(found.get("stderr"))]
    return Told("\n".join(part.rstrip() for part in parts if part.strip()))
