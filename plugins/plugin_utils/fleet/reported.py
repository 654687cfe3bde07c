# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the results of the release module mean for a fleet, for the plays that roll without the coordinator. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import (
    FAILED,
    GOOD,
    HELD,
    REVERTED,
    UNCHANGED,
    UNREACHABLE,
    UNTOUCHED,
    steps,
)

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
        "steps": steps_of(rolled) + steps_of(settled, revert=True),
    }


def steps_of(report: Optional[Report], revert: bool = False) -> list[dict[str, Any]]:
    """The phases of a transaction on the controller's clock."""
    began = (report or {}).get("began")
    return [] if began is None else steps(began, (report or {}).get("phases") or (), revert)
