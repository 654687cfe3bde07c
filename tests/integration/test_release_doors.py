"""The two doors of a slot: which one a release opens, and that nobody is reached by the other one."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import (
    Edge,
    EdgeError,
    Server,
    by_slot,
    parse_ports,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import (
    port_of,
    ports_of,
    slot_ports,
    wrong_ports,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import holder_of, listener_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import SLOTS, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.port_problems import NO_DOOR, port_problems
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get, get_port
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtimes import Runtimes
from ansible_collections.slipway.fleet.plugins.module_utils.release.slots import SlotDirectories

from tests.integration.test_release_edge import CONFIGURATION, PATIENCE, Answer, Slot, until


def test_the_ports_of_an_app_are_always_the_same_and_of_no_other_range() -> None:
    assert slot_ports("shortlinks") == {"blue": 22048, "green": 22049}
    for number in range(200):
        blue, green = slot_ports(f"app-{number}").values()
        assert 20000 <= blue == green - 1 < 29999
    assert ports_of("shortlinks", {"green": "20007"}) == {"blue": 22048, "green": 20007}


def test_what_a_release_does_not_say_is_the_socket(tmp_path: Path) -> None:
    texts = {"new": '{"port": 8000, "path": "/"}', "socket": '{"port": 0}', "other": "{}", "bad": "{", "odd": "[1]"}
    texts["odder"] = '{"port": "http"}'
    for name, text in texts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "gate.json").write_text(text)
    found = {name: port_of(tmp_path, name) for name in (*texts, "old")}
    assert found == {"new": 8000, "socket": 0, "other": 0, "bad": 0, "odd": 0, "odder": 0, "old": 0}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({}, ""),
        ({"blue": 20000}, ""),
        ({"blue": 20000, "green": 20000}, "of its own"),
        ({"blue": 32768}, "below those"),
        ({"blue": None}, "use numbers"),
        ({"web": 20000}, "blue or green"),
    ],
)
def test_ports_that_an_inventory_gives(given: dict[str, Any], wrong: str) -> None:
    assert wrong in wrong_ports(given)
    assert bool(wrong) == bool(wrong_ports(given))


class Adapter:
    """A runtime of which the test says what it runs; one that is away says nothing."""

    def __init__(self, **releases: str) -> None:
        self.releases = dict(releases)
        self.away = False
        self.asked = 0

    def start(self, slot: str, release: str) -> None:
        self.releases[slot] = release

    def owner(self, release: str) -> None:
        """No release of this one says who it is."""

    def status(self) -> dict[str, SlotStatus]:
        self.asked += 1
        if self.away:
            raise RuntimeFailed("Docker is away")
        return {slot: SlotStatus(release=self.releases.get(slot), running=slot in self.releases) for slot in SLOTS}


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    found = tmp_path / "releases"
    for name, kind, port in (("c", "compose.yaml", 0), ("p", "compose.yaml", 8000), ("u", "unit.service", 1)):
        (found / name).mkdir(parents=True)
        (found / name / kind).touch()
        (found / name / "gate.json").write_text(json.dumps({"port": port}))
    (tmp_path / "sockets").mkdir()
    return found


def runtimes(releases: Path, compose: Adapter, systemd: Adapter) -> Runtimes:
    directories = SlotDirectories(releases.parent / "sockets", releases.parent)
    return Runtimes("links", releases, {"compose": compose, "systemd": systemd}, directories)  # type: ignore[dict-item]


def test_a_unit_listens_on_the_port_of_its_slot_and_a_container_on_its_own(releases: Path) -> None:
    found = runtimes(releases, Adapter(blue="p"), Adapter(green="u"))
    assert found.port("blue") == 8000
    assert found.port("green") == slot_ports("links")["green"]
    found.start("blue", "c")
    assert found.port("blue") == 0


def test_which_door_it_is_needs_no_look_after_the_first_and_outlasts_the_runtime(releases: Path) -> None:
    compose = Adapter(blue="p", green="c")
    found = runtimes(releases, compose, Adapter())
    assert [found.port(slot) for slot in (*SLOTS, *SLOTS)] == [8000, 0, 8000, 0]
    assert compose.asked == 1
    compose.away = True
    assert found.port("blue") == 8000
    assert runtimes(releases, compose, Adapter()).port("blue") == 0


# The edge: a real HAProxy.
PORTS = (
    CONFIGURATION + "    server blue-port 127.0.0.1:{blue} disabled\n    server green-port 127.0.0.1:{green} disabled\n"
)


class World:
    """A HAProxy before two slots, each with an app behind its socket; on its port somebody who is not that app."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.by_port = dict.fromkeys(SLOTS, False)
        self.servers: list[Any] = []
        self.ports: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None
        (here / "state").touch()
        for slot in SLOTS:
            self.servers.append(Slot(str(here / f"{slot}.sock"), Answer))
            self.servers.append(listening := ThreadingHTTPServer(("127.0.0.1", 0), says(f"{slot} by port")))
            self.ports[slot] = listening.server_address[1]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self.edge = Edge(str(here / "admin.sock"), "app_links", str(here / "state"), by_port=self.by_port.__getitem__)

    def start(self, configuration: str) -> None:
        """Start it, or start it anew as a reboot would."""
        self.stop()
        (self.here / "haproxy.cfg").write_text(configuration.format(here=self.here, **self.ports))
        binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
        self.process = subprocess.Popen([binary, "-db", "-f", str(self.here / "haproxy.cfg")])
        until(lambda: all(server.answers for server in self.edge.servers().values()))

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=PATIENCE)
            (self.here / "admin.sock").unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def answers(self) -> set[str]:
        return {get(str(self.here / "web.sock"), "/", PATIENCE).body for _ in range(8)}

    def doors(self) -> dict[str, bool]:
        rows = [line.split() for line in self.edge.ask("show servers state").splitlines() if " app_links " in line]
        return {row[3]: row[6] in ("0", "4") for row in rows}

    def switch(self, to: str, away: str) -> None:
        self.edge.set_state(to, "drain")
        until(lambda: self.edge.servers()[to].answers)
        self.edge.set_state(to, "ready")
        self.edge.set_state(away, "drain", beside=to)


