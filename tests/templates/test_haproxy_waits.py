"""How long a real HAProxy with the role's configuration waits for a client: for headers, for more, for a websocket."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.modules.balancer import change

from tests.templates.test_haproxy import Edge, Slot, answering, app, certificate, runtime, slots, wait_for
from tests.templates.test_haproxy_retries import HOSTS, Asked, balanced

__all__ = ["certificate", "slots"]  # fixtures
# Of the timeouts that are not what a test is about, in seconds: no test waits so long.
LONG = 60
WAITS = {"haproxy_request_timeout": LONG, "haproxy_keep_alive_timeout": LONG, "haproxy_client_timeout": LONG}
# Within which one of a second is over, on a busy machine, too.
SOON = 20
GET = b"GET /x HTTP/1.1\r\nHost: x\r\n"
# With the key of the example in RFC 6455.
WEBSOCKET = GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegun"


class Waits(answering("blue")):  # type: ignore[misc]
    """A slot that reads a body, and echoes what comes after an upgrade."""

    def do_POST(self) -> None:  # noqa: N802 - the name of the base class
        self.rfile.read(int(self.headers["Content-Length"]))
        super().do_GET()

    def do_GET(self) -> None:  # noqa: N802 - the name of the base class
        if not self.headers["Upgrade"]:
            super().do_GET()
            return
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        self.end_headers()
        with suppress(OSError):
            while said := self.connection.recv(100):
                self.connection.sendall(said)


@contextmanager
def connected(slots: dict[str, Slot], directory: Path, **timeouts: Any) -> Iterator[socket.socket]:
    """A client of an edge with these timeouts; an app has no more time than its client."""
    waits = {**WAITS, **timeouts}
    for slot in slots.values():
        slot.server.RequestHandlerClass = Waits
    edge = Edge(directory, haproxy_apps=[app(directory, server_timeout=waits["haproxy_client_timeout"])], **waits)
    edge.start()
    try:
        with socket.create_connection(("127.0.0.1", edge.port), SOON) as client:
            yield client
    finally:
        edge.stop()


def rest(client: socket.socket) -> bytes:
    """What is said until the edge closes. Fails where it has not within SOON."""
    said = b""
    while chunk := client.recv(65536):
        said += chunk
    return said


def drip(client: socket.socket) -> bytes:
    """The same, where the client sends a byte of a header all the time, which is no reason to wait on."""
    client.settimeout(0.1)
    over = time.monotonic() + SOON
    while time.monotonic() < over:
        with suppress(TimeoutError):
            return client.recv(65536)
        client.sendall(b"x")
    raise AssertionError("the edge waits on")


def test_headers_that_are_never_complete_are_given_up(slots: dict[str, Slot], tmp_path: Path) -> None:
    with connected(slots, tmp_path, haproxy_request_timeout=1) as client:
        client.sendall(GET + b"X-Slow: ")
        assert drip(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("sent", "timeout", "said"),
    [
        (GET, "haproxy_request_timeout", {b"408"}),
        (b"", "haproxy_request_timeout", {b""}),
        (GET + b"\r\n", "haproxy_keep_alive_timeout", {b"200"}),
        (POST, "haproxy_client_timeout", {b"408", b"504", b"400"}),  # by version
    ],
    ids=["within its headers", "before its first byte", "after an answer", "within its body"],
)
def test_a_client_that_says_no_more_is_given_up(
    slots: dict[str, Slot], tmp_path: Path, sent: bytes, timeout: str, said: set[bytes]
) -> None:
    with connected(slots, tmp_path, **{timeout: 1}) as client:
        client.sendall(sent)
        assert rest(client)[len("HTTP/1.1 ") :][:3] in said


def test_a_websocket_has_a_timeout_of_its_own(slots: dict[str, Slot], tmp_path: Path) -> None:
    with connected(slots, tmp_path, haproxy_client_timeout=1, haproxy_tunnel_timeout=8) as client:
        client.sendall(WEBSOCKET)
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        began = time.monotonic()
        time.sleep(1.5)  # longer than other clients may say nothing
        client.sendall(b"still there")
        assert client.recv(100) == b"still there"
        assert rest(client) == b""
        assert time.monotonic() - began > 9, "from the last message on"


def test_a_websocket_stays_where_its_host_is_taken_out(tmp_path: Path) -> None:
    asked = Asked()
    asked.handler = Waits
    with (
        balanced(tmp_path, asked, {}, sticky=True) as balancer,
        socket.create_connection(("127.0.0.1", balancer.port), SOON) as client,
    ):
        client.sendall(WEBSOCKET)
        assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
        edge = runtime(balancer)
        edge.expected = set(HOSTS)
        wait_for(lambda: all(server.answers for server in edge.servers().values()))
        (mine,) = [name for name, server in edge.servers().items() if server.sessions]
        assert change(edge, mine, "drain", 0.5) == 1
        client.sendall(b"still there")
        assert client.recv(100) == b"still there"
