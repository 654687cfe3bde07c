# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What became of a fleet, from what its hosts reported during one run. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Optional

# How a host's part in a roll can end before the fleet is settled: the transaction's own result.
GOOD, UNCHANGED, FAILED, UNREACHABLE, HELD = "good", "unchanged", "failed", "unreachable", "held"
# And afterwards.
REVERTED, UNTOUCHED = "reverted", "untouched"

Report = Mapping[str, Any]


def trouble(rolled: Mapping[str, Optional[Report]]) -> str:
    """The first host whose transaction failed or that did not answer, with its cause; empty when there is none."""
    for host, report in rolled.items():
        if report and report.get("outcome") in (FAILED, UNREACHABLE):
            return f"{host}: {report.get('cause') or report['outcome']}"
    return ""


def outcome_of(result: Report) -> str:
    """What the result of the release module means."""
    if result.get("failed"):
        return FAILED
    return GOOD if result.get("changed") else UNCHANGED


def wrong_batches(batches: Any) -> str:
    """Empty, or what is wrong with the sizes of batches: Ansible itself takes -1, and never comes to an end with it."""
    sizes = batches if isinstance(batches, (list, tuple)) else [batches]
    wrong = [size for size in sizes if isinstance(size, bool) or not re.fullmatch(r"[1-9][0-9]*%?", str(size))]
    if not wrong:
        return ""
    return (
        f"slipway_batches has {', '.join(map(repr, wrong))}; each size is a number of hosts from 1 on, or a percentage"
    )


def batch_of(host: str, hosts: Sequence[str], batches: Sequence[Any]) -> int:
    """The number of the batch, from 1, in which `serial: batches` takes a host.

    As Ansible reads it: a number or a percentage of all hosts (at least one), the last entry as often as needed. Raises
    ValueError for a size that is neither.
    """
    if wrong := wrong_batches(batches):
        raise ValueError(wrong)
    position, first, number = list(hosts).index(host), 0, 0
    while True:
        size = batches[min(number, len(batches) - 1)] if batches else len(hosts)
        text = str(size)
        width = int(float(text.rstrip("%")) / 100 * len(hosts)) if text.endswith("%") else int(text)
        first += max(width, 1) if text.endswith("%") else (width or len(hosts))
        number += 1
        if position < first:
            return number


def settled_outcome(rolled: Optional[Report], settled: Optional[Report], stopped: bool) -> str:
    """What became of one host. `stopped` tells that the roll failed somewhere."""
    first = str((rolled or {}).get("outcome", UNCHANGED))
    last = (settled or {}).get("outcome")
    if last in (FAILED, UNREACHABLE):
        return str(last)
    if first == HELD:
        return UNTOUCHED
    if stopped and first == GOOD and settled is not None:
        return REVERTED if settled.get("changed") else HELD
    return first


def steps(report: Optional[Report], revert: bool = False) -> list[dict[str, Any]]:
    """The phases of a transaction on the controller's clock."""
    began = (report or {}).get("began")
    if began is None:
        return []
    return [
        {
            "phase": phase["phase"],
            "start": began + phase.get("at", 0.0),
            "seconds": phase["seconds"],
            "revert": revert or phase["phase"] == "return",
        }
        for phase in (report or {}).get("phases") or ()
    ]


