"""Secrets that a command on the controller prints, as docs/rotation.md has them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.template import trust_as_template

from tests.templates.rendering import ROOT, Role


def documented() -> dict[str, str]:
    """The lines of the page that take a secret from a command, as Ansible reads them."""
    section = (ROOT / "docs/rotation.md").read_text(encoding="utf-8").partition("## Secrets from elsewhere")[2]
    lines = re.findall(r"^    .*$", section.partition("\n## ")[0], re.MULTILINE)
    found: dict[str, str] = yaml.safe_load("\n".join(line[4:] for line in lines))
    return {name: value for name, value in found.items() if "ansible.builtin.pipe" in value}


def role(value: str) -> Role:
    secrets = {"SECRET_KEY": trust_as_template("{{ vault_secret_key }}")}
    return Role(
        "fastapi_app",
        fastapi_app_name="links",
        fastapi_app_release="1a2b3c4d5e6f",
        fastapi_app_secrets=secrets,
        vault_secret_key=trust_as_template(value),
    )


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("vault_secret_key", ["sops", "decrypt", "--extract", '["secret_key"]', "secrets.yaml"]),
        ("vault_postgres_password", ["op", "read", "op://production/myapp/postgres"]),
        ("vault_redis_password", ["bw", "get", "password", "myapp-redis"]),
        ("vault_registry_password", ["vault", "kv", "get", "-field=registry", "secret/myapp"]),
    ],
)
def test_a_command_prints_a_secret(
    name: str, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / asked[0]
    program.write_text(f'#!/bin/sh\nprintf \'%s\\n\' "${{0##*/}}" "$@" >{tmp_path}/words\necho drawn-elsewhere\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    files = role(documented()[name]).value("__fastapi_app_secret_files")
    assert [item["content"] for item in files if "content" in item] == ["drawn-elsewhere"]
    assert (tmp_path / "words").read_text().splitlines() == asked


def test_a_command_that_fails_is_no_secret() -> None:
    with pytest.raises(AnsibleError, match="exit 3"):
        role("{{ lookup('ansible.builtin.pipe', 'exit 3') }}").value("__fastapi_app_secret_files")
