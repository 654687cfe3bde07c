"""The launchers, each run as it is: what the process that they become finds among its variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_python, by_shell

SHOW = [sys.executable, "-c", "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:]]))"]
SECRETS = {
    "PASSWORD": "pa$s \"w'ord\\n `id` \\",
    "KEY": "-----BEGIN-----\n  a\tb\n\n-----END-----",
    "BLANKS": "  x  ",
    "UNICODE": "Grüße \U0001f680",
    "PERCENT": "%s %d %%",
    "DASHES": "-n -e",
    "EMPTY": "",
}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    (directory / "below").mkdir(parents=True)
    for name, value in SECRETS.items():
        (directory / name).write_text(value + "\n" * (len(name) % 3), encoding="utf-8")
    return directory


def run(launcher: list[str], secrets: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "CREDENTIALS_DIRECTORY": str(secrets), "LC_ALL": "C.UTF-8", **more}
    return subprocess.run([*launcher, *command], env=environment, capture_output=True, text=True, check=False)


LAUNCHERS = pytest.mark.parametrize("launcher", [by_shell(), by_python(sys.executable)], ids=["shell", "python"])


@LAUNCHERS
def test_each_secret_is_a_variable(launcher: list[str], secrets: Path) -> None:
    ran = run(launcher, secrets, *SHOW, "a b", "$c", "", PASSWORD="of the image", OTHER="stays")
    assert ran.returncode == 0, ran.stderr
    variables, words = json.loads(ran.stdout)
    assert {name: variables.get(name) for name in SECRETS} == SECRETS
    assert words == ["a b", "$c", ""]
    assert variables["OTHER"] == "stays"
    assert not [name for name in variables if name.startswith("slipway") or name == "below"]


@LAUNCHERS
def test_it_becomes_the_command(launcher: list[str], secrets: Path) -> None:
    ran = run(launcher, secrets, "sh", "-c", "echo $$; exit 7")
    assert ran.returncode == 7
    missing = run(launcher, secrets, "no-such-program")
    assert missing.returncode
    assert "no-such-program" in missing.stderr


@LAUNCHERS
def test_no_secrets_are_none(launcher: list[str], tmp_path: Path) -> None:
    assert run(launcher, tmp_path, "true").returncode == 0


@LAUNCHERS
def test_one_that_cannot_be_read_stops_the_start(launcher: list[str]) -> None:
    """For the user of the app; root reads everything."""
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        Path(directory, "PASSWORD").touch(0o000)
        ran = run([*other, *launcher], Path(directory), "echo", "started")
    assert ran.returncode
    assert ran.stdout == ""
    assert "PASSWORD" in ran.stderr
