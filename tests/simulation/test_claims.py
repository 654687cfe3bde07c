"""What the simulation's edge claims of HAProxy, held against the real one and against itself."""

from __future__ import annotations

import csv
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import (
    GOING,
    NO_ENTRY,
    NO_MAP,
    Edge,
    Server,
    by_slot,
    parse_servers,
)
from ansible_collections.slipway.fleet.plugins.module_utils.edge.maps import parse_shown

from tests.simulation.edge import CHECKS_FILE, PORTS, HAProxy
from tests.simulation.kernel import Kernel

CONFIGURATION = """
global
    stats socket {here}/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 60s
    server-state-file {here}/state
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    # Else a check of which the answer takes longer than from one to the next has failed, as on a busy machine.
    timeout check 60s
    load-server-state-from-file global
frontend web
    bind unix@{here}/web.sock
    default_backend app_links
backend app_links
    option httpchk
    http-check set-var(check.slot) srv_name
    http-check set-var(check.look) be_name,concat(/,check.slot),map_str({here}/health.map,"/readyz|localhost|http")
    http-check send meth GET uri-lf "%[var(check.look),word(1,|)]"
    default-server check inter 100ms fastinter 100ms downinter 100ms fall 4 rise 1
    server blue unix@{here}/blue.sock
    server green unix@{here}/green.sock
    server blue-port 127.0.0.1:1 disabled
    server green-port 127.0.0.1:2 disabled
"""
BACKEND = "app_links"
BOTH = "show stat;show servers state"


