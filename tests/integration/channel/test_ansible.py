"""Ways to hosts as ansible-playbook knows them: one task over all hosts, a real sshd, become and its passwords."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import ansible as channel_ansible

from lab.ports import free_port

ROOT = Path(__file__).resolve().parents[3]

ACTION = """
import asyncio, json, os, platform, signal, sys
from pathlib import Path
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import ansible as ways
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

ASKED = {"operation": "inspect", "root": "/", "python": sys.executable}

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        names, place = task_vars["ansible_play_hosts_all"], self._task.args["place"]
        play = ways.Play(self, task_vars)
        hosts = ways.open_hosts(play, names, place=place)

        async def ask(name):
            host = hosts[name]
            try:
                result = await host.call("package", ASKED)
                if name == "plain":
                    os.kill(host._line._process.pid, signal.SIGKILL)
                    while not host._line.broken:
                        await asyncio.sleep(0.01)
                    result = await host.call("package", ASKED)
                return result
            except (Refused, Unreachable) as error:
                return {type(error).__name__: str(error)}
            finally:
                await host.close()

        async def ask_all():
            return await asyncio.gather(*map(ask, names))

        answers = dict(zip(names, asyncio.run(ask_all())))
        environments = {name: play.access(name).environment for name in names if name != "nowhere"}
        Path(self._task.args["answers"]).write_text(json.dumps([answers, environments]))
        return {"changed": False}
"""
CONNECTION = '''
DOCUMENTATION = """
name: plain
short_description: One that nobody knows anything of
description: [x]
"""
from ansible.plugins.connection.local import Connection as Local

class Connection(Local):
    transport = "plain"
'''
SUDO = """#!/bin/sh
# As sudo -H -S -n -p PROMPT -u USER COMMAND, with a password of its own.
while [ $# -gt 0 ]; do
    case $1 in
        -p) prompt=$2; shift 2 ;;
        -u) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
[ -n "$prompt" ] || { echo 'sudo: a password is required' >&2; exit 1; }
printf '%s' "$prompt" >&2
read -r given
echo >&2
[ "$given" = 'the right one' ] || { echo 'Sorry, try again.' >&2; printf '%s' "$prompt" >&2; read -r given; exit 1; }
exec "$@"
"""


def play(arguments: dict[str, str]) -> str:
    """One task for all hosts."""
    task = {"reach": arguments, "run_once": True, "environment": {"WHO": "{{ who | default('nobody') }}"}}
    environment = {"WHERE": "on {{ inventory_hostname }}"}
    return yaml.safe_dump([{"hosts": "all", "gather_facts": False, "environment": environment, "tasks": [task]}])


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """An sshd of this test's own, for the user of the test."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program, "install openssh-server"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    number = free_port()
    banner = tmp_path / "banner"
    banner.write_text("Password: for authorised users\n", encoding="utf-8")
    words = {
        "ListenAddress": f"127.0.0.1:{number}", "HostKey": tmp_path / "host_key", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": tmp_path / "user_key.pub", "StrictModes": "no", "PermitRootLogin": "yes",
        "Banner": banner, "MaxStartups": 50,
    }  # fmt: skip
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in words.items()))
    with (tmp_path / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(tmp_path / "sshd_config")], stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", number)) == 0:
                    break
            time.sleep(0.05)
        yield number
    finally:
        process.terminate()
        process.wait()


