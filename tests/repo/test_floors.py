"""The rooms of the plugins' helpers stand on floors, and none leans on one above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
COLLECTION = "ansible_collections.slipway.fleet.plugins."
# From the ground up: what a host has, then what only the controller has. A room may use those below, and those of its
# own floor as long as they do not use it.
FLOORS = (
    {"module_utils/host"},
    {f"module_utils/{room}" for room in ("edge", "image", "openapi", "package", "postgres")},
    {"module_utils/release"},
    {"module_utils/backup"},
    {"module_utils/upgrade"},
    {"module_utils/agent"},
    {f"plugin_utils/{room}" for room in ("probe", "fleet", "bundle", "sbom")},
    {f"plugin_utils/{room}" for room in ("controller", "report")},
    {f"plugin_utils/{room}" for room in ("channel", "image", "package", "views")},
    {f"plugin_utils/{room}" for room in ("inputs", "bundle_builder", "inspect")},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports from."""
    here = path.relative_to(PLUGINS).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        words = tuple(node.module.split(".")) if node.module else ()
        if node.level:
            words = here[: -node.level] + words
        elif (node.module or "").startswith(COLLECTION):
            words = tuple(str(node.module).removeprefix(COLLECTION).split("."))
        else:
            continue
        yield from {"/".join((*words, name.name)[:2]) for name in node.names}


def arrows() -> dict[tuple[str, str], list[str]]:
    """From which room to which other one, with the files."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(PLUGINS.glob("*_utils/*/**/*.py")):
        room = "/".join(path.relative_to(PLUGINS).parts[:2])
        for other in set(imported(path)) - {room}:
            found.setdefault((room, other), []).append(str(path.relative_to(PLUGINS)))
    return found


def test_every_room_has_a_floor() -> None:
    rooms = {str(path.relative_to(PLUGINS)) for path in PLUGINS.glob("*_utils/*") if path.is_dir()}
    assert {room for room in rooms if not room.endswith("/__pycache__")} == set(FLOOR)
    assert {path.name for path in PLUGINS.glob("*_utils/*.py")} == {"__init__.py"}, "and what is in none has none"


def test_no_arrow_leads_up() -> None:
    assert not {arrow: files for arrow, files in arrows().items() if FLOOR[arrow[0]] < FLOOR[arrow[1]]}


def test_no_two_rooms_lean_on_each_other() -> None:
    found = set(arrows())
    assert not {arrow for arrow in found if (arrow[1], arrow[0]) in found}