def says(what: str) -> type[Answer]:
    class Says(Answer):
        name = what

    return Says


@pytest.fixture
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    found = World(tmp_path_factory.mktemp("d"))
    yield found
    found.close()


def test_a_host_that_knew_sockets_alone_serves_on_and_then_by_a_port(world: World) -> None:
    world.start(CONFIGURATION)
    assert world.edge.servers().keys() == set(SLOTS)
    world.switch("green", "blue")  # an edge without the other doors is told what it knows
    world.start(PORTS)
    assert world.edge.servers() == {"blue": Server(False, True, 0), "green": Server(True, True, 0)}
    assert world.answers() == {"green"}
    world.by_port["blue"] = True
    world.switch("blue", "green")
    assert world.answers() == {"blue by port"}
    world.start(PORTS)
    assert world.answers() == {"blue by port"}
    # A client has its answer a moment before its session is over.
    until(lambda: world.edge.servers() == {"blue": Server(True, True, 0), "green": Server(False, True, 0)})
    world.switch("green", "blue")
    assert world.answers() == {"green"}


def test_whoever_else_listens_on_the_port_of_a_slot_gets_nothing(world: World) -> None:
    world.start(PORTS)
    world.switch("blue", "green")
    assert world.doors() == {"blue": True, "blue-port": False, "green": False, "green-port": False}
    assert world.answers() == {"blue"}
    world.by_port["green"] = True
    world.switch("green", "blue")
    assert world.doors() == {"blue": False, "blue-port": False, "green": False, "green-port": True}
    assert world.answers() == {"green by port"}


def test_a_port_that_the_edge_does_not_know_is_no_door(world: World) -> None:
    world.start(CONFIGURATION)
    world.by_port["green"] = True
    with pytest.raises(EdgeError, match="refused .*blue-port|refused .*green-port"):
        world.edge.set_state("green", "ready")
    assert world.edge.ports() == {}
    world.by_port["green"] = False
    world.start(PORTS)
    assert world.edge.ports() == {("app_links", slot): world.ports[slot] for slot in SLOTS}


def test_the_doors_of_a_slot_are_one_and_other_servers_are_left() -> None:
    one, other = Server(True, False, 2, "L7STS 404"), Server(False, True, 3, "L4CON")
    doors = {"blue": one, "green": other, "blue-port": other, "web-port": one}
    both = Server(True, True, 5, shut=True)
    assert by_slot(doors, lambda slot: True) == {"blue": both, "green": other, "web-port": one}
    assert not by_slot(doors, lambda slot: False)["blue"].shut
    assert not by_slot(doors, lambda slot: False)["blue"].answers, "somebody else does"
    assert by_slot(doors, lambda slot: False)["blue"].check == "L7STS 404", "of the door that the release opens"
    assert by_slot(doors, lambda slot: True)["blue"].check == "L4CON"


