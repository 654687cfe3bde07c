"""Renders a template of a role as a playbook would: with the role's defaults and vars, and what a test sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ansible._internal._templating._jinja_bits import _TemplateCompileContext
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
# Nothing of the collection is imported here: tests of scenarios import this before Ansible's loader is there.
# Hundreds of tests render the same templates, and to compile them takes longer than all else: each is compiled once.
COMPILED: dict[tuple[Any, ...], Any] = {}
COMPILE_ANEW = Environment.compile


def compile_once(self: Environment, source: Any, *more: Any, **others: Any) -> Any:
    """In place of Environment.compile. A lexer stands for its syntax; how backslashes are read is said beside it."""
    if more or others or not isinstance(source, str):
        return COMPILE_ANEW(self, source, *more, **others)
    wanted = _TemplateCompileContext.current(optional=True)
    key = (type(self), str(source), wanted and wanted.escape_backslashes, self.lexer)
    if key not in COMPILED:
        COMPILED[key] = COMPILE_ANEW(self, source)
    return COMPILED[key]


@cache
def read(path: Path) -> Any:
    """What a file of a role says; nobody changes it."""
    return DataLoader().load_from_file(str(path), cache="none", trusted_as_template=True)


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
        return (read(path) if path.exists() else None) or {}

    def _made(self, template: Any) -> Any:
        with patch.object(Environment, "compile", compile_once):
            return Templar(loader=self._loader, variables=self._variables).template(template)

    def value(self, expression: str) -> Any:
        """What a variable or an expression is on the host."""
        return self._made(trust_as_template("{{ " + expression + " }}"))

    def task(self, file: str, name: str, module: str) -> Any:
        """What a task of the role gives its module; `name` is a part of the task's name."""
        (given,) = [task[module] for task in read(self.directory / "tasks" / file) if name in task["name"]]
        return self._made(given)

    def render(self, template: str, **more: Any) -> str:
        """The text of a file below templates/, with variables that only this file has."""
        source = self.directory / "templates" / template
        templar = Templar(loader=self._loader, variables=self._variables | more).copy_with_new_env(
            searchpath=[str(source.parent)]
        )
        with patch.object(Environment, "compile", compile_once):
            text = templar.template(
                trust_as_template(source.read_text()),
                escape_backslashes=False,
                overrides={"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"},
            )
        assert isinstance(text, str)
        return text
