"""Runs of Ansible's commands that do not import Ansible each time.

A start imports the same every time, which takes half a second of a processor. Here a process that has imported it forks
for each run. Its environment and directory are those of its runs, as Ansible reads its configuration while it is
imported. The first run anywhere starts as always, as most are the only one of their environment.

    run(["ansible-playbook", "play.yml"], cwd=ROOT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}).stdout
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMANDS = ("ansible", "ansible-inventory", "ansible-playbook")
SERVER = Path(__file__).with_name("ansible_server.py")
# Servers that are kept at most, each with some 60 MB; an environment more starts its runs as always.
MOST = 4


class Server:
    """The side of whoever wants runs. It ends with this process, and so do its runs."""

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._complained = tempfile.TemporaryFile("w+")  # noqa: SIM115 - the server writes there as long as it lives
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, str(SERVER), str(theirs.fileno())],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complained,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        atexit.register(self.end)
        # Without a word where Ansible cannot be imported here: a run of its own says why.
        self._control.recv(1)

    def run(
        self, command: Sequence[str], env: Mapping[str, str], files: Sequence[int], limit: float | None
    ) -> int | None:
        """The exit code, none where the server is gone. A run that takes longer than its limit is ended."""
        mine, theirs = socket.socketpair()
        with mine:
            try:
                with theirs:
                    words = json.dumps([command, dict(env)]).encode()
                    socket.send_fds(self._control, [words], [theirs.fileno(), *files])
            except OSError:
                return None
            mine.settimeout(limit)
            try:
                code = mine.recv(16)
            except TimeoutError:
                mine.shutdown(socket.SHUT_WR)
                mine.settimeout(None)
                mine.recv(16)
                raise subprocess.TimeoutExpired(command, limit or 0) from None
        if not code:
            self._complained.seek(0)
            raise RuntimeError(f"the server of runs ended before {' '.join(command)}: {self._complained.read()}")
        return int(code)

    def end(self) -> None:
        self._control.close()
        self.process.wait()
        self._complained.close()


_servers: dict[str, Server | None] = {}
_lock = threading.Lock()


def _server(program: str | None, cwd: Path, env: Mapping[str, str]) -> Server | None:
    """The server for a command, if it is Ansible's of this interpreter, and its environment has been seen before."""
    if not program or Path(program).name not in COMMANDS or not hasattr(os, "pidfd_open"):
        return None
    if not Path(program).parent.samefile(Path(sys.executable).parent):
        return None
    known = {name: value for name, value in env.items() if name != "PYTEST_CURRENT_TEST"}
    where = json.dumps([str(cwd), known], sort_keys=True)
    with _lock:
        if where not in _servers:
            _servers[where] = None
        elif not _servers[where] and sum(map(bool, _servers.values())) < MOST:
            _servers[where] = Server(cwd, env)
        return _servers[where]


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], limit: float | None = None, apart: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing on stdin. Its two outputs are one, unless they shall be apart.

    Raises:
        subprocess.TimeoutExpired: it took longer than the limit, in seconds, and was ended
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        files = said.fileno(), (complained if apart else said).fileno()
        program = shutil.which(command[0], path=env.get("PATH"))
        server = _server(program, cwd, env)
        code = server.run([str(program), *command[1:]], env, files, limit) if server else None
        if code is None:
            code = subprocess.run(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=files[0],
                stderr=files[1],
                timeout=limit,
                check=False,
            ).returncode
        said.seek(0)
        complained.seek(0)
        return subprocess.CompletedProcess(command, code, said.read(), complained.read() if apart else None)