def inventory(tmp_path: Path, port: int, sockets: str) -> dict[str, Any]:
    """Hosts, each with a way of its own."""
    by_ssh = {
        "ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": port,
        "ansible_user": getpass.getuser(),
    }  # fmt: skip
    root = by_ssh | {"ansible_become": True, "ansible_become_exe": str(tmp_path / "sudo")}
    return {
        "all": {
            "vars": {
                "ansible_python_interpreter": sys.executable,
                "ansible_ssh_private_key_file": str(tmp_path / "user_key"),
                "ansible_ssh_common_args": "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
                "ansible_control_path_dir": sockets,
            },
            "hosts": {
                "plain": by_ssh | {"who": "somebody"},
                "root": root | {"ansible_become_password": "the right one"},
                "wrong": root | {"ansible_become_password": "another"},
                "without": root,
                "nosudo": root | {"ansible_become_exe": "/nowhere/sudo"},
                "nopython": by_ssh | {"ansible_python_interpreter": "/nowhere/python3"},
                "gone": by_ssh | {"ansible_port": free_port()},
                "here": {"ansible_connection": "local"},
                "errand": {"ansible_connection": "plain"},
                "nowhere": {"ansible_connection": "nosuchplugin"},
            },
        }
    }


def test_one_task_reaches_every_host_as_a_task_of_its_own_would(tmp_path: Path, port: int) -> None:
    for name, text in (
        ("action_plugins/reach.py", ACTION),
        ("library/reach.py", ""),
        ("connection_plugins/plain.py", CONNECTION),
        ("sudo", SUDO),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "sudo").chmod(0o755)
    arguments = {"place": str(tmp_path / "agent"), "answers": str(tmp_path / "answers")}
    (tmp_path / "play.yml").write_text(play(arguments), encoding="utf-8")
    with tempfile.TemporaryDirectory(prefix="cp") as sockets:
        hosts = yaml.safe_dump(inventory(tmp_path, port, sockets))
        (tmp_path / "hosts.yml").write_text(hosts, encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            cwd=ROOT,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    answers, environments = json.loads((tmp_path / "answers").read_text(encoding="utf-8"))

    well = {"changed": False, "python": sys.version.split()[0]}
    refused: dict[str, tuple[str, str]] = {
        "wrong": ("Refused", "the become password is wrong for sudo"),
        "without": ("Refused", "wants a password and has none"),
        "nosudo": ("Refused", "cannot become root on the host"),
        "nopython": ("Refused", "there is no Python on the host"),
        "gone": ("Unreachable", "Connection refused"),
        "nowhere": ("Refused", "nosuchplugin"),
    }
    for name, (kind, sentence) in refused.items():
        assert sentence in answers.pop(name).get(kind, ""), name
    assert answers == dict.fromkeys(("plain", "root", "here", "errand"), well)
    assert environments["plain"] == {"WHERE": "on plain", "WHO": "somebody"}
    assert environments["root"] == {"WHERE": "on root", "WHO": "nobody"}
    assert "the right one" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "word"),
    [
        ({"ansible_python_interpreter": "/opt/python"}, "/opt/python"),
        ({"ansible_python_interpreter": "auto_silent"}, channel_ansible.ANY_PYTHON),
        ({}, channel_ansible.ANY_PYTHON),
        ({"ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.12"}}, "/usr/bin/python3.12"),
        (
            {
                "ansible_python_interpreter": "/opt/python",
                "ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.12"},
            },
            "/opt/python",
        ),
    ],
)
def test_the_python_is_the_one_that_modules_would_run_with(variables: dict[str, Any], word: str) -> None:
    assert channel_ansible.interpreter(variables, SimpleNamespace(template=lambda value: value)) == word


def test_the_environment_is_that_of_the_play_and_then_of_what_stands_in_it() -> None:
    """As it is written; a part that says nothing has no such attribute."""
    play = SimpleNamespace()
    outer = SimpleNamespace(_environment=[{"A": "outer", "B": "outer"}], _play=play, _parent=None)
    inner = SimpleNamespace(_environment={"B": "inner"}, _play=play, _parent=outer)
    task = SimpleNamespace(_parent=inner, get_ds=lambda: {"environment": {"C": 1}})

    layers = channel_ansible.environments(task)

    assert channel_ansible.environment(layers, SimpleNamespace(template=lambda value: value)) == {
        "A": "outer",
        "B": "inner",
        "C": "1",
    }
