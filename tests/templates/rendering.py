"""Renders a template of a role as a playbook would: with the role's defaults and vars, and what a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]


class Role:
    """A role with variables set."""

    def __init__(self, name: str, **variables: Any) -> None:
        self.directory = ROOT / "roles" / name
        self._loader = DataLoader()
        self._loader.set_basedir(str(self.directory))
        self._variables: dict[str, Any] = {
            "ansible_managed": "Ansible managed",
            "inventory_hostname": "web1",
            "ansible_play_hosts_all": ["web1", "web2"],
            "ansible_search_path": [str(self.directory)],
            "ansible_facts": {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 4096},
            **self._file("defaults"),
            **self._file("vars"),
            **variables,
        }

    def _file(self, kind: str) -> Mapping[str, Any]:
        path = self.directory / kind / "main.yml"
        loaded = self._loader.load_from_file(str(path), trusted_as_template=True) if path.exists() else None
        return loaded or {}

    def value(self, expression: str) -> Any:
        """What a variable or an expression is on the host."""
        return Templar(loader=self._loader, variables=self._variables).template(
            trust_as_template("{{ " + expression + " }}")
        )

    def task(self, file: str, name: str, module: str) -> Any:
        """What a task of the role gives its module; `name` is a part of the task's name."""
        path = self.directory / "tasks" / file
        tasks = self._loader.load_from_file(str(path), trusted_as_template=True)
        (given,) = [task[module] for task in tasks if name in task["name"]]
        return Templar(loader=self._loader, variables=self._variables).template(given)

    def render(self, template: str, **more: Any) -> str:
        """The text of a file below templates/, with variables that only this file has."""
        source = self.directory / "templates" / template
        templar = Templar(loader=self._loader, variables=self._variables | more).copy_with_new_env(
            searchpath=[str(source.parent)]
        )
        text = templar.template(
            trust_as_template(source.read_text()),
            escape_backslashes=False,
            overrides={"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"},
        )
        assert isinstance(text, str)
        return text
