"""The progress of a roll: its lines by tables, and the whole on a terminal and in a file."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.callback import progress
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import live, preload
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event

ROOT = Path(__file__).resolve().parents[2]
# Stands in for the real one: two hosts are taken to a release, the second takes two seconds and fails.
ACTION = """
import time
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.telling import Telling
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        tell = Telling(Screen())
        def event(kind, host="", **about):
            tell(Event(kind, time.time(), host, about))
        event("batch", number=2, of=2, hosts=["web2", "web3"])
        for host in ("web2", "web3"):
            event("started", host, release="77aa01bc9d10", was="3f1c09d2a7be")
        time.sleep(0.3)
        event("ended", "web3", outcome="good", was="3f1c09d2a7be", release="77aa01bc9d10", cause="",
              phases=[{"phase": "start", "at": 0, "seconds": 0.3}])
        time.sleep(2.2)
        event("ended", "web2", outcome="failed", was="3f1c09d2a7be", release="3f1c09d2a7be",
              cause="not ready\\nin time", phases=[])
        event("verdict", word="failed", message="")
        return {"changed": True}
"""
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - {name: Roll, rollout: {}, run_once: true}
    - {name: Afterwards, ansible.builtin.debug: {msg: "and on it goes"}}
"""


@pytest.mark.parametrize(
    ("action", "shown"),
    [("slipway.fleet.rollout", True), ("rollout", True), ("slipway.fleet.release", False)],
)
def test_which_tasks_are_a_roll(action: str, shown: bool) -> None:
    assert progress.is_roll(SimpleNamespace(action=action, args={})) is shown


def test_nothing_that_goes_wrong_gets_out() -> None:
    callback = progress.CallbackModule()
    for broken in (None, object()):
        callback.v2_playbook_on_task_start(broken, False)
        callback.v2_runner_on_ok(broken)
        callback.v2_runner_on_failed(broken)
    callback.v2_playbook_on_stats(None)


def test_an_event_is_the_same_after_its_way_to_the_main_process() -> None:
    event = Event("ended", 12.5, "web1", {"outcome": "good", "phases": [{"phase": "start", "seconds": 0.3}]})
    assert live.unpacked(live.packed(event)) == event
    assert live.unpacked("a line for people") is None


@pytest.fixture
def play(tmp_path: Path) -> list[str]:
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/rollout.py").write_text(ACTION)
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "hosts").write_text("web1\nweb2\nweb3\n[all:vars]\nansible_connection=local\n")
    return ["ansible-playbook", "-i", str(tmp_path / "hosts"), str(tmp_path / "play.yml")]


def environment(**more: str) -> dict[str, str]:
    path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    enabled = {"ANSIBLE_CALLBACKS_ENABLED": "slipway.fleet.progress", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    # One host after the other, so that two runs print their lines in the same order.
    return {**os.environ, "PATH": path, "ANSIBLE_FORKS": "1", **enabled, **more}


# Stands in for the real one as well: what it began is taken back when it is interrupted, once it may be.
INTERRUPTED = """
import asyncio
from pathlib import Path
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import live, run
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.awaiting import wait_for

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        async def settles():
            Path("PLACE/begun").touch()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                for _ in range(600):
                    await asyncio.sleep(0.1)
                    if Path("PLACE/may-settle").exists():
                        break
            Display().display("web1 was taken back", color="yellow")
            # More than a pipe takes that nobody reads.
            for number in range(2000):
                Display().display(f"line {number:04} " + 70 * "-")
        wait_for(settles(), run.main(), live.divert)
        Display().display("The report is reports/lab/1.html")
        Path("PLACE/ended").touch()
        return {"changed": True}
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interrupted_roll_says_so_and_how_it_ended(play: list[str], tmp_path: Path, terminal: bool) -> None:
    (tmp_path / "action_plugins/rollout.py").write_text(INTERRUPTED.replace("PLACE", str(tmp_path)))
    main, other = os.openpty() if terminal else os.pipe()
    command = [*play, "--limit", "web1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(ANSIBLE_NOCOLOR="1"), stdin=subprocess.DEVNULL, stdout=other, stderr=other
    ) as process:
        os.close(other)
        until(tmp_path / "begun")
        (tmp_path / "may-settle").touch()
        process.send_signal(signal.SIGINT)
        written = all_of(main)
    said = screen(written.decode().replace("\r\n", "\n"))
    assert process.returncode == 99
    at = said.index("web1 was taken back")
    assert "The run is interrupted." in "".join(said[:at])
    assert said[at + 1 : at + 2001] == [f"line {number:04} " + 70 * "-" for number in range(2000)]
    assert said[at + 2001] == "The report is reports/lab/1.html"


def test_a_second_interruption_gives_the_terminal_back_and_the_roll_goes_on_to_its_end(
    play: list[str], tmp_path: Path
) -> None:
    (tmp_path / "action_plugins/rollout.py").write_text(INTERRUPTED.replace("PLACE", str(tmp_path)))
    command = [*play, "--limit", "web1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdout
        until(tmp_path / "begun")
        process.send_signal(signal.SIGINT)
        while b"The run is interrupted" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert process.returncode == -signal.SIGINT
        assert not (tmp_path / "ended").exists()
    (tmp_path / "may-settle").touch()
    until(tmp_path / "ended")


def until(file: Path) -> None:
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


LINES = [
    "web3  3f1c09d2 -> 77aa01bc  good  start 0.3 s",
    "web2  3f1c09d2  failed  not ready in time",
]


def test_plain_lines_in_a_file_and_a_live_one_on_a_terminal_that_leaves_nothing_behind(play: list[str]) -> None:
    plain = subprocess.run(play, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    assert [line for line in plain.stdout.splitlines() if line in LINES] == LINES
    assert not {"\r", "\x1b", "\x00"} & set(plain.stdout)
    assert not plain.stderr

    written = on_a_terminal(play, environment(ANSIBLE_NOCOLOR="1"))
    assert re.search(r"  web2  [0-9]+ s  batch 2 of 2", written)
    assert screen(written) == plain.stdout.split("\n")


def on_a_terminal(command: list[str], environ: dict[str, str]) -> str:
    """All that a command writes to a terminal of 80 columns."""
    main, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=terminal) as process:
        os.close(terminal)
        written = all_of(main)
    assert process.returncode == 0, written.decode()
    return written.decode()


def all_of(end: int) -> bytes:
    """What is written to the other end until that is closed."""
    written = b""
    with suppress(OSError):  # how a terminal says that
        while read := os.read(end, 4096):
            written += read
    os.close(end)
    return written


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
