"""Hosts for tests of the channel: shells of this machine, with an agent whose verbs a test needs."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import archive
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Patience
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.host import Access, AgentHost, Settings
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Become, Started

VERBS = b'''
import os, subprocess, sys, time
from pathlib import Path
from ..host.errors import SlipwayError

def echo(arguments, tell):
    return arguments

def phases(arguments, tell):
    """An event for each phase, the next one when the test has made a file of that name."""
    for phase in arguments["phases"]:
        tell({"phase": phase})
        for _ in range(6000):
            if Path(arguments["directory"], phase).exists():
                break
            time.sleep(0.005)
    Path(arguments["directory"], "ended").touch()
    return {"ended": True}

def noisy(arguments, tell):
    print('{"id": 1, "result": "from print"}', flush=True)
    subprocess.run(["echo", "from a program"])
    os.write(2, b"from stderr")
    return {"quiet": True}

def die(arguments, tell):
    os.kill(os.getpid(), 9)

def explode(arguments, tell):
    return {}["nothing"]

def refuse(arguments, tell):
    raise SlipwayError("somebody else has it", {"seconds": 80}, "held")

def surroundings(arguments, tell):
    umask = os.umask(0)
    return {"environment": dict(os.environ), "umask": umask, "directory": os.getcwd(),
            "command": Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(), "stdin": sys.stdin.read()}

def hold(arguments, tell):
    """Held until somebody lets go; `left` counts how often the agent was left with it."""
    return {"held": arguments["name"]}

def left(arguments, tell):
    with open(Path(arguments["directory"], "left"), "a") as stream:
        stream.write(arguments["name"] + "\\n")

WHEN_LEFT = {"hold": "left"}
TABLE = {verb.__name__: verb for verb in (echo, phases, noisy, die, explode, refuse, surroundings, hold, left)}

def find(verb):
    if verb not in TABLE:
        raise SlipwayError(f"the agent does not know {verb!r}")
    return TABLE[verb]
'''


@functools.cache
def agent(mark: str = "") -> archive.Agent:
    """An agent with these verbs; one for each mark."""
    texts = archive.sources() | {"agent/verbs.py": VERBS + mark.encode()}
    data = archive.build(texts)
    return archive.Agent(data, hashlib.sha256(data).hexdigest(), archive.words(texts[archive.BOOTSTRAP]))


class Shell:
    """A way to a host that is a shell of this machine. `wrap` is what stands around the command."""

    def __init__(self, wrap: Callable[[str], str] = str, become: Become | None = None, patience: float = 30.0) -> None:
        self.wrap, self.become, self.patience = wrap, become, patience
        self.processes: list[subprocess.Popen[bytes]] = []
        self.forgotten = 0

    def start(self, command: str) -> Started:
        pipe = subprocess.PIPE
        words = ["/bin/sh", "-c", self.wrap(command)]
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
        self.processes.append(process)
        return Started(process, self.become, self.patience)

    def forget(self) -> None:
        self.forgotten += 1


class Run:
    """A connection that only runs commands to their end."""

    def run(self, command: str, given: bytes) -> tuple[int, bytes, bytes]:
        done = subprocess.run(["/bin/sh", "-c", command], input=given, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr


def host(
    place: Path,
    way: Shell | Run | None = None,
    patience: Patience | None = None,
    environment: dict[str, str] | None = None,
    of: archive.Agent | None = None,
) -> AgentHost:
    """A host that keeps its agents in `place`; to be made inside an event loop."""
    access = Access(way or Shell(), sys.executable, environment or {})
    chosen = of or agent()
    settings = Settings(asyncio.Semaphore(20), patience or Patience(), str(place), lambda: chosen)
    return AgentHost("one", lambda: access, settings)


def sudo(password: str) -> Become:
    """Something that asks as sudo does, with a prompt of its own."""
    return SimpleNamespace(
        name="sudo",
        password=password.encode(),
        asks=lambda said: said.startswith(b"[sudo] password:"),
        wrong=lambda said: b"Sorry, try again." in said,
        missing=lambda said: b"a password is required" in said,
    )
