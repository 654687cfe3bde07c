"""The progress of a roll: its lines by tables, and the whole on a terminal and in a file."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import termios
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.callback import progress
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import preload

ROOT = Path(__file__).resolve().parents[2]
GOOD: dict[str, Any] = {
    "was": "3f1c09d2a7be",
    "release": "77aa01bc9d10",
    "outcome": "good",
    "phases": [{"phase": "start", "at": 0, "seconds": 0.6}, {"phase": "gate", "at": 0.6, "seconds": 3.84}],
}
# Stands in for the real one: web1 and web3 are quick, web2 takes two seconds and fails.
ACTION = """
import time
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        if self._task.args.get("operation") == "observe":
            return {"changed": False, "outcome": "good"}
        time.sleep(2.2 if host == "web2" else 0.3)
        if host == "web2":
            return {"changed": False, "was": "3f1c09d2a7be", "outcome": "failed", "cause": "not ready\\nin time"}
        return {"changed": True, "was": "3f1c09d2a7be", "release": "77aa01bc9d10", "outcome": "good",
                "phases": [{"phase": "start", "at": 0, "seconds": 0.3}]}
"""
PLAY = """
- hosts: all
  gather_facts: false
  serial: [1, "100%"]
  tasks:
    - {name: Look, release: {operation: observe}}
    - {name: Roll, release: {release: 77aa01bc9d10}}
    - {name: Afterwards, ansible.builtin.debug: {msg: "and on it goes"}}