STATES = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_port\n3 app_a 1 blue - 0\n3 app_a 2 blue-port 127.0.0.1 20001\n"
    "4 balanced 1 web-port 10.0.0.1 80\n"
)


def test_ports_of_other_hosts_are_none_of_this_one() -> None:
    assert parse_ports(STATES) == {("app_a", "blue"): 20001}


# The probe.
@contextmanager
def listening(handler: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port on which every connection is handled so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    handler(connection)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def answer(connection: socket.socket) -> None:
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


def read_on(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def test_a_port_answers_is_closed_or_says_nothing() -> None:
    with listening(answer) as port:
        assert get_port(f"127.0.0.1:{port}", 8000, "/readyz", PATIENCE).status == 204
    refused = get_port(f"127.0.0.1:{port}", 8000, "/readyz", PATIENCE)
    assert (refused.nobody, "nothing answers on port 8000 of the app" in refused.error) == (True, True)
    with listening(lambda connection: None) as port:  # as Docker does for a container in which nobody listens
        closed = get_port(f"127.0.0.1:{port}", 8000, "/readyz", PATIENCE)
    assert (closed.nobody, "connection closed" in closed.error) == (True, True)
    with listening(read_on) as port:
        slow = get_port(f"127.0.0.1:{port}", 8000, "/readyz", 0.1)
    assert (slow.nobody, "timed out" in slow.error) == (False, True)


# What the preflight finds.
def test_who_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "(pid " in (listener_of(port) or "")
    assert listener_of(port) is None


class AtEdge:
    """What the edge has, for the preflight."""

    backend = "app_links"

    def __init__(self, ports: dict[tuple[str, str], int] | None) -> None:
        self.has = ports

    def ports(self) -> dict[tuple[str, str], int]:
        if self.has is None:
            raise EdgeError("it is down")
        return self.has


MINE = {("app_links", "blue"): 20010, ("app_links", "green"): 20011}


@pytest.mark.parametrize(
    ("at_edge", "taken", "running", "said"),
    [
        (MINE, {}, {}, []),
        (None, {}, {}, []),
        ({}, {}, {}, [NO_DOOR]),
        (MINE, {20010: "redis-server (pid 7)"}, {}, ["port 20010, that of slot blue, belongs to redis-server (pid 7)"]),
        (MINE, {20010: "docker-proxy (pid 7)"}, {"blue": "p"}, []),
        (MINE, {20010: "nginx (pid 7)"}, {"blue": "c"}, ["port 20010, that of slot blue, belongs to nginx (pid 7)"]),
        (
            {**MINE, ("app_other", "green"): 20011, ("app_third", "blue"): 20012},
            {},
            {},
            ["port 20011, that of slot green, belongs to the app other on this host; write fastapi_app_slot_ports"],
        ),
        (
            {**MINE, ("app_links", "blue"): 20008},
            {},
            {},
            ["the edge looks for slot blue on port 20008, and fastapi_app_slot_ports says 20010"],
        ),
    ],
)
def test_what_stands_in_the_way_of_a_port(
    releases: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_edge: dict[tuple[str, str], int] | None,
    taken: dict[int, str],
    running: dict[str, str],
    said: list[str],
) -> None:
    monkeypatch.setenv("PATH", str(releases))  # no Docker here
    slots = runtimes(releases, Adapter(**running), Adapter())
    ports = {"blue": 20010, "green": 20011}
    found = port_problems("links", ports, AtEdge(at_edge), slots, taken.get)  # type: ignore[arg-type]
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found, strict=True))


def test_a_container_that_has_the_port_is_named(releases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = releases / "docker"
    docker.write_text('#!/bin/sh\ncase "$*" in *publish=20010*) echo grafana;; esac\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{releases}:/usr/bin:/bin")
    slots = runtimes(releases, Adapter(), Adapter())
    ports = {"blue": 20010, "green": 20011}
    monkeypatch.setattr(f"{holder_of.__module__}.listener_of", lambda port: None)
    (found,) = port_problems("links", ports, AtEdge(MINE), slots)  # type: ignore[arg-type]
    assert "port 20010, that of slot blue, belongs to the container grafana on this host" in found
    assert "write fastapi_app_slot_ports: {blue: 20012, green: 20013} and run slipway.fleet.provision" in found
