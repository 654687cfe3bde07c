"""Provisioning refuses what it can before it changes anything on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLE = ("ansible.builtin.import_role", "ansible.builtin.include_role")


def looked_at() -> dict[str, str]:
    """By each role that is looked at before anything is changed the file of its tasks."""
    tasks: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks/tasks/admit.yml").read_text(encoding="utf-8"))
    roles = [task[module] for task in tasks for module in ROLE if module in task]
    return {role["name"].rpartition(".")[2]: role["tasks_from"] for role in roles}


def refuses(role: str, entry: str) -> str:
    """The file that a role's tasks begin with, which is where it refuses what it can."""
    tasks = yaml.safe_load((ROOT / f"roles/{role}/tasks/{entry}.yml").read_text(encoding="utf-8"))
    return str(tasks[0]["ansible.builtin.import_tasks"]).removesuffix(".yml")


@pytest.mark.parametrize(
    ("role", "entry"),
    [
        ("docker_engine", "main"),
        ("fastapi_app", "metadata"),
        ("postgres", "main"),
        ("redis", "main"),
        ("backup", "main"),
    ],
)
def test_what_a_role_refuses_is_refused_before_any_of_them_changes_something(role: str, entry: str) -> None:
    assert looked_at()[role] == refuses(role, entry)
