# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The ledgers of a fleet as one history: a line for what one run did, with the hosts to which it did the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    UNSEEN,
    Results,
    Told,
    silence,
    silent,
    table,
)

COLUMNS = (
    *("when", "operation", "release", "result", "hosts", "seconds", "who", "from"),
    *("image", "config", "migration", "cause"),
)
# What must be equal for records of one run to be one line.
SAME = ("operation", "release", "result", "cause", "who", "from", "image", "config", "revision", "migration")


def moment(text: Any) -> Optional[datetime]:
    """A time of the ledger, None where it is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def entry(host: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of one host. What happened to the lock, or to a slot that drained, is one too, the event its cause."""
    event = "event" in record
    return {
        "start": record.get("start"),
        "end": record.get("end") or record.get("start"),
        "operation": operation(record),
        "release": record.get("release") or record.get("drained"),
        "result": None if event else record.get("result"),
        "cause": record.get("event") or record.get("cause") or broken(record),
        "breaks": (record.get("api") or {}).get("breaks") or [],
        **{
            name: record.get(name)
            for name in ("who", "from", "image", "config", "revision", "migration", "sbom", "run")
        },
        "hosts": [host],
    }


def broken(record: Mapping[str, Any]) -> str:
    """What a release that serves broke of the API; empty where it broke nothing, or where nobody looked."""
    found = record.get("api") or {}
    breaks = found.get("breaks") or []
    left = len(breaks) - 1 + int(found.get("more") or 0)
    return f"breaks the API: {breaks[0]}{f'; and {left} more' if left else ''}" if breaks else ""


def operation(record: Mapping[str, Any]) -> str:
    if "event" in record:
        return "drain" if "drained" in record else "lock"
    return str(record.get("operation") or "deploy")


def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
    """Records with the same key are one line; one of an older version, without its run, goes by its start."""
    return (one["run"] or one["start"], *(one[name] for name in SAME))


def merged(results: Results) -> list[dict[str, Any]]:
    """The lines, oldest first; `start` is the first host's and `end` the last one's."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for host, result in results.items():
        for record in (result or {}).get("records") or ():
            one = entry(host, record)
            line = found.setdefault(key(one), one)
            if line is not one:
                line["start"] = min(line["start"], one["start"], key=str)
                line["end"] = max(line["end"], one["end"], key=str)
                line["hosts"] += [host] if host not in line["hosts"] else []
    return [{**line, "seconds": seconds(line)} for line in sorted(found.values(), key=lambda line: str(line["start"]))]


def seconds(line: Mapping[str, Any]) -> Optional[int]:
    """From the first host's start to the last one's end."""
    start, end = moment(line["start"]), moment(line["end"])
    return round((end - start).total_seconds()) if start and end else None


def cells(line: Mapping[str, Any], everybody: int) -> list[Any]:
    """A line of the table, short enough to read; the JSON has all of it."""
    when = moment(line["start"])
    hosts = line["hosts"]
    return [
        when.strftime("%Y-%m-%d %H:%M:%S") if when else line["start"],
        *(line[name] for name in ("operation", "release", "result")),
        f"all {everybody}" if len(hosts) == everybody > 1 else ",".join(hosts),
        line["seconds"] if line["operation"] != "lock" else None,
        line["who"],
        short(line["from"], 24),
        short(line["image"], 40),
        (line["config"] or "")[:8] or None,
        line["migration"] or None,
        short(line["cause"], 70),
    ]


def short(value: Any, length: int) -> Optional[str]:
    """The beginning of a text, with three dots where something is left out; None where there is none."""
    text = " ".join(str(value or "").split())
    return (f"{text[: length - 3]}..." if len(text) > length else text) or None


def tell(results: Results) -> Told:
    """A table of what was done to the fleet, oldest first. Exit code 4 where a host did not tell."""
    lines = merged(results)
    quiet = silent(results)
    shown = table([COLUMNS, *(cells(line, len(results)) for line in lines)]) if lines else "Nothing was released yet."
    rows = [{name: value for name, value in line.items() if name != "run"} for line in lines]
    return Told(shown, rows, UNSEEN if quiet else 0, silence(quiet))
