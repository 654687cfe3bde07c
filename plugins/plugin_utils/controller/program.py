# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A program that stays on hosts, made of the parts of `module_utils` that it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOM = Path(__file__).resolve().parents[2] / "module_utils"


def parts(source: str, room: Path = ROOM) -> list[str]:
    """The file and all that it imports of the room, by their names below it."""
    found: set[str] = set()
    left = [source]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += _imported(name, room)
    return sorted(found)


def _imported(name: str, room: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((room / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (room / name).parents[node.level - 1]
            module = base.joinpath(*(node.module or "").split("."))
            for path in (module.with_suffix(".py"), *(module / f"{alias.name}.py" for alias in node.names)):
                if path.is_file():
                    yield path.relative_to(room).as_posix()


def files(source: str, directory: str, room: Path = ROOM) -> list[dict[str, Any]]:
    """The program's files below a directory of the host, as slipway.fleet.tree lists them."""
    rights = {"owner": "root", "group": "root"}
    of_file = {"mode": "0644", "program": True, **rights}
    names = parts(source, room)
    rooms = sorted({"", *(str(Path(name).parent) for name in names)})
    return [
        *({"dest": f"{directory}/{one}".rstrip("/"), "state": "directory", "mode": "0755", **rights} for one in rooms),
        *({"dest": f"{directory}/{name}", "content": (room / name).read_text("utf-8"), **of_file} for name in names),
    ]
