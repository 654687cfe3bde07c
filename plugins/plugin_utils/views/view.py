# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is told about a fleet: a table for people, rows for programs, and how the run ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean as text

# How a run ends that only looks: with differences, and with hosts that did not answer (Ansible's own code for them).
DRIFT, UNSEEN = 3, 4

# What the hosts of a play registered, by host; None for one that failed before.
Results = Mapping[str, Optional[Mapping[str, Any]]]


@dataclass(frozen=True)
class Told:
    """`message` says in one sentence why the exit code is not 0."""

    text: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    code: int = 0
    message: str = ""


def table(lines: Sequence[Sequence[Any]]) -> str:
    """Lines of cells, the first with the names of the columns; every column as wide as it must be."""
    cells = [[" ".join(text(cell).split()) or ("-" if cell is None else "") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def trouble(result: Optional[Mapping[str, Any]]) -> str:
    """Why a host told nothing; empty when it did."""
    if result is None:
        return "it failed earlier in this run, see above"
    if result.get("outcome") in ("failed", "unreachable"):
        return str(result.get("cause") or result["outcome"])
    if result.get("failed") or result.get("unreachable"):
        return str(result.get("msg") or "it failed, see above")
    return ""


def silent(results: Results) -> dict[str, str]:
    """The hosts that told nothing, with the reason."""
    return {host: why for host, result in results.items() if (why := trouble(result))}


def silence(quiet: Mapping[str, str]) -> str:
    """One sentence about hosts that told nothing."""
    return "not told by " + "; ".join(f"{host}: {why}" for host, why in quiet.items()) if quiet else ""
