"""Requests that two servers might read differently, sent as they are to a real HAProxy before servers that apps have.

What counts is what the server behind takes for requests (RFC 9112, 6.3 and 11.2): none of them is `/smuggled`, which
stands where a careless one sees the next request.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.templates.test_haproxy import PATIENCE, Edge, wait_for

# Says what it was asked, a line a request, and takes the whole body.
APP = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    with open(os.environ["SEEN"], "a") as seen:
        headers = sorted(name.decode("latin-1") for name, _ in scope["headers"])
        seen.write(f"{scope['method']} {scope['raw_path'].decode('latin-1')} {size} {','.join(headers)}\\n")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""
SERVERS = {
    "uvicorn with h11": ["uvicorn", "app:app", "--http", "h11", "--uds"],
    "uvicorn with httptools": ["uvicorn", "app:app", "--http", "httptools", "--uds"],
    "gunicorn with uvicorn's worker": ["gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-b"],
    "gunicorn with its own reader": ["gunicorn", "app:app", "-k", "asgi", "-b"],
}
HEAD = b"POST /first HTTP/1.1\r\nHost: x\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKS = b"0\r\n\r\n"
LENGTH = b"Content-Length: "


@dataclass(frozen=True)
class Server:
    """A server as apps have one, and what it was asked."""

    directory: Path

    @property
    def seen(self) -> list[str]:
        """What it was asked, checks of the edge left out."""
        text = (self.directory / "seen").read_text()
        return [line for line in text.splitlines() if not line.startswith("GET /readyz ")]


@pytest.fixture(scope="module", params=SERVERS)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Edge, Server]]:
    directory = tmp_path_factory.mktemp("smuggling")
    (directory / "app.py").write_text(APP)
    (directory / "seen").touch()
    program, *arguments = SERVERS[request.param]
    path = str(directory / "links-blue.sock")
    where = f"unix:{path}" if program == "gunicorn" else path
    process = subprocess.Popen(
        [sys.executable, "-m", program, *arguments, where],
        cwd=directory, env={**os.environ, "SEEN": str(directory / "seen")}, start_new_session=True,
    )  # fmt: skip
    edge = Edge(directory)
    try:
        edge.start()
        wait_for(lambda: edge.get("/there")[0].status == 200)
        yield edge, Server(directory)
    finally:
        edge.stop()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


def statuses(edge: Edge, sent: bytes) -> list[int]:
    """The statuses of all answers to these bytes, until the edge closes."""
    with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as connection:
        connection.sendall(sent)
        said = b""
        while chunk := connection.recv(65536):
            said += chunk
    return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d+) ", said)]


REFUSED = {
    "two lengths that differ": HEAD + LENGTH + b"5\r\n" + LENGTH + b"40\r\n\r\nhello" + NEXT,
    "two lengths in one header": HEAD + LENGTH + b"5, 40\r\n\r\nhello" + NEXT,
    "a length with a sign": HEAD + LENGTH + b"+5\r\n\r\nhello" + NEXT,
    "a length that is none": HEAD + LENGTH + b"0x5\r\n\r\nhello" + NEXT,
    "a space before the colon": HEAD + b"Content-Length : 5\r\n\r\nhello" + NEXT,
    "another encoding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS + NEXT,
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS + NEXT,
    "chunked is not the last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS + NEXT,
    "a chunk whose length is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + NEXT,
    "a zero in a name": HEAD + b"X\0Y: 1\r\n" + LENGTH + b"0\r\n\r\n" + NEXT,
    "a carriage return alone": HEAD + b"X: a\rTransfer-Encoding: chunked\r\n" + LENGTH + b"5\r\n\r\n0\r\n\r\n" + NEXT,
}
# Of these the encoding counts, and nothing is read after them.
LAST = {
    "chunked and a length": HEAD + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"40\r\n\r\n" + CHUNKS,
    "a length and chunked": HEAD + LENGTH + b"40\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
}
# Of these the length counts, which ends where the next one begins.
MEASURED = {
    "the same length twice": HEAD + LENGTH + b"5\r\n" + LENGTH + b"5\r\n\r\nhello",
    "a header that goes on in the next line": HEAD
    + b"X: a\r\n Transfer-Encoding: chunked\r\n"
    + LENGTH
    + b"35\r\n\r\n"
    + NEXT,
    "a body that looks like a request": HEAD + LENGTH + b"35\r\n\r\n" + NEXT,
    "a line that ends without a carriage return": HEAD + b"X: a\n" + LENGTH + b"35\r\n\r\n" + NEXT,
}


def asked(behind: tuple[Edge, Server], sent: bytes) -> tuple[list[int], list[str]]:
    """The answers to these bytes, and what the server behind was asked."""
    edge, server = behind
    before = len(server.seen)
    return statuses(edge, sent), server.seen[before:]


@pytest.mark.parametrize("sent", REFUSED.values(), ids=REFUSED)
def test_what_has_two_readings_is_refused_and_reaches_no_app(behind: tuple[Edge, Server], sent: bytes) -> None:
    assert asked(behind, sent) == ([400], [])


@pytest.mark.parametrize("sent", LAST.values(), ids=LAST)
def test_a_length_beside_chunks_goes_no_further_and_ends_the_connection(
    behind: tuple[Edge, Server], sent: bytes
) -> None:
    said, (only,) = asked(behind, sent + NEXT)
    assert (said, only.split()[:3]) == ([200], ["POST", "/first", "0"])
    assert "content-length" not in only


@pytest.mark.parametrize("sent", MEASURED.values(), ids=MEASURED)
def test_where_a_request_ends_there_is_one_answer_to_that(behind: tuple[Edge, Server], sent: bytes) -> None:
    said, seen = asked(behind, sent + b"GET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    size = "5" if b"hello" in sent else "35"
    assert [line.split()[:3] for line in seen] == [["POST", "/first", size], ["GET", "/second", "0"]]
    assert said == [200, 200]
    assert not [line for line in seen if "transfer-encoding" in line]
