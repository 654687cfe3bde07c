# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The ledgers of a fleet as one history: a line for what one run did, with the hosts to which it did the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import BEGUN
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import breaks_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    UNSEEN,
    Results,
    Told,
    short,
    silence,
    silent,
    table,
    trouble,
)

# The set that was made before its migrations: a column where a line has one.
BACKUP = "backup"
COLUMNS = (
    *("when", "operation", "release", "result", "hosts", "seconds", "who", "from"),
    *("image", "config", "migration", BACKUP, "cause"),
)
# What must be equal for records of one run to be one line.
SAME = ("operation", "release", "result", "cause", "who", "from", "image", "config", "revision", "migration", "backup")


UNENDED = "not ended"


def moment(text: Any) -> Optional[datetime]:
    """A time of the ledger, None where it is none."""
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def entry(host: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of one host. What happened to a lock, or to a slot that drained, is one too, the event its cause.

    An operation has what it was done to before its cause, and where nobody recorded its end that as its result.
    """
    event = "event" in record
    return {
        "start": said(record, "start"),
        "end": said(record, "end") or said(record, "start"),
        "operation": operation(record),
        "release": said(record, "release") or said(record, "drained") or said(record, "serving"),
        "result": None if event else result(record),
        "cause": said(record, "event") or done(record) or broken(record),
        "rc": record.get("rc"),
        "canary": {host: record["canary"]} if isinstance(record.get("canary"), Mapping) else {},
        "breaks": breaks_of(record),
        **{
            name: said(record, name)
            for name in ("who", "from", "image", "config", "revision", "migration", "backup", "sbom", "run")
        },
        "hosts": [host],
    }


def said(record: Mapping[str, Any], name: str) -> Optional[str]:
    """A field of a record as text, whatever a host has there; None where it has nothing."""
    value = record.get(name)
    return value if value is None or isinstance(value, str) else str(value)


def result(record: Mapping[str, Any]) -> Optional[str]:
    """How it ended; one that was killed, or whose host did not get to its end, has only begun."""
    ended = said(record, "result")
    return UNENDED if ended == BEGUN else ended


def done(record: Mapping[str, Any]) -> str:
    """To what something was done, and why it failed, as far as they are recorded."""
    return ": ".join(str(record[name]) for name in ("what", "cause") if record.get(name))


def broken(record: Mapping[str, Any]) -> str:
    """The first of what it broke of the API, and how much more; empty where it broke nothing."""
    found = breaks_of(record)
    if not found:
        return ""
    api = record.get("api")
    more = api.get("more") if isinstance(api, Mapping) else 0
    left = len(found) - 1 + (more if isinstance(more, int) else 0)
    return f"breaks the API: {found[0]}{f'; and {left} more' if left else ''}"


def operation(record: Mapping[str, Any]) -> str:
    if "event" in record:
        return "drain" if "drained" in record else "lock"
    return str(record.get("operation") or "deploy")


def key(one: Mapping[str, Any]) -> tuple[Any, ...]:
    """Records with the same key are one line; one of an older version, without its run, goes by its start."""
    return (one["run"] or one["start"], *(one[name] for name in SAME))


def records(result: Optional[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What a host told of its ledger, as far as those are records."""
    return [record for record in (result or {}).get("records") or () if isinstance(record, Mapping)]


def merged(results: Results) -> list[dict[str, Any]]:
    """The lines, oldest first; `start` is the first host's and `end` the last one's."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for host, result in results.items():
        for record in records(result):
            one = entry(host, record)
            line = found.setdefault(key(one), one)
            if line is not one:
                line["start"] = min(line["start"], one["start"], key=str)
                line["end"] = max(line["end"], one["end"], key=str)
                line["canary"] |= one["canary"]
                line["hosts"] += [host] if host not in line["hosts"] else []
    return [{**line, "seconds": seconds(line)} for line in sorted(found.values(), key=lambda line: str(line["start"]))]


def seconds(line: Mapping[str, Any]) -> Optional[int]:
    """From the first host's start to the last one's end."""
    start, end = moment(line["start"]), moment(line["end"])
    return round((end - start).total_seconds()) if start and end else None


def everybodies(results: Results) -> list[set[str]]:
    """The groups of hosts that a line may name as all of them: the fleet, and those to which releases go."""
    to_release = {
        host
        for host, result in results.items()
        if trouble(result) or any("release" in record for record in records(result))
    }
    return [set(results), to_release]


def cells(line: Mapping[str, Any], everybodies: Sequence[set[str]]) -> list[Any]:
    """A line of the table, short enough to read; the JSON has all of it."""
    when = moment(line["start"])
    hosts = line["hosts"]
    return [
        when.strftime("%Y-%m-%d %H:%M:%S") if when else line["start"],
        *(line[name] for name in ("operation", "release", "result")),
        f"all {len(hosts)}" if len(hosts) > 1 and set(hosts) in everybodies else ",".join(hosts),
        line["seconds"] if line["operation"] != "lock" else None,
        line["who"],
        short(line["from"], 24),
        short(line["image"], 40),
        (line["config"] or "")[:8] or None,
        line["migration"] or None,
        line["backup"] or None,
        short(line["cause"], 70),
    ]


def tell(results: Results) -> Told:
    """A table of what was done to the fleet, oldest first. Exit code 4 where a host did not tell."""
    lines = merged(results)
    quiet = silent(results)
    groups = everybodies(results)
    left_out = set() if any(line[BACKUP] for line in lines) else {COLUMNS.index(BACKUP)}
    rows_shown = [COLUMNS, *(cells(line, groups) for line in lines)]
    shown = "Nothing is recorded yet."
    if lines:
        shown = table([[cell for at, cell in enumerate(row) if at not in left_out] for row in rows_shown])
    rows = [{name: value for name, value in line.items() if name != "run"} for line in lines]
    return Told(shown, rows, UNSEEN if quiet else 0, silence(quiet))
