"""Whether a balancer may have a floating address, asked of a real HAProxy with the role's configuration."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import alive
from ansible_collections.slipway.fleet.plugins.module_utils.edge import floating as of_floating
from ansible_collections.slipway.fleet.plugins.module_utils.edge.floating import is_edge
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge as RuntimeEdge
from ansible_collections.slipway.fleet.plugins.modules import floating

from tests.templates.rendering import Role
from tests.templates.test_haproxy import PATIENCE, Edge, wait_for

FLOATING = {"haproxy_floating_addresses": ["127.0.0.10/8"], "haproxy_floating_balancers": ["127.0.0.11", "127.0.0.12"]}


@pytest.fixture
def make_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Edge]]:
    made: list[Edge] = []

    def make(**variables: Any) -> Edge:
        directory = tmp_path_factory.mktemp("e")
        (directory / "leaving.map").touch()
        edge = Edge(directory, **FLOATING, __haproxy_leaving_map=str(directory / "leaving.map"), **variables)
        made.append(edge)
        edge.start()
        return edge

    yield make
    for edge in made:
        edge.stop()


def serves(edge: Edge, *peers: Edge) -> bool:
    """As keepalived asks it."""
    words = [f"127.0.0.1:{edge.port}", str(edge.directory / "admin.sock"), str(edge.directory / "away")]
    of_peers = [f"127.0.0.1:{peer.port}" for peer in peers]
    return asked(*words, "127.0.0.11", *of_peers)


def asked(*words: str) -> bool:
    """What the program says, which waits a little longer here: whoever is to answer may share a busy machine."""
    program = Path(alive.__file__).read_text()
    for once, longer in (
        ("PATIENCE, FOR_OPERATORS = 1.0, 0.5", "PATIENCE, FOR_OPERATORS = 5.0, 2.5"),
        ("HURRIED = 0.3", "HURRIED = 30.0"),
    ):
        assert once in program
        program = program.replace(once, longer)
    return not subprocess.run([sys.executable, "-I", "-S", "-c", program, *words], check=False).returncode


def test_one_that_answers_for_itself_serves_whatever_becomes_of_its_app(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge()
    assert edge.get("/")[0].status == 503, "no slot runs"
    assert serves(edge)
    assert edge.logged()["path"] == "/", "what keepalived asks is no line"
    edge.log.settimeout(0.2)
    with pytest.raises(TimeoutError):
        edge.logged()


def test_one_that_is_frozen_or_dead_or_was_taken_out_does_not(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge()
    assert edge.process
    edge.process.send_signal(signal.SIGSTOP)
    assert not serves(edge)
    edge.process.send_signal(signal.SIGCONT)
    assert serves(edge)
    away = edge.directory / "away"
    away.touch()
    assert not serves(edge)
    away.unlink()
    edge.process.kill()
    edge.process.wait(PATIENCE)
    assert not serves(edge)


def test_an_edge_is_known_by_its_answer(make_edge: Callable[..., Edge], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_floating, "NEIGHBOUR", PATIENCE)
    assert is_edge("127.0.0.1", make_edge().port)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other, ThreadPoolExecutor(1) as pool:
        pool.submit(other.handle_request)
        assert not is_edge("127.0.0.1", other.server_port)


def test_what_nobody_else_would_do_better_is_kept(make_edge: Callable[..., Edge]) -> None:
    edge, peer = make_edge(), make_edge()
    assert edge.process
    assert peer.process
    edge.process.send_signal(signal.SIGSTOP)
    assert not serves(edge, peer)
    peer.process.send_signal(signal.SIGSTOP)
    assert serves(edge, peer)
    (edge.directory / "away").touch()
    assert not serves(edge, peer), "an operator has said so"
    for one in (edge, peer):
        assert one.process
        one.process.send_signal(signal.SIGCONT)


class Peer(BaseHTTPRequestHandler):
    """Answers a balancer that it knows, as an edge does."""

    def do_GET(self) -> None:
        self.send_response(200 if self.client_address[0] == "127.0.0.11" else 404)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Says nothing."""


def test_peers_are_asked_from_the_address_that_they_know(tmp_path: Path) -> None:
    dead = ["127.0.0.1:1", str(tmp_path / "admin.sock"), str(tmp_path / "away")]
    with ThreadingHTTPServer(("127.0.0.1", 0), Peer) as peer, ThreadPoolExecutor(1) as pool:
        pool.submit(peer.serve_forever)
        try:
            assert not asked(*dead, "127.0.0.11", f"127.0.0.1:{peer.server_port}"), "the peer would serve"
            assert asked(*dead, "127.0.0.13", f"127.0.0.1:{peer.server_port}"), "nobody knows that one"
        finally:
            peer.shutdown()


