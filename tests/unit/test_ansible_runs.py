"""Runs of Ansible that a server forks say and do what those say and do that start by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ansible_runs
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
ACTION = """
import os
from ansible import constants
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open(f"/proc/{os.getppid()}/stat") as run:
            parent = run.read().rpartition(")")[2].split()[1]
        return {"parent": parent, "msg": constants.DEFAULT_LOCAL_TMP, "mine": os.environ.get("MINE"), **self._task.args}
"""
CALLBACK = """
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_NAME = CALLBACK_TYPE = "aggregate"
    def v2_playbook_on_stats(self, stats):
        raise SystemExit("ended with a text")
"""
TASKS = {
    "well": "ansible.builtin.debug: {msg: well}",
    "failed": "ansible.builtin.fail: {msg: no}",
    "cannot be read": "ansible.builtin.debug: {msg: [}",
    "no such module": "nothing_like_that:",
    "not reached": "{ping: , vars: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}}",
    "changes": "ansible.builtin.copy: {content: new, dest: '{{ playbook_dir }}/made'}",
    "asks for a code": "own: {failed: true, exit_code: 3, msg: three, parent: none}",
    "a warning": "ansible.builtin.debug: {msg: \"{{ 'x' | bool }}\"}",
    # The last, as its callback stays.
    "ends with a text": "ansible.builtin.debug: {msg: text}",
}
CODES = {
    "failed": 2,
    "cannot be read": 4,
    "no such module": 4,
    "not reached": 4,
    "asks for a code": 3,
    "ends with a text": 1,
}

Start = Callable[..., "subprocess.CompletedProcess[str]"]


def until(ready: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between the two steps of reading
        return False


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    own = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "temp")}
    # As in `make test`, whoever starts this one.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return os.environ | own | {"PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1"} | more


def words(tmp_path: Path, task: str, *arguments: str) -> list[str]:
    play = tmp_path / "play.yml"
    play.write_text(f"- hosts: all\n  gather_facts: false\n  tasks:\n    - {task}\n")
    (tmp_path / "action_plugins").mkdir(exist_ok=True)
    (tmp_path / "action_plugins/own.py").write_text(ACTION)
    host = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    return ["ansible-playbook", *host, str(play), *arguments]


def servers() -> list[ansible_runs.Server]:
    return [server for server in ansible_runs._servers.values() if server]


def starter(place: Path) -> Start:
    """Starts a command by a server, where one has it."""

    def start(command: list[str], limit: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        return ansible_runs.run(command, cwd=ROOT, env=environment(place, **more), limit=limit, apart=True)

    return start


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Has the temporary directories of runs; in this module servers are its own."""
    before = dict(ansible_runs._servers)
    ansible_runs._servers.clear()
    yield tmp_path_factory.mktemp("runs")
    end_all_but([])
    ansible_runs._servers.clear()
    ansible_runs._servers.update(before)


def end_all_but(kept: list[ansible_runs.Server]) -> None:
    for where, server in list(ansible_runs._servers.items()):
        if server not in kept:
            del ansible_runs._servers[where]
            if server:
                server.end()
                assert server.process.returncode is not None


@pytest.fixture
def forked(place: Path) -> Iterator[Start]:
    """Starts a command by a server, which tests have one after another as long as it runs."""
    start = starter(place)
    end_all_but([server for server in servers() if server.process.poll() is None])
    if not servers():
        start(["ansible-playbook", "--version"])
        assert not servers(), "most runs are the only one of their environment"
        start(["ansible-playbook", "--version"])
    (own,) = servers()
    yield start
    end_all_but([own])


