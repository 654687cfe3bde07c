"""A Python that has imported modules, and forks for each run of `python3 -c TEXT`: they are imported once for all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# A run is a process whose parent tells its exit code. It ends as one does that was started: at the end of this text.
SERVER = """
import gc, importlib, json, os, signal, socket, sys

control = socket.socket(fileno=int(sys.argv[1]))
for name in sys.argv[2:]:
    importlib.import_module(name)
gc.freeze()  # else each run looks through all that is imported
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    words, files, *_ = socket.recv_fds(control, 1 << 20, 3)
    if not words:
        os._exit(0)
    if not os.fork():
        break
    for file in files:
        os.close(file)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
if run := os.fork():
    os.write(files[0], str(os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])).encode())
    os._exit(0)
os.dup2(files[1], 1)
os.dup2(files[2], 2)
for file in (*files, control.detach()):
    os.close(file)
told = json.loads(words)
os.chdir(told["cwd"])
os.environ.clear()
os.environ.update(told["env"])
sys.argv[1:] = told["arguments"]
exec(compile(told["text"], "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})
"""


class Preloaded:
    """The side of whoever wants runs."""

    def __init__(self, *modules: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(theirs.fileno()), *modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def run(
        self, text: str, *arguments: str, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of a Python of its own, which gets the text and its arguments. Timeout in seconds."""
        command: Sequence[str] = (sys.executable, "-c", text, *arguments)
        told = json.dumps({"text": text, "arguments": arguments, "cwd": str(cwd), "env": dict(env)}).encode()
        mine, theirs = socket.socketpair()
        with mine, tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            with theirs:
                socket.send_fds(self._control, [told], [theirs.fileno(), output.fileno(), errors.fileno()])
            mine.settimeout(timeout)
            try:
                code = mine.recv(16)
            except TimeoutError:
                raise subprocess.TimeoutExpired(command, timeout) from None
            assert code, "the server of runs is gone"
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(command, int(code), output.read(), errors.read())

    def end(self) -> None:
        """And so do runs that still go on."""
        self._control.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
