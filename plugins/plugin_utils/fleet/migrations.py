# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which Alembic revisions a source tree has beyond a recorded one, and what a migration says at its end."""

from __future__ import annotations

import ast
import configparser
import contextlib
from pathlib import Path
from typing import Any, Optional

import tomllib
from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import object_of


def revision_of(text: str) -> Optional[tuple[str, tuple[str, ...]]]:
    """(revision, those before it) of one revision file; None for a file that is none."""
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            continue
        several = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name):
                found[target.id] = tuple(map(str, several))
    revision = found.get("revision")
    return (revision[0], found.get("down_revision", ())) if revision else None


def pending(directory: Path, since: str) -> list[str]:
    """Revisions that are not in `since` (joined by commas; empty: all of them), each after those before it.

    Empty where the directory is not there or does not know `since`: then only the migration itself can tell.
    """
    before: dict[str, tuple[str, ...]] = {}
    for path in sorted(directory.glob("*.py")):
        try:
            known = revision_of(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, UnicodeDecodeError):
            continue
        if known:
            before[known[0]] = known[1]
    done: set[str] = set()
    waiting = [name for name in since.split(",") if name]
    if not set(waiting) <= set(before):
        return []
    while waiting:
        name = waiting.pop()
        if name not in done:
            done.add(name)
            waiting += before.get(name, ())
    found: list[str] = []
    while ready := [
        name for name in before if name not in done and all(one in done or one not in before for one in before[name])
    ]:
        found += ready
        done |= set(ready)
    return found


def revisions_in(source: Path, where: str) -> Optional[Path]:
    """The directory of the revisions in a source tree, by the alembic.ini that fastapi_app_migrations means.

    Or by [tool.alembic] of the pyproject.toml in its place. Where the image has it is not where the source has it, so
    the nearest one counts. None where there is none, and where two are as near.
    """
    inside = [part for part in Path(where).parts if part not in ("/", ".", "alembic")]
    # /app/backend of an image may be backend of the source.
    named = [source.joinpath(*inside[start:]) for start in range(len(inside) + 1)]
    below = (sorted(path for path in source.glob(pattern) if path.is_dir()) for pattern in ("*", "*/*"))
    told = ([place for place in places if _script_location(place)] for places in below)
    nearest = [place for place in named if _script_location(place)][:1] or next((some for some in told if some), [])
    if len(nearest) != 1:
        return None
    place = nearest[0]
    location = _script_location(place)
    # A package and a directory in it, after a colon, or a path.
    versions = place / location.replace("%(here)s", str(place)).replace(":", "/") / "versions"
    return versions if versions.is_dir() else None


def _script_location(place: Path) -> str:
    """What the configuration in a directory tells; empty where there is none, or it cannot be read.

    As Alembic asks them: https://alembic.sqlalchemy.org/en/latest/tutorial.html#using-pyproject-toml-for-configuration
    """
    read = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        read.read(place / "alembic.ini", encoding="utf-8")
    if location := read.get("alembic", "script_location", fallback=""):
        return location
    try:
        found = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8"))
        return str(found["tool"]["alembic"]["script_location"])
    except (OSError, KeyError, TypeError, ValueError):
        return ""


def answer(output: str) -> dict[str, Any]:
    """What a migration says at its end: its last line is JSON, {"migration": {..}}; empty for other commands."""
    try:
        found = object_of(output.strip().splitlines()[-1])["migration"]
    except (IndexError, KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def schema_revision(output: str) -> str:
    """The revision in which a migration left the database, from what its command printed.

    Its last line is JSON, {"migration": {"to": REVISION}}; empty for a command that prints something else.
    """
    return str(answer(output).get("to") or "")
