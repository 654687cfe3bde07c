# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is told about a fleet: a table for people, rows for programs, and how the run ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean as text
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import last_exception

# How a run ends that only looks: with differences, and with hosts that did not answer (Ansible's own code for them).
DRIFT, UNSEEN = 3, 4

# Characters of a text in a table, and between the parts of a longer one; the rows for programs have all of it.
LONGEST, LEFT_OUT = 600, " ... "

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
    cells = [[brief(cell) or ("-" if cell is None else "") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def brief(value: Any, longest: int = LONGEST) -> str:
    """A value as one line. Of a longer one what it begins with, its last exception, and the last of its lines.

    A log with a traceback has its cause at the end, and what to do may come after that.
    """
    whole = text(value)
    if len(line := _one_line(whole)) <= longest:
        return line
    lines = list(filter(None, map(_one_line, whole.splitlines())))
    told: list[str] = []
    for part in (lines[0], last_exception(whole), lines[-1]):
        words = short(part, (longest - 2 * len(LEFT_OUT)) // 3)
        if words and not any(words in before for before in told):
            told.append(words)
    if not told[1:]:
        return short(line, longest) or ""
    return LEFT_OUT.join([*(words.removesuffix("...").rstrip() for words in told[:-1]), told[-1]])


def short(value: Any, length: int) -> Optional[str]:
    """The beginning of a text, with three dots where something is left out; None where there is none."""
    line = _one_line(str(value or ""))
    return (f"{line[: length - 3]}..." if len(line) > length else line) or None


def _one_line(words: str) -> str:
    return " ".join(words.split())


def trouble(result: Optional[Mapping[str, Any]]) -> str:
    """Why a host told nothing; empty when it did."""
    if result is None:
        return "it failed earlier in this run, see above"
    if result.get("outcome") in ("failed", "unreachable"):
        return str(result.get("cause") or result["outcome"])
    if result.get("unreachable"):
        return f"cannot be reached: {str(result.get('msg') or 'see above').removeprefix('Task failed: ')}"
    if result.get("failed"):
        return str(result.get("msg") or "it failed, see above")
    return ""


def row_of(host: str, result: Optional[Mapping[str, Any]], told: Mapping[str, Any]) -> dict[str, Any]:
    """A host for programs: what it `told`, and its problems; that it did not answer is its only one then."""
    quiet = trouble(result)
    seen = result or {}
    problems = (seen.get("told") or seen).get("problems") or ()
    return {"host": host, "answers": not quiet, **told, "problems": [quiet] if quiet else list(problems)}


def problems_of(rows: list[dict[str, Any]], also: Sequence[str] = (), named: bool = True) -> Told:
    """Exit code 3 where a host has a problem or there is one `also`; 4 where one did not answer.

    Problems that name their host already are not `named` again.
    """
    wrong = list(also)
    for entry in rows:
        if entry["answers"]:
            wrong += [f"{entry['host']}: {problem}" if named else problem for problem in entry["problems"]]
    quiet = [f"no answer from {entry['host']}" for entry in rows if not entry["answers"]]
    message = "; ".join([*wrong, *quiet])
    return Told(message, rows, DRIFT if wrong else UNSEEN if quiet else 0, message)


def silent(results: Results) -> dict[str, str]:
    """The hosts that told nothing, with the reason."""
    return {host: why for host, result in results.items() if (why := trouble(result))}


def silence(quiet: Mapping[str, str]) -> str:
    """One sentence about hosts that told nothing."""
    return "not told by " + "; ".join(f"{host}: {why}" for host, why in quiet.items()) if quiet else ""