class Answer(BaseHTTPRequestHandler):
    path_of_health = "/readyz"

    def do_GET(self) -> None:
        self.send_response(200 if self.path == self.path_of_health else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def address_string(self) -> str:
        return "slot"

    def log_message(self, *_: object) -> None:
        return


class Slot(ThreadingUnixStreamServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """HAProxy's check has its answer and is gone."""


class Real:
    """A HAProxy with a master, as systemd runs it."""

    def __init__(self, here: Path) -> None:
        self.here = here
        (here / "haproxy.cfg").write_text(CONFIGURATION.format(here=here))
        (here / "state").touch()
        (here / "health.map").touch()
        self.map = f"{here}/health.map"
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        with (here / "messages").open("w") as messages:
            self.process = subprocess.Popen([program, "-W", "-db", "-f", f"{here}/haproxy.cfg"], stderr=messages)
        wait_for(lambda: "blue" in self.ask(BOTH))

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(self.here / "admin.sock"))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile().read()

    def servers(self) -> dict[str, Server]:
        return by_slot(self.doors(), lambda slot: False)

    def doors(self) -> dict[str, Server]:
        return seen(self.ask(BOTH))

    def soon(self, true: Callable[[], bool]) -> None:
        wait_for(true)

    def conversation(self) -> AbstractContextManager[Callable[[str], str]]:
        return Edge(str(self.here / "admin.sock"), BACKEND, str(self.here / "state")).one_worker()

    def store(self, line: str) -> None:
        (self.here / "health.map").write_text(f"# kept\n{line}\n")

    def save(self) -> None:
        (self.here / "state").write_text(self.ask("show servers state").lstrip("\n"))

    def reload(self) -> None:
        before = self.ask("show info").partition("Pid: ")[2].split()[0]
        asked = 0.0

        def reloaded() -> bool:
            nonlocal asked
            if time.monotonic() - asked > 5:  # a master that has only just started does not hear it
                asked = time.monotonic()
                self.process.send_signal(signal.SIGUSR2)
            return self.ask("show info").partition("Pid: ")[2].split()[0] != before

        wait_for(reloaded)


class Simulated:
    """The same verbs on the edge of the simulation."""

    def __init__(self) -> None:
        self.kernel = Kernel(1, calm=True)
        self.up = {"blue": False, "green": False}
        self.state = ""
        self.map, self.stored = CHECKS_FILE, ""
        self.edge = HAProxy(
            self.kernel, BACKEND, self.up.__getitem__, lambda: self.state, lambda: None, lambda _: None,
            lambda: self.stored, lambda slot, path: path == Answer.path_of_health,
        )  # fmt: skip

    def ask(self, command: str) -> str:
        return self.edge.ask(command)

    def servers(self) -> dict[str, Server]:
        return by_slot(self.doors(), lambda slot: False)

    def doors(self) -> dict[str, Server]:
        return seen(self.ask(BOTH))

    def soon(self, true: Callable[[], bool]) -> None:
        self.kernel.run(lambda: False, self.kernel.now + 10.0)
        assert true()

    def store(self, line: str) -> None:
        self.stored = f"# kept\n{line}\n"

    def conversation(self) -> AbstractContextManager[Callable[[str], str]]:
        return nullcontext(self.edge.conversation())

    def save(self) -> None:
        self.state = self.ask("show servers state").lstrip("\n")

    def reload(self) -> None:
        self.edge.reload()
        self.kernel.run(lambda: False, self.kernel.now + 1.0)
        self.edge.stale = None


def seen(tables: str) -> dict[str, Server]:
    statistics, mark, states = tables.partition("# be_id ")
    return parse_servers(statistics, mark + states, BACKEND)


def wait_for(attempt: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if attempt():
                return
        except (OSError, IndexError):
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def real() -> Iterator[Real]:
    # A path that is short: HAProxy binds sockets under longer names first, and a socket's name has 97 bytes at most.
    with TemporaryDirectory(prefix="edge") as here:
        slot = Slot(f"{here}/blue.sock", Answer)
        Thread(target=slot.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        found = Real(Path(here))
        yield found
        found.process.terminate()
        found.process.wait(60)
        slot.shutdown()
        slot.server_close()


@pytest.fixture
def simulated() -> Simulated:
    found = Simulated()
    found.up["blue"] = True
    found.edge.health_changed("blue")
    found.kernel.run(lambda: False, 10.0)
    return found


@pytest.fixture(params=["real", "simulated"])
def edge(request: pytest.FixtureRequest) -> Real | Simulated:
    found: Real | Simulated = request.getfixturevalue(request.param)
    return found


def test_a_server_that_answers_is_seen_and_one_that_does_not_is_down(edge: Real | Simulated) -> None:
    wait_for(lambda: edge.servers()["blue"].answers and not edge.servers()["green"].answers)
    assert all(server.enabled for server in edge.servers().values()), "without a state both get requests"


def test_drain_and_ready_say_nothing_and_are_seen_at_once(edge: Real | Simulated) -> None:
    for state in ("drain", "ready"):
        assert edge.ask(f"set server {BACKEND}/green state {state}").strip() == ""
        assert edge.servers()["green"].enabled is (state == "ready")
    assert edge.ask(f"set server {BACKEND}/red state ready").strip() != ""


def test_a_drained_server_that_answers_is_still_checked(edge: Real | Simulated) -> None:
    edge.ask(f"set server {BACKEND}/blue state drain")
    wait_for(lambda: edge.servers()["blue"] == Server(enabled=False, answers=True, sessions=0))


def test_a_reload_keeps_what_is_stored(edge: Real | Simulated) -> None:
    edge.ask(f"set server {BACKEND}/green state drain")
    edge.save()
    edge.reload()
    assert not edge.servers()["green"].enabled
    assert edge.servers()["blue"].enabled


def test_a_reload_keeps_what_was_seen(edge: Real | Simulated) -> None:
    wait_for(lambda: edge.servers()["blue"].answers and not edge.servers()["green"].answers)
    edge.save()
    edge.reload()
    assert [edge.servers()[slot].answers for slot in ("blue", "green")] == [True, False]


def test_a_reload_forgets_what_is_not_stored(edge: Real | Simulated) -> None:
    edge.save()
    edge.ask(f"set server {BACKEND}/green state drain")
    edge.reload()
    assert edge.servers()["green"].enabled


def test_a_door_that_is_disabled_is_shut_and_not_looked_at(edge: Real | Simulated) -> None:
    edge.soon(lambda: edge.doors()["blue"].answers)
    assert {name: edge.doors()[name] for name in PORTS} == dict.fromkeys(PORTS, Server(False, False, 0))
    assert statuses(edge) == {"blue-port": "MAINT", "green-port": "MAINT"}
    edge.ask(f"set server {BACKEND}/green-port state drain")
    edge.soon(lambda: statuses(edge) == {"blue-port": "MAINT", "green-port": "DOWN"})


def test_a_reload_keeps_which_doors_are_open(edge: Real | Simulated) -> None:
    edge.soon(lambda: edge.doors()["blue"].answers)
    edge.ask(f"set server {BACKEND}/green-port state ready")
    edge.ask(f"set server {BACKEND}/blue state maint")
    edge.save()
    edge.reload()
    found = {name: server.enabled for name, server in edge.doors().items()}
    assert found == {"blue": False, "green": True, "blue-port": False, "green-port": True}
    assert not edge.doors()["blue"].answers
    edge.ask(f"set server {BACKEND}/blue state drain")
    edge.soon(lambda: edge.doors()["blue"].answers)


def statuses(edge: Real | Simulated) -> dict[str, str]:
    """The column `status` of both ports."""
    rows = csv.DictReader(edge.ask("show stat").lstrip("# ").splitlines())
    return {row["svname"]: row["status"] for row in rows if row["svname"] in PORTS}


def test_a_conversation_goes_on_with_the_worker_that_it_began_with(edge: Real | Simulated) -> None:
    wait_for(lambda: edge.servers()["blue"].answers)
    edge.save()
    with edge.conversation() as ask:
        before = ask("show info").partition("Pid: ")[2].split()[0]
        edge.reload()
        assert ask("show info").partition("Pid: ")[2].split()[0] == before
        assert ask(f"set server {BACKEND}/blue state drain").strip() in ("", GOING)
    assert edge.servers()["blue"].enabled, "what is told a worker that goes is not told the one that has come"


def test_a_damaged_state_file_counts_as_none(edge: Real | Simulated) -> None:
    edge.ask(f"set server {BACKEND}/green state drain")
    if isinstance(edge, Real):
        (edge.here / "state").write_text("\x00\x00\x00")
    else:
        edge.state = "\x00\x00\x00"
    edge.reload()
    assert edge.servers()["green"].enabled


ELSEWHERE = f"{BACKEND}/blue /other|localhost|http"


def test_an_entry_of_a_map_is_set_where_there_is_one_and_added_where_there_is_none(edge: Real | Simulated) -> None:
    assert NO_ENTRY in edge.ask(f"set map {edge.map} {ELSEWHERE}")
    assert edge.ask(f"add map {edge.map} {ELSEWHERE}").strip() == ""
    assert edge.ask(f"set map {edge.map} {ELSEWHERE}x").strip() == ""
    assert parse_shown(edge.ask(f"show map {edge.map}")) == {f"{BACKEND}/blue": "/other|localhost|httpx"}
    for verb in ("show", "set", "add"):
        assert NO_MAP in edge.ask(f"{verb} map /nowhere.map {ELSEWHERE}").lower()


def test_what_a_map_says_is_asked_from_then_on(edge: Real | Simulated) -> None:
    edge.soon(lambda: edge.servers()["blue"].answers)
    edge.ask(f"add map {edge.map} {ELSEWHERE}")
    edge.soon(lambda: not edge.servers()["blue"].answers)
    edge.ask(f"set map {edge.map} {BACKEND}/blue /readyz|localhost|http")
    edge.soon(lambda: edge.servers()["blue"].answers)


def test_a_reload_reads_the_map_and_forgets_what_is_in_memory_alone(edge: Real | Simulated) -> None:
    edge.store(f"{BACKEND}/green /stored|localhost|http")
    edge.ask(f"add map {edge.map} {ELSEWHERE}")
    edge.reload()
    assert parse_shown(edge.ask(f"show map {edge.map}")) == {f"{BACKEND}/green": "/stored|localhost|http"}
