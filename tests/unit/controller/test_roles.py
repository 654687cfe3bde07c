"""Variables of roles without the roles: in the order that Ansible has them, for a template and not for its text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import roles


@pytest.fixture
def of_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> roles.RoleVariables:
    files = {
        "one/defaults": "a: of defaults\nb: '{{ a }} and {{ __c }}'\n",
        "one/vars": "__c: of vars\nd: {e: ['{{ b }}']}\n",
        "two/defaults": "a: of the second\n",
        "two/vars": "{}\n",
    }
    for name, text in files.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "main.yml").write_text(text)
    (tmp_path / "one/templates").mkdir()
    (tmp_path / "one/templates/file.j2").write_text("a file\n")
    monkeypatch.setattr(roles, "ROLES", tmp_path)
    return roles.RoleVariables(DataLoader(), ["one", "two"])


@pytest.mark.parametrize(
    ("own", "b"),
    [
        pytest.param({}, "of the second and of vars", id="none"),
        pytest.param({"a": "own"}, "own and of vars", id="wins over defaults"),
        pytest.param({"__c": "own"}, "of the second and of vars", id="does not win over vars"),
    ],
)
def test_a_hosts_own_values_come_between(of_roles: roles.RoleVariables, own: dict[str, Any], b: str) -> None:
    found = of_roles.beside(own)
    assert Templar(variables=found).template(found["d"]) == {"e": [b]}


def test_every_text_is_known(of_roles: roles.RoleVariables) -> None:
    found = set(of_roles.texts())
    assert {"of defaults", "{{ a }} and {{ __c }}", "of vars", "{{ b }}", "a file\n"} - found == {"of defaults"}
