"""Clients that are slow on purpose, beside users of a real HAProxy with the role's configuration."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_haproxy import Edge, Slot, answering, app, slots

__all__ = ["slots"]  # fixtures
PAGE = b"x" * 100_000


class Serves(answering("blue")):  # type: ignore[misc]
    """A slot that has a large page, too, and waits for bodies as an app does."""

    def do_GET(self) -> None:  # noqa: N802 - the name of the base class
        if self.path != "/page":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def do_POST(self) -> None:  # noqa: N802 - the name of the base class
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        super().do_GET()


@pytest.fixture(autouse=True)
def _many_files() -> Iterator[None]:
    """Each connection is a file, of this process and of HAProxy's."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def connected(port: int, address: str) -> socket.socket:
    """A connection from an address of loopback, which takes little at a time."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.setblocking(False)
    found.bind((address, 0))
    await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", port))
    return found


async def drips(port: int, number: int, first: bytes, there: Callable[[], None]) -> None:
    """Sends the beginning of a request, then a byte of it a second, and takes of the answer as slowly."""
    loop = asyncio.get_running_loop()
    while True:
        connection = await connected(port, f"127.1.{number // 250}.{number % 250 + 1}")
        with connection, suppress(ConnectionError):
            await loop.sock_sendall(connection, first)
            there()
            while True:
                await asyncio.sleep(1)
                if first.endswith(b"\r\n\r\n") and b"POST" not in first:
                    await loop.sock_recv(connection, 1)
                else:
                    await loop.sock_sendall(connection, b"x")


async def asked(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


KINDS = (
    b"GET /x HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
    b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n",
)


@pytest.mark.parametrize("of_the_app", [{}, {"max_connections": 10, "max_wait": 30}])
def test_a_thousand_slow_clients_cost_users_nothing(
    of_the_app: dict[str, Any], slots: dict[str, Slot], tmp_path: Path
) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Serves
        slot.server.socket.listen(2048)
    edge = Edge(tmp_path, haproxy_apps=[app(tmp_path, **of_the_app)])

    async def beside() -> list[int]:
        came = 0
        all_came = asyncio.Event()

        def one_came() -> None:
            nonlocal came
            came += 1
            if came == 1000:
                all_came.set()

        slow = [asyncio.create_task(drips(edge.port, number, KINDS[number % 3], one_came)) for number in range(1000)]
        await asyncio.wait_for(all_came.wait(), 600)
        answers = [status for _ in range(20) for status in await asyncio.gather(*(asked(edge.port) for _ in range(10)))]
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        return answers

    edge.start()
    try:
        assert asyncio.run(beside()) == [200] * 200
    finally:
        edge.stop()