def test_output_and_exit_code_are_those_of_a_run_that_starts_by_itself(
    tmp_path: Path, place: Path, forked: Start
) -> None:
    for name, task in TASKS.items():
        command = words(tmp_path, task, "--check", "--diff")
        if name == "ends with a text":
            (tmp_path / "callback_plugins").mkdir()
            (tmp_path / "callback_plugins/ends.py").write_text(CALLBACK)
        plain = subprocess.run(
            command,
            cwd=ROOT,
            env=environment(place),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        ran = forked(command)
        assert (ran.returncode, ran.stdout, ran.stderr) == (plain.returncode, plain.stdout, plain.stderr), name
        assert ran.returncode == CODES.get(name, 0), name
        if name == "ends with a text":
            assert ran.stderr.endswith("ended with a text\n")
    assert not list((place / "temp").iterdir())


def test_it_is_the_server_that_starts_a_run(tmp_path: Path, forked: Start) -> None:
    assert f"parent: '{servers()[0].process.pid}'\n" in forked(words(tmp_path, "own:", "-v")).stdout


def test_each_has_its_own_temporary_directory_and_leaves_none(tmp_path: Path, place: Path, forked: Start) -> None:
    said = {forked(words(tmp_path, "own:", "-v")).stdout for _ in range(3)}
    assert len(said) == 3
    assert all(f"{place}/temp/ansible-local-" in one for one in said)
    assert not list((place / "temp").iterdir())


def test_two_run_at_the_same_time(tmp_path: Path, forked: Start) -> None:
    """Each waits for what the other one makes."""
    command = words(
        tmp_path, "ansible.builtin.shell: 'touch {{ mine }}; until test -e {{ other }}; do sleep 0.1; done'"
    )
    pairs = [("a", "b"), ("b", "a")]
    with ThreadPoolExecutor(2) as pool:
        runs = pool.map(
            lambda pair: forked([*command, "-e", f"mine={tmp_path / pair[0]}", "-e", f"other={tmp_path / pair[1]}"]),
            pairs,
        )
        assert [run.returncode for run in runs] == [0, 0]
    assert len(servers()) == 1


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path, forked: Start) -> None:
    command = words(tmp_path, f"ansible.builtin.shell: echo $$ > {tmp_path}/pid; sleep 600; true")
    for limit in (3, 9, 27, 81):
        with pytest.raises(subprocess.TimeoutExpired):
            forked(command, limit)
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid))
    assert forked(words(tmp_path, TASKS["well"])).returncode == 0


def test_another_environment_has_another_server(tmp_path: Path, forked: Start) -> None:
    command = words(tmp_path, "own:", "-v")
    coloured = {"ANSIBLE_FORCE_COLOR": "1", "ANSIBLE_NOCOLOR": "0"}
    for more in (coloured, coloured, {}, coloured):
        assert ("\x1b[" in forked(command, **more).stdout) == (more == coloured)
    assert len(servers()) == 2


def test_no_more_servers_than_some_and_the_test_of_now_makes_none(
    tmp_path: Path, forked: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ansible_runs, "MOST", 2)
    command = words(tmp_path, "own:", "-v")
    for number in range(ansible_runs.MOST + 1):
        for test in ("one", "other"):
            assert f"mine: m{number}\n" in forked(command, MINE=f"m{number}", PYTEST_CURRENT_TEST=test).stdout
    assert len(servers()) == ansible_runs.MOST


def test_where_the_server_is_gone_runs_start_by_themselves(tmp_path: Path, forked: Start) -> None:
    servers()[0].process.kill()
    servers()[0].process.wait()
    assert "ok=1" in forked(words(tmp_path, TASKS["well"])).stdout


def test_where_the_server_goes_during_a_run_that_is_said(tmp_path: Path, forked: Start) -> None:
    command = words(
        tmp_path, f"ansible.builtin.shell: touch {tmp_path}/on; until test -e {tmp_path}/off; do sleep 0.1; done"
    )
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(forked, command)
        until((tmp_path / "on").exists)
        servers()[0].process.kill()
        with pytest.raises(RuntimeError, match="the server of runs ended before .*ansible-playbook"):
            run.result()
        (tmp_path / "off").touch()


def test_where_ansible_cannot_be_imported_the_run_itself_says_why(tmp_path: Path, place: Path) -> None:
    (tmp_path / "wrong.cfg").write_text("[defaults\n")
    runs = [starter(place)(["ansible", "--version"], ANSIBLE_CONFIG=str(tmp_path / "wrong.cfg")) for _ in range(3)]
    assert {run.returncode for run in runs} == {5}
    assert all("wrong.cfg" in run.stderr for run in runs)


def test_other_programs_start_by_themselves(tmp_path: Path, place: Path) -> None:
    other = tmp_path / "ansible"
    other.write_text("#!/bin/sh\necho other; exit 7\n")
    other.chmod(0o755)
    for command in ([str(other)], ["sh", "-c", "echo other; exit 7"]):
        for _ in range(2):
            ran = starter(place)(command)
            assert (ran.returncode, ran.stdout) == (7, "other\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_server_and_runs_end_with_whoever_started_them(tmp_path: Path, number: signal.Signals) -> None:
    command = words(tmp_path, f"ansible.builtin.shell: echo $$ > {tmp_path}/pid; sleep 600; true")
    program = f"""
import os, sys
from pathlib import Path
import ansible_runs
def start(command):
    ansible_runs.run(command, cwd=Path({str(ROOT)!r}), env=os.environ)
start(["ansible", "--version"])
start(["ansible", "--version"])
print([server.process.pid for server in ansible_runs._servers.values()][0], flush=True)
start({command!r})
"""
    env = environment(tmp_path, PYTHONPATH=str(ROOT / "molecule/shared"))
    with subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        server = int(process.stdout.readline())
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.send_signal(number)
    until(lambda: not alive(server) and not alive(int((tmp_path / "pid").read_text())))
