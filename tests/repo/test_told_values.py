"""Ansible says a value that is wrong with all of a role's specification, so playbooks have the role look itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
# Entry points with fewer options say so in few lines, and their values come from the playbook.
FEW = 10
WAYS = ("ansible.builtin.import_role", "ansible.builtin.include_role")


def uses(part: Any) -> list[Mapping[str, Any]]:
    """All roles that a playbook, or what is imported into it, uses."""
    if isinstance(part, list):
        return [found for one in part for found in uses(one)]
    if not isinstance(part, dict):
        return []
    return [part[way] for way in WAYS if way in part] + [found for one in part.values() for found in uses(one)]


def left_to_ansible(use: Mapping[str, Any], sizes: Mapping[tuple[str, str], int]) -> str:
    """The use where Ansible would look at many values, else empty."""
    role, entry = str(use["name"]).rpartition(".")[2], str(use.get("tasks_from", "main"))
    most = max(
        (size for (name, point), size in sizes.items() if point == entry and role in (name, "{{ role }}")), default=0
    )
    return f"{role}, {entry}" if most >= FEW and use.get("rolespec_validate") is not False else ""


def sizes() -> dict[tuple[str, str], int]:
    """How many options each entry point of each role has."""
    return {
        (path.parts[-3], entry): len(point.get("options") or {})
        for path in ROOT.glob("roles/*/meta/argument_specs.yml")
        for entry, point in yaml.safe_load(path.read_text())["argument_specs"].items()
    }


def test_no_playbook_has_ansible_look_at_many_values() -> None:
    known = sizes()
    found = [
        f"{path.relative_to(ROOT)}: {left}; say rolespec_validate: false, and have the role look (slipway.fleet.inputs)"
        for path in sorted(ROOT.glob("playbooks/**/*.yml"))
        for use in uses(yaml.safe_load(path.read_text()))
        if (left := left_to_ansible(use, known))
    ]
    assert found == []


def test_a_use_that_would_is_found() -> None:
    known = {("fastapi_app", "status"): 105, ("fastapi_app", "main"): 111, ("backup", "run"): 0}
    task = {"block": [{WAYS[0]: {"name": "slipway.fleet.fastapi_app", "tasks_from": "status"}}]}
    assert [left_to_ansible(use, known) for use in uses([{"tasks": [task]}])] == ["fastapi_app, status"]
    assert left_to_ansible({"name": "slipway.fleet.fastapi_app"}, known) == "fastapi_app, main"
    assert left_to_ansible({"name": "slipway.fleet.{{ role }}", "tasks_from": "status"}, known)
    assert not left_to_ansible({"name": "slipway.fleet.backup", "tasks_from": "run"}, known)
    without = {"name": "slipway.fleet.fastapi_app", "tasks_from": "status", "rolespec_validate": False}
    assert not left_to_ansible(without, known)


def test_what_is_read_without_ansible_is_read_by_the_role() -> None:
    """Each entry point of the app's role that a playbook uses, but the lock, which is held for others too."""
    entries = {"status", "history", "logs", "run", "remove", "remove_volume"}
    for entry in entries:
        text = (ROOT / f"roles/fastapi_app/tasks/{entry}.yml").read_text()
        assert re.search(r"import_tasks: (types|validate)\.yml", text), entry
