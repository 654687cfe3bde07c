# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which Alembic revisions a source tree has beyond a recorded one, and in which a migration says that it ended."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Optional


def revision_of(text: str) -> Optional[tuple[str, Optional[str]]]:
    """(revision, down_revision) of one revision file; None for a file that is none."""
    found: dict[str, Optional[str]] = {}
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or not isinstance(node.value, ast.Constant):
            continue
        value = None if node.value.value is None else str(node.value.value)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = value
    revision = found.get("revision")
    return (revision, found.get("down_revision")) if revision else None


def pending(directory: Path, since: str) -> list[str]:
    """Revisions after `since` (empty: all of them), oldest first, along the one line that Alembic would follow.

    Empty where the directory is not there or does not know `since`: then only the migration itself can tell.
    """
    after: dict[Optional[str], str] = {}
    for path in sorted(directory.glob("*.py")):
        try:
            known = revision_of(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError):
            continue
        if known:
            after[known[1]] = known[0]
    if since and since not in after.values():
        return []
    found: list[str] = []
    step: Optional[str] = since or None
    while (step := after.get(step)) and step not in found:
        found.append(step)
    return found


def schema_revision(output: str) -> str:
    """The revision in which a migration left the database, from what its command printed.

    Its last line is JSON, {"migration": {"to": REVISION}}; empty for a command that prints something else.
    """
    try:
        return str(json.loads(output.strip().splitlines()[-1])["migration"]["to"] or "")
    except (IndexError, KeyError, TypeError, ValueError):
        return ""
