"""Frames of HTTP/2 that are wrong, at a real HAProxy with the role's configuration: each is answered as RFC 9113 says.

h2spec, which has more of them, is in neither Debian nor PyPI. The frames are written by hand, since no library writes
what is wrong.
"""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.templates.test_haproxy import PATIENCE, Edge, Slot, app, wait_for
from tests.templates.test_haproxy_tls import NAME, Authority, authority

__all__ = ["authority"]  # fixtures

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
UNKNOWN = 0x16
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
# Codes of errors (RFC 9113, 7).
NONE, PROTOCOL, INTERNAL, FLOW, CLOSED, SIZE, COMPRESSION = 0x0, 0x1, 0x2, 0x3, 0x5, 0x6, 0x9
MOST = 2**31 - 1
PINGED = b"slipway!"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def setting(name: int, value: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def literal(name: str, value: str) -> bytes:
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


GET = ((":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", NAME))
POST = ((":method", "POST"), *GET[1:])


def fields(*more: tuple[str, str], of: tuple[tuple[str, str], ...] = GET) -> bytes:
    return b"".join(literal(*field) for field in (*of, *more))


def request(stream: int = 1, payload: bytes = fields(), flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(HEADERS, flags, stream, payload)


def without(name: str) -> bytes:
    return b"".join(literal(*field) for field in GET if field[0] != name)


OPEN = request(payload=fields(of=POST), flags=END_HEADERS)
# What is wrong, what is sent after the preface and the settings, and the code with which the connection ends.
ENDS = [
    ("data of no stream", frame(DATA, 0, 0, b"x"), {PROTOCOL}),
    ("data of a stream that never began", frame(DATA, 0, 1, b"x"), {PROTOCOL}),
    ("a request of no stream", request(0), {PROTOCOL}),
    ("a request of a stream that is the server's", request(2), {PROTOCOL}),
    # Those before one that began are closed, if one likes to call it so.
    ("a stream that comes too late", request(5) + request(3), {PROTOCOL, CLOSED}),
    ("a request where one was ended", request() + request(), {PROTOCOL, CLOSED}),
    ("the end of no stream", frame(RST_STREAM, 0, 0, bytes(4)), {PROTOCOL}),
    ("the end of a stream that never began", frame(RST_STREAM, 0, 1, bytes(4)), {PROTOCOL}),
    ("an end of three bytes", OPEN + frame(RST_STREAM, 0, 1, bytes(3)), {SIZE}),
    ("settings of a stream", frame(SETTINGS, 0, 1), {PROTOCOL}),
    ("settings that are cut off", frame(SETTINGS, 0, 0, bytes(5)), {SIZE}),
    ("settings that are acknowledged and said", frame(SETTINGS, ACK, 0, bytes(6)), {SIZE}),
    ("settings: a push of two", setting(2, 2), {PROTOCOL}),
    ("settings: a window that is too large", setting(4, 2**31), {FLOW}),
    ("settings: frames that are too small", setting(5, 2**14 - 1), {PROTOCOL}),
    ("settings: frames that are too large", setting(5, 2**24), {PROTOCOL}),
    ("a ping of a stream", frame(PING, 0, 1, bytes(8)), {PROTOCOL}),
    ("a ping of six bytes", frame(PING, 0, 0, bytes(6)), {SIZE}),
    ("a goodbye of a stream", frame(GOAWAY, 0, 1, bytes(8)), {PROTOCOL}),
    ("a window of three bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3)), {SIZE}),
    ("a window that grows by nothing", frame(WINDOW_UPDATE, 0, 0, bytes(4)), {PROTOCOL}),
    ("a window that is too large", frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", MOST)) * 2, {FLOW}),
    ("a window of a stream that never began", frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)), {PROTOCOL}),
    ("a frame that is too large", OPEN + frame(DATA, 0, 1, bytes(2**14 + 1)), {SIZE}),
    ("a promise of a client", OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + fields()), {PROTOCOL}),
    ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, fields()), {PROTOCOL}),
    ("another frame within headers", request(flags=END_STREAM) + frame(PING, 0, 0, bytes(8)), {PROTOCOL}),
    ("a continuation of another stream", request(flags=END_STREAM) + frame(CONTINUATION, 4, 3, b""), {PROTOCOL}),
    ("more padding than there is", request(payload=b"\xff" + fields(), flags=END_HEADERS | PADDED), {PROTOCOL}),
    ("a field of no table", request(payload=b"\xff\xff\xff\x7f"), {COMPRESSION}),
    ("a field that is cut off", request(payload=fields()[:-3]), {COMPRESSION}),
    ("a table that is too large", request(payload=b"\x3f\xe1\xff\x03" + fields()), {COMPRESSION}),
]
# The same, and the code with which the stream ends; the connection may end with it, or the answer may be 400.
RESETS = [
    ("a window of a stream that grows by nothing", OPEN + frame(WINDOW_UPDATE, 0, 1, bytes(4)), {PROTOCOL}),
    ("a window of a stream that is too large", OPEN + frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", MOST)), {FLOW}),
    ("data after the end", request() + frame(DATA, END_STREAM, 1, b"x"), {CLOSED, PROTOCOL}),
    ("a priority of four bytes", OPEN + frame(PRIORITY, 0, 1, bytes(4)), {SIZE}),
    ("a name in capitals", request(payload=fields(("X-Field", "x"))), {PROTOCOL}),
    ("no method", request(payload=without(":method")), {PROTOCOL}),
    ("no scheme", request(payload=without(":scheme")), {PROTOCOL}),
    ("no path", request(payload=without(":path")), {PROTOCOL}),
    ("an empty path", request(payload=without(":path") + literal(":path", "")), {PROTOCOL}),
    ("two paths", request(payload=fields((":path", "/x"))), {PROTOCOL}),
    ("what is asked for after a field", request(payload=literal("x", "y") + fields()), {PROTOCOL}),
    ("a status that a client says", request(payload=fields((":status", "200"))), {PROTOCOL}),
    ("something that nobody asks", request(payload=fields((":other", "x"))), {PROTOCOL}),
    ("a field of a connection", request(payload=fields(("connection", "keep-alive"))), {PROTOCOL}),
    ("a body in chunks", request(payload=fields(("transfer-encoding", "chunked"), of=POST)), {PROTOCOL}),
    ("what it takes besides trailers", request(payload=fields(("te", "gzip"))), {PROTOCOL}),
    ("a line end in a value", request(payload=fields(("x", "a\r\nb"))), {PROTOCOL}),
    ("a body longer than it says", request(payload=fields(("content-length", "1"), of=POST), flags=END_HEADERS)
        + frame(DATA, END_STREAM, 1, b"xy"), {PROTOCOL}),
    ("a body shorter than it says", request(payload=fields(("content-length", "3"), of=POST), flags=END_HEADERS)
        + frame(DATA, END_STREAM, 1, b"xy"), {PROTOCOL}),
    # PROTOCOL_ERROR by the letter (8.1.1); what counts is that nothing of it gets to the app.
    ("trailers that ask", OPEN + request(payload=literal(":method", "GET")), {PROTOCOL, INTERNAL}),
    ("trailers that are not the end", OPEN + request(payload=literal("x", "y"), flags=END_HEADERS), {PROTOCOL}),
]  # fmt: skip
# What is no mistake, and may not end anything.
FINE = [
    ("a frame that nobody knows", frame(UNKNOWN, 0xFF, 0, bytes(8))),
    ("a setting that nobody knows", setting(0xFF, 1)),
    ("a flag that means nothing", frame(PING, 0x16, 0, bytes(8))),
    ("a priority of a stream that never began", frame(PRIORITY, 0, 3, struct.pack(">IB", 0, 1))),
    ("a settings frame that is empty", frame(SETTINGS, 0, 0)),
]


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Why it ends, where it is an end."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


@pytest.fixture(scope="module")
def edge(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("h2")
    slot = Slot(str(directory / "links-blue.sock"), "blue")
    made = Edge(
        directory, haproxy_apps=[app(directory, host_names=[NAME])], haproxy_tls_certificate=authority.issue(NAME)
    )
    made.start()
    wait_for(lambda: answers(made))
    yield made
    made.stop()
    slot.stop()


def answers(edge: Edge) -> bool:
    """Whether the app is reached by HTTP/2."""
    where = ["--resolve", f"{NAME}:{edge.tls_port}:127.0.0.1", f"https://{NAME}:{edge.tls_port}/x"]
    argv = ["curl", "-sk", "--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", *where]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE).stdout == "2 200"


def said(edge: Edge, sent: bytes, preface: bytes = PREFACE + frame(SETTINGS, 0, 0)) -> list[Frame]:
    """All that comes back until the connection ends, or what was asked at the end is answered."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    found = b""
    with (
        socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=NAME, suppress_ragged_eofs=True) as tls,
    ):
        assert tls.selected_alpn_protocol() == "h2"
        try:
            tls.sendall(preface + sent + frame(PING, 0, 0, PINGED))
            while (more := tls.recv(65536)) and frame(PING, ACK, 0, PINGED) not in found + more:
                found += more
            found += more
        except OSError:
            pass
    frames = []
    while len(found) >= 9:
        length = int.from_bytes(found[:3], "big")
        frames.append(Frame(found[3], found[4], int.from_bytes(found[5:9], "big"), found[9 : 9 + length]))
        found = found[9 + length :]
    return frames


def ends(frames: list[Frame]) -> set[int]:
    return {one.code for one in frames if one.kind == GOAWAY}


def resets(frames: list[Frame]) -> set[int]:
    return {one.code for one in frames if one.kind == RST_STREAM}


@pytest.mark.parametrize(("sent", "codes"), [one[1:] for one in ENDS], ids=[one[0] for one in ENDS])
def test_what_is_wrong_with_a_connection_ends_it(edge: Edge, sent: bytes, codes: set[int]) -> None:
    found = ends(said(edge, sent))
    assert found
    assert found <= codes


@pytest.mark.parametrize(("sent", "codes"), [one[1:] for one in RESETS], ids=[one[0] for one in RESETS])
def test_what_is_wrong_with_a_request_ends_it(edge: Edge, sent: bytes, codes: set[int]) -> None:
    frames = said(edge, sent)
    # An app that has answered before the body ended has HAProxy end the stream without an error (8.1).
    found = (ends(frames) | resets(frames)) - {NONE}
    assert found, frames
    assert found <= codes


@pytest.mark.parametrize("sent", [one[1] for one in FINE], ids=[one[0] for one in FINE])
def test_what_is_no_mistake_ends_nothing(edge: Edge, sent: bytes) -> None:
    frames = said(edge, sent)
    assert Frame(PING, ACK, 0, PINGED) in frames
    assert ends(frames) | resets(frames) == set()


def test_what_is_no_http_2_is_not_answered(edge: Edge) -> None:
    assert ends(said(edge, b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(32))) <= {PROTOCOL}


def test_the_edge_serves_on_after_all_of_them(edge: Edge) -> None:
    assert edge.process
    assert edge.process.poll() is None
    assert answers(edge)
