"""A host whose machine dies without a word: a real HAProxy as its load balancer, and a server that takes no packet."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_haproxy import Edge, statuses, wait_for

SO_ATTACH_FILTER = 26
# BPF that takes nothing of a packet: it is dropped before TCP sees it, so nobody is told and nothing is acknowledged.
NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)


class Machine:
    """A host that keeps connections, holds `/slow` until it may go on, and can die as machines do."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[str] = []
        self.goes_on = threading.Event()
        self._open: list[socket.socket] = []
        self._listens = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listens.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listens.accept()
                self._open.append(connection)
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as lines:
            while line := lines.readline():
                headers = b"".join(iter(lines.readline, b"\r\n"))
                path = line.split()[1].decode()
                if b"haproxy-check" not in headers:
                    self.asked.append(path)
                if path == "/slow":
                    self.goes_on.wait(60)
                body = self.name.encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def die(self) -> None:
        """Take no packet any more, neither of connections that are open nor of new ones."""
        code = ctypes.create_string_buffer(NOTHING)
        program = struct.pack("HL", 1, ctypes.addressof(code))
        for one in (self._listens, *self._open):
            if one.fileno() >= 0:
                one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def stop(self) -> None:
        self.goes_on.set()
        for one in (self._listens, *self._open):
            one.close()


class Client:
    """It keeps its connection, and the cookie that says which host it had an answer from."""

    def __init__(self, port: int) -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers: dict[str, str] = {}

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        """The status and the body; 0 where the connection was closed instead, as any that is kept may be."""
        self.connection.request(method, path, headers=self.headers)
        try:
            answer = self.connection.getresponse()
        except RemoteDisconnected:
            return 0, ""
        if cookie := answer.headers["Set-Cookie"]:
            self.headers["Cookie"] = cookie.partition(";")[0]
        return answer.status, answer.read().decode()


class Balanced:
    """A balancer before two machines, and clients that come back to the first of them over kept connections."""

    def __init__(self, directory: Path, stack: ExitStack, silent: int, **of_the_app: Any) -> None:
        self.stack = stack
        self.machines = {name: Machine(name) for name in ("web1", "web2")}
        for machine in self.machines.values():
            stack.callback(machine.stop)
        servers = {name: machine.address for name, machine in self.machines.items()}
        apps = [{"name": "links", "servers": servers, "sticky": True, **of_the_app}]
        # On a busy machine a kept connection waits a while for its next request.
        more = {"haproxy_silent_host_timeout": silent, "haproxy_keep_alive_timeout": 100}
        self.balancer = Edge(directory, haproxy_apps=apps, **more)
        self.balancer.start()
        stack.callback(self.balancer.stop)
        wait_for(lambda: statuses(self.balancer) == dict.fromkeys(self.machines, "UP"))
        self.pool = stack.enter_context(ThreadPoolExecutor(8))

    def client(self) -> Client:
        """One whose next request is asked of the first machine, over a connection that is there."""
        while True:
            client = Client(self.balancer.port)
            self.stack.callback(client.connection.close)
            if client.ask("/x") == (200, "web1"):
                assert client.ask("/x") == (200, "web1")
                return client


@pytest.fixture
def balanced(tmp_path: Path) -> Iterator[Callable[..., Balanced]]:
    with ExitStack() as stack:
        yield lambda silent, **of_the_app: Balanced(tmp_path, stack, silent, **of_the_app)


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 0)])
def test_what_was_sent_to_it_is_asked_of_another_host_where_it_may_be(
    balanced: Callable[..., Balanced], method: str, status: int
) -> None:
    """A POST may have been done, so its client is told that nobody knows. Without the limit: 504 after 75 s."""
    there = balanced(silent=2)
    waits = there.pool.submit(there.client().ask, "/slow", method)
    wait_for(lambda: "/slow" in there.machines["web1"].asked)
    over_one_that_was_there = there.client()
    there.machines["web2"].goes_on.set()
    there.machines["web1"].die()
    assert over_one_that_was_there.ask("/x", method)[0] == status
    assert waits.result()[0] == status, "it had acknowledged the request, and said nothing since"
    assert ("/slow" in there.machines["web2"].asked) == (status == 200)


def test_a_machine_that_lives_is_waited_for_however_long_its_app_takes(balanced: Callable[..., Balanced]) -> None:
    there = balanced(silent=1)
    waits = there.pool.submit(there.client().ask, "/slow", "POST")
    time.sleep(4)
    assert not waits.done()
    there.machines["web1"].goes_on.set()
    assert waits.result() == (200, "web1")


def test_without_the_limit_it_is_waited_for_as_long_as_for_an_answer(balanced: Callable[..., Balanced]) -> None:
    there = balanced(silent=0, server_timeout=4)
    client = there.client()
    there.machines["web1"].die()
    assert client.ask("/x")[0] == 504
