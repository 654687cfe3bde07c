"""Wrong input is refused before a host is contacted: the host of these tests does not exist.

Each case says which variable is wrong and what to do, within seconds. What depends on a host is in molecule/release.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GROUP_VARS = ROOT / "inventories" / "lab" / "group_vars" / "web"
# Nobody listens on port 1, so a task that reaches out fails with "unreachable" instead of the message wanted here.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o ControlMaster=no"}
VAULT = {f"vault_{name}": f"for-tests-only-{name}" for name in ("postgres_password", "redis_password", "secret_key")}


def inventory(directory: Path, *, without: tuple[str, ...] = (), hosts: dict[str, Any] | None = None) -> Path:
    """An inventory with the lab's variables, a vault that is not encrypted, and a host that does not exist."""
    values: dict[str, Any] = {}
    for path in sorted(GROUP_VARS.glob("*.yml")):
        if path.name != "vault.yml":
            values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    values = {key: value for key, value in (values | VAULT).items() if key not in without}
    file = directory / "hosts.yml"
    group = {"hosts": {"nowhere": NOWHERE} if hosts is None else hosts, "vars": values}
    file.write_text(yaml.safe_dump({"web": group}), encoding="utf-8")
    return file


def deploy(file: Path, *arguments: str, **variables: Any) -> tuple[int, str]:
    """Exit code and output of the deploy playbook."""
    result = subprocess.run(
        [
            *(str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(file), "slipway.fleet.deploy"),
            *("-e", json.dumps(variables), *arguments),
        ],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return result.returncode, result.stdout


def refused(code: int, output: str, *words: str) -> None:
    assert code != 0, output
    assert "unreachable=1" not in output, f"found out only on the way to the host:\n{output}"
    assert not re.search(r"\bchanged=[1-9]", output), output
    flat = " ".join(output.split())
    for word in words:
        assert word in flat, output


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "the name has a space": ({"fastapi_app_name": "short links"}, ("fastapi_app_name", "lower case letters, digits")),
    "the name climbs": ({"fastapi_app_name": "../etc"}, ("fastapi_app_name", "lower case letters, digits")),
    "the name is too long": ({"fastapi_app_name": "a" * 40}, ("fastapi_app_name", "at most 31")),
    "the name is empty": ({"fastapi_app_name": ""}, ("fastapi_app_name",)),
    "an unknown runtime": ({"fastapi_app_runtime": "podman"}, ("fastapi_app_runtime", "compose")),
    "a number that is none": ({"fastapi_app_workers": "many"}, ("fastapi_app_workers", "int")),
    "a list for a dictionary": ({"fastapi_app_environment": ["A=1"]}, ("fastapi_app_environment", "dict")),
    "a text for the secrets": ({"fastapi_app_secrets": "hunter2hunter2"}, ("fastapi_app_secrets", "dict")),
    "an empty secret": (
        {"fastapi_app_secrets": {"SECRET_KEY": ""}},
        ("fastapi_app_secrets", "SECRET_KEY", "ansible-vault"),
    ),
    "a placeholder": (
        {"fastapi_app_secrets": {"SECRET_KEY": "changeme"}},
        ("SECRET_KEY", "placeholder", "ansible-vault"),
    ),
    "a secret in the environment": (
        {"fastapi_app_environment": {"SECRET_KEY": "no-secret-here"}},
        ("SECRET_KEY", "fastapi_app_environment", "remove it"),
    ),
    "the worker outlives the edge's patience": (
        {"fastapi_app_timeout": 90},
        ("fastapi_app_timeout (90)", "smaller than fastapi_app_edge_timeout (75)"),
    ),
    "killed while it lets requests end": (
        {"fastapi_app_stop_grace": 10},
        ("fastapi_app_graceful_timeout (30)", "smaller than fastapi_app_stop_grace (10)"),
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_named(case: str, tmp_path: Path) -> None:
    variables, words = WRONG[case]
    code, output = deploy(inventory(tmp_path), **variables)
    refused(code, output, *words)
    assert "hunter2hunter2" not in output
    assert "no-secret-here" not in output


def test_a_missing_variable_is_named(tmp_path: Path) -> None:
    code, output = deploy(inventory(tmp_path, without=("fastapi_app_name",)))
    refused(code, output, "fastapi_app_name")


def test_a_secret_that_the_vault_lacks_is_named(tmp_path: Path) -> None:
    code, output = deploy(inventory(tmp_path, without=("vault_secret_key",)))
    refused(code, output, "vault_secret_key")


def test_a_wrong_vault_password(tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("this is not the password\n", encoding="utf-8")
    directory = tmp_path / "group_vars" / "web"
    directory.mkdir(parents=True)
    secret = tmp_path / "right"
    secret.write_text("this is the password\n", encoding="utf-8")
    vault = directory / "vault.yml"
    vault.write_text(yaml.safe_dump(VAULT), encoding="utf-8")
    encrypt = [
        str(Path(sys.executable).parent / "ansible-vault"),
        "encrypt",
        "--vault-password-file",
        str(secret),
        str(vault),
    ]
    plain = tmp_path / "empty.cfg"  # the checkout's own names another password
    plain.touch()
    environment = os.environ | {"ANSIBLE_CONFIG": str(plain)}
    subprocess.run(encrypt, env=environment, check=True, capture_output=True, timeout=60)
    code, output = deploy(inventory(tmp_path, without=tuple(VAULT)), "--vault-password-file", str(wrong))
    refused(code, output, "Decryption failed", "--vault-password-file", "vault.yml")


def test_an_inventory_without_hosts(tmp_path: Path) -> None:
    code, output = deploy(inventory(tmp_path, hosts={}))
    refused(code, output, "web")


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    code, output = deploy(tmp_path / "no-such-inventory")
    refused(code, output, "no-such-inventory")