"""


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (GOOD, "web2  3f1c09d2 -> 77aa01bc  good  start 0.6 gate 3.8 s"),
        ({**GOOD, "was": None}, "web2  none -> 77aa01bc  good  start 0.6 gate 3.8 s"),
        ({"outcome": "unchanged", "was": "3f1c09d2a7be", "release": "3f1c09d2a7be"}, "web2  3f1c09d2  unchanged"),
        ({"outcome": "unreachable", "cause": "no route\n to host"}, "web2  unreachable  no route to host"),
        ({"outcome": "held", "phases": None}, "web2  held"),
        ({"outcome": "good", "phases": [None, {"phase": "start"}, {}]}, "web2  good  start ? None ? s"),
        ({"changed": True}, ""),
        ({}, ""),
    ],
)
def test_line_of_a_host(result: dict[str, Any], line: str) -> None:
    assert progress.finished("web2", result) == line


@pytest.mark.parametrize(
    ("hosts", "batch", "width", "line"),
    [
        (["web2"], "batch 2 of 3", 80, "  web2  12 s  batch 2 of 3"),
        (["web2", "web3"], "", 80, "  web2, web3  12 s"),
        ([f"web{number}" for number in range(50)], "batch 3 of 3", 40, "  web0 and 49 more  12 s  batch 3 of 3"),
        (["a-host-with-a-very-long-name.example.com"], "", 30, "  a-host-with-a-very-lo  12 s"),
        (["web2"], "batch 2 of 3", 10, "  web2  1"),
    ],
)
def test_live_line_fits(hosts: list[str], batch: str, width: int, line: str) -> None:
    assert progress.live(hosts, 12.3, batch, width) == line
    assert len(line) < width


@pytest.mark.parametrize(
    ("action", "options", "shown"),
    [
        ("slipway.fleet.release", {}, True),
        ("release", {"operation": "activate"}, True),
        ("slipway.fleet.release", {"operation": "settle"}, True),
        ("slipway.fleet.release", {"operation": "observe"}, False),
        ("ansible.builtin.command", {}, False),
    ],
)
def test_which_tasks_are_a_roll(action: str, options: dict[str, str], shown: bool) -> None:
    assert progress.is_roll(SimpleNamespace(action=action, args=options)) is shown


def test_nothing_that_goes_wrong_gets_out() -> None:
    callback = progress.CallbackModule()
    for broken in (None, object(), SimpleNamespace(serial=[1], hosts="all")):
        callback.v2_playbook_on_play_start(broken)
        callback.v2_runner_on_start(broken, broken)
        callback.v2_runner_on_ok(broken)
        callback.v2_runner_on_failed(broken)
        callback.v2_runner_on_unreachable(broken)
        callback.v2_runner_on_skipped(broken)
    callback.v2_playbook_on_stats(None)


def result_of(host: str, result: dict[str, Any], **options: str) -> Any:
    task = SimpleNamespace(action="slipway.fleet.release", args=options)
    return SimpleNamespace(task=task, host=SimpleNamespace(get_name=lambda: host), result=result)


def test_what_is_told_of_results(capsys: pytest.CaptureFixture[str]) -> None:
    callback = progress.CallbackModule()
    callback.v2_runner_on_ok(result_of("web1", {**GOOD, "changed": True}))
    callback.v2_runner_on_failed(result_of("web2", {"msg": "it broke\nlong log"}))
    callback.v2_runner_on_unreachable(result_of("web3", {"msg": "no route"}))
    callback.v2_runner_on_ok(result_of("web4", {"outcome": "unchanged", "changed": False}, operation="settle"))
    callback.v2_runner_on_ok(result_of("web5", {**GOOD, "changed": True}, operation="settle"))
    assert capsys.readouterr().out.splitlines() == [
        "web1  3f1c09d2 -> 77aa01bc  good  start 0.6 gate 3.8 s",
        "web2  failed  it broke",
        "web3  unreachable  no route",
        "web5  3f1c09d2 -> 77aa01bc  reverted  start 0.6 gate 3.8 s",
    ]


@pytest.fixture
def play(tmp_path: Path) -> list[str]:
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/release.py").write_text(ACTION)
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "hosts").write_text("web1\nweb2\nweb3\n[all:vars]\nansible_connection=local\n")
    return ["ansible-playbook", "-i", str(tmp_path / "hosts"), str(tmp_path / "play.yml")]


def environment(**more: str) -> dict[str, str]:
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "slipway.fleet.progress", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return {**os.environ, "PATH": path, **enabled, **more}


LINES = [
    "web1  3f1c09d2 -> 77aa01bc  good  start 0.3 s",
    "web3  3f1c09d2 -> 77aa01bc  good  start 0.3 s",
    "web2  3f1c09d2  failed  not ready in time",
]


def test_plain_lines_in_a_file_and_a_live_one_on_a_terminal_that_leaves_nothing_behind(play: list[str]) -> None:
    plain = subprocess.run(play, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert [line for line in plain.stdout.splitlines() if line in LINES] == LINES
    assert not {"\r", "\x1b"} & set(plain.stdout)
    assert not plain.stderr

    written = on_a_terminal(play, environment(ANSIBLE_NOCOLOR="1"))
    assert re.search(r"  web2, web3  0 s  batch 2 of 2", written)
    assert re.search(r"  web2  [12] s  batch 2 of 2", written)
    assert sorted(screen(written)) == sorted(plain.stdout.split("\n"))  # hosts of a batch end in any order


def on_a_terminal(command: list[str], environ: dict[str, str]) -> str:
    """All that a command writes to a terminal of 80 columns."""
    main, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=terminal) as process:
        os.close(terminal)
        written = b""
        try:
            while read := os.read(main, 4096):
                written += read
        except OSError:  # the other end is closed
            pass
    os.close(main)
    assert process.returncode == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """The lines that a reader sees at the end."""
    lines = []
    for line in written.split("\n"):
        shown = ""
        for part in re.split(r"(\r|\x1b\[2K)", line):
            if part == "\x1b[2K":
                shown = ""
            elif part not in {"", "\r"}:
                shown = part + shown[len(part) :]
        lines.append(shown)
    return lines


@pytest.mark.parametrize(("loader", "name"), preload.PLUGINS, ids=[name for _, name in preload.PLUGINS])
def test_what_is_loaded_before_the_first_task_is_there(loader: Any, name: str) -> None:
    assert loader.get(name) is not None