def host_row(host: str, batch: int, reports: Sequence[Optional[Report]], stopped: bool) -> dict[str, Any]:
    """One host for the report: what it was, what was tried, what it is now.

    `reports` are those of its preflight, its transaction and its settlement.
    """
    before, rolled, settled = reports
    state = (before or {}).get("state") or {}
    now = ((settled or {}).get("now") or {}).get("state") or {}
    first = rolled or {}
    outcome = settled_outcome(rolled, settled, stopped)
    last = settled or {}
    bad = last if last.get("outcome") in (FAILED, UNREACHABLE) else first
    return {
        "host": host,
        "batch": batch,
        "was": state.get("release"),
        "tried": first.get("tried") or (before or {}).get("release"),
        "now": now.get("release") if settled else state.get("release"),
        "outcome": outcome,
        "cause": str(bad.get("cause") or "") if outcome in (FAILED, UNREACHABLE) else "",
        "diagnosis": str(bad.get("diagnosis") or "") if outcome in (FAILED, UNREACHABLE) else "",
        "drift": list((last.get("now") or {}).get("drift") or ()),
        "steps": steps(rolled) + steps(settled, revert=True),
    }


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """One word for the fleet: good, nothing, reverted, held or failed."""
    outcomes = {row["outcome"] for row in rows}
    if outcomes <= {GOOD, UNCHANGED}:
        return "good" if GOOD in outcomes else "nothing"
    if HELD in outcomes:
        return "held"
    now = {row["now"] for row in rows}
    returned = all(row["now"] == row["was"] for row in rows)
    return "reverted" if returned and None not in now else "failed"


def sentence(word: str, rows: Sequence[Mapping[str, Any]], release: str) -> str:
    """The verdict in one sentence, with the next step where there is one."""
    first = next((row for row in rows if row["cause"]), None)
    because = f"{first['host']}: {first['cause']}" if first else "see the table"
    if word == "nothing":
        return f"every host serves release {release} already; nothing was changed"
    if word == "good":
        return f"every host serves release {release}"
    if word == "reverted":
        return f"release {release} was refused ({because}); every host serves what it served before"
    if word == "held":
        return (
            f"release {release} stopped in the middle ({because}) and was held there, as fastapi_app_on_failure says; "
            "mend the cause and deploy again, or run the rollback playbook"
        )
    if GOOD in (outcomes := {row["outcome"] for row in rows}) and outcomes <= {GOOD, UNCHANGED, UNREACHABLE}:
        return (
            f"release {release} serves on every host that answers, but not all do ({because}); mend their connection "
            "and deploy again, which takes them along"
        )
    return (
        f"release {release} was refused ({because}), and not every host is back on what it served before; "
        "mend the hosts of the table that say so and deploy again"
    )


def wrong(rows: Sequence[Mapping[str, Any]], message: str, release: str) -> dict[str, str]:
    """For each host that did not end as the run wanted, what it serves and why."""
    return {
        row["host"]: f"serves {row['now'] or 'something unknown'} and not {release}: {row['cause'] or message}"
        for row in rows
        if row["outcome"] not in (GOOD, UNCHANGED)
    }


def wanted(rows: Sequence[Mapping[str, Any]]) -> str:
    """The release that the run was about, from what the hosts tried."""
    return str(next((row["tried"] for row in rows if row["tried"]), "") or "unknown")


def plan(
    rows: Sequence[Mapping[str, Any]],
    release: str,
    migrations: Sequence[str] = (),
    free: Optional[Mapping[str, int]] = None,
    images: Sequence[tuple[str, str]] = (),
) -> str:
    """What a run would do, as lines for people.

    Args:
        rows: the hosts
        release: the wanted one
        migrations: what the database needs before
        free: disk space of each host in MiB
        images: for each host that changes, the image of the release that serves and of the wanted one
    """
    waiting = [row for row in rows if row["batch"]]
    if not waiting:
        return f"Plan: nothing; every host serves release {release} already."
    lines = [f"Plan: release {release} on {len(waiting)} of {len(rows)} hosts, in this order:"]
    for number in sorted({row["batch"] for row in waiting}):
        hosts = [f"{row['host']} ({row['was'] or 'nothing'})" for row in waiting if row["batch"] == number]
        lines.append(f"  batch {number}: {', '.join(hosts)}")
    lines += [f"Image: {was or 'none'} -> {to}" for was, to in dict.fromkeys(images) if to not in ("", was)]
    if migrations:
        lines.append(f"Migrations before the first host: {', '.join(migrations)}")
    if free:
        host = min(free, key=lambda name: free[name])
        lines.append(f"Least free disk: {free[host]} MiB on {host}")
    return "\n".join(lines)