def test_where_haproxy_ends_another_one_is_to_take_over_at_once_if_there_is_one(tmp_path: Path) -> None:
    said = tmp_path / "haproxy"

    def ends(*balancers: str) -> str:
        said.write_text("0\n")
        assert asked("stopped", str(said), *balancers)
        return said.read_text()

    with ThreadingHTTPServer(("127.0.0.1", 0), Peer) as peer, ThreadPoolExecutor(1) as pool:
        pool.submit(peer.serve_forever)
        try:
            there = f"127.0.0.1:{peer.server_port}"
            # 192.0.2.1 is no address of this machine, and is asked for nothing from there.
            assert ends("192.0.2.1:80", "127.0.0.11:1", there) == alive.DOWN
            assert ends("127.0.0.13:1", there) == "0\n", "the other one does not answer"
            assert ends("127.0.0.11:1", "127.0.0.1:1") == "0\n", "nobody would do better"
            said.unlink()
            assert asked("stopped", str(said), "127.0.0.11:1", there)
            assert not said.exists(), "keepalived does not run"
        finally:
            peer.shutdown()


def test_what_haproxy_runs_where_it_ends_is_this_program() -> None:
    role = Role("haproxy", **FLOATING)
    (line,) = [one for one in role.render("floating-haproxy.conf.j2").splitlines() if one.startswith("ExecStopPost=")]
    assert line.split(" -S ")[1].split() == [
        "/usr/local/lib/slipway/slipway_edge/edge/alive.py",
        *("stopped", "/run/slipway-haproxy", "127.0.0.11:80", "127.0.0.12:80"),
    ]
    told = role.task("floating.yml", "Configure keepalived", "slipway.fleet.floating")
    assert told["stopped_file"] == "/run/slipway-haproxy"
    assert role.value("__haproxy_floating_program")[-1]["dest"].startswith("/usr/local/lib/slipway/slipway_edge/")
    gone = "/etc/systemd/system/haproxy.service.d/floating.conf"
    assert gone in Role("haproxy").value("__haproxy_stale_floating")


def test_one_that_is_full_keeps_its_address(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(haproxy_max_connections=2)
    users = [socket.create_connection(("127.0.0.1", edge.port)) for _ in range(4)]
    assert not alive.answers(f"127.0.0.1:{edge.port}")
    assert serves(edge)
    for user in users:
        user.close()


def test_what_it_says_of_itself_is_for_balancers(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge(haproxy_trusted_proxies=["127.0.0.0/8"])
    assert edge.get(alive.PAGE)[0].status == 200
    text = (edge.directory / "haproxy.cfg").read_text()
    assert "acl asked_by_balancer src 127.0.0.0/8 ::1 127.0.0.11 127.0.0.12\n" in text, (
        "who connects, not whom a proxy names"
    )


def test_one_that_leaves_keeps_no_connection(make_edge: Callable[..., Edge]) -> None:
    edge = make_edge()
    assert edge.get(alive.PAGE)[0].getheader("Connection") is None
    path: Path = edge.directory / "leaving.map"
    edge.ask(f"add map {path} leaving on")
    assert edge.get(alive.PAGE)[0].getheader("Connection") == "close"
    edge.ask(f"clear map {path}")
    assert edge.get(alive.PAGE)[0].getheader("Connection") is None


def test_a_connection_that_has_just_begun_may_ask_before_the_address_goes(
    make_edge: Callable[..., Edge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floating, "BEGUN", 30.0)
    edge = make_edge()
    admin = RuntimeEdge(str(edge.directory / "admin.sock"), "", "")
    wait_for(lambda: admin.connections() == 0)
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", edge.port)) as user:
        wait_for(lambda: admin.connections() == 1)
        leaves = pool.submit(floating.ended, admin, 0.0)
        with pytest.raises(TimeoutError):
            leaves.result(0.3)
        assert admin.in_flight() == 0, "no backend knows it"
        user.sendall(f"GET {alive.PAGE} HTTP/1.0\r\n\r\n".encode())
        assert b" 200 " in user.recv(4096)
        assert leaves.result(PATIENCE) == 0


def test_the_balancers_hand_challenges_on_to_each_other() -> None:
    role = Role("haproxy", haproxy_floating_balancers=["203.0.113.11", "2001:db8::12"])
    assert role.value("haproxy_acme_peers") == ["203.0.113.11", "[2001:db8::12]"]
    challenges = role.render("edge.cfg.j2", __haproxy_acme=True)
    assert "    server peer1 203.0.113.11:80\n    server peer2 [2001:db8::12]:80\n" in challenges
