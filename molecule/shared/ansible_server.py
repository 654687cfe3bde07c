"""Has imported Ansible, and forks for each of its runs; started by ansible_runs.py with a socket that it listens on."""

from __future__ import annotations

import atexit
import gc
import json
import os
import secrets
import select
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

MODULES = {"ansible": "adhoc", "ansible-inventory": "inventory", "ansible-playbook": "playbook"}
# What every run comes to import besides.
PLUGINS = (
    *("callback.default", "callback.junit", "callback.minimal", "connection.local", "connection.ssh"),
    *("connection.winrm", "filter.core", "filter.encryption", "filter.urls", "inventory.auto", "inventory.toml"),
    *("inventory.yaml", "strategy.linear", "test.core", "vars.host_group_vars"),
)
# Seconds that a run has to end by itself, once nobody waits for it.
GRACE = 5.0


@dataclass(frozen=True)
class Run:
    """A forked process, a file that tells of its end, and a socket to whoever waits for its exit code."""

    pid: int
    ended: int
    waiting: int

    def stop(self) -> None:
        """SIGTERM first: Ansible passes it on to its workers, which have groups of their own."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            select.select([self.ended], [], [], GRACE)

    def tell(self) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(OSError):
            os.write(self.waiting, str(code).encode())
        os.close(self.waiting)
        os.close(self.ended)


def serve(control: socket.socket) -> tuple[list[str], dict[str, str]]:
    """Fork for each command that comes: returns it in the fork, with its environment. Ends with whoever sends them."""
    parent = os.pidfd_open(os.getppid())
    runs: list[Run] = []
    while True:
        waiting = [file for run in runs for file in (run.ended, run.waiting)]
        ready = select.select([control.fileno(), parent, *waiting], [], [])[0]
        words, files = socket.recv_fds(control, 1 << 20, 3)[:2] if control.fileno() in ready else (b"", [])
        if parent in ready or (control.fileno() in ready and not words):
            for run in runs:
                run.stop()
            sys.exit()
        if words:
            pid = os.fork()
            if not pid:
                os.setsid()
                os.dup2(files[1], 1)
                os.dup2(files[2], 2)
                for file in (*files, *waiting, parent, control.detach()):
                    os.close(file)
                command, env = json.loads(words)
                return command, env
            os.close(files[1])
            os.close(files[2])
            runs.append(Run(pid, os.pidfd_open(pid), files[0]))
        for run in [run for run in runs if run.ended in ready or run.waiting in ready]:
            if run.ended not in ready:
                run.stop()
            run.tell()
            runs.remove(run)


def main() -> None:
    """Import what runs need, and be one of them after the fork, to the end of the interpreter."""
    sys.path[0] = str(Path(sys.executable).parent)
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in (*(f"cli.{module}" for module in MODULES.values()), *(f"plugins.{plugin}" for plugin in PLUGINS)):
        import_module(f"ansible.{name}")
    warnings = os.pread(2, 1 << 16, 0)
    ansible: dict[str, Any] = sys.modules
    constants, paths = ansible["ansible.constants"], ansible["ansible.utils.path"]
    atexit.unregister(paths.cleanup_tmp_file)
    paths.cleanup_tmp_file(constants.DEFAULT_LOCAL_TMP)
    gc.freeze()
    control.send(b"!")
    sys.argv, env = serve(control)

    os.environ.clear()
    os.environ.update(env)
    # What an import has made that every run has of its own. The directory is removed at the end, by who has made it.
    constants.DEFAULT_LOCAL_TMP = constants.config.get_config_value("DEFAULT_LOCAL_TMP", variables=vars(constants))
    ansible["ansible.utils.vars"].random_int = secrets.token_hex(4)
    os.write(2, warnings)
    sys.exit(import_module(f"ansible.cli.{MODULES[Path(sys.argv[0]).name]}").main())


if __name__ == "__main__":
    main()
