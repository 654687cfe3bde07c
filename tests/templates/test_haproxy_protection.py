"""What an edge sends elsewhere, limits and refuses for one app: with a real HAProxy."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.templates.rendering import Role
from tests.templates.test_haproxy import Edge, Slot, answering, app, certificate, slots

__all__ = ["certificate", "slots"]  # fixtures
MIB = 1024 * 1024
NAME, OLD = "shop.example.org", "old.example.org"


@contextmanager
def running(directory: Path, *apps: dict[str, Any], **variables: Any) -> Iterator[Edge]:
    """An edge with these apps."""
    edge = Edge(directory, haproxy_apps=list(apps), **variables)
    try:
        edge.start()
        yield edge
    finally:
        edge.stop()


class Takes(answering("blue")):  # type: ignore[misc]
    """A slot that takes bodies, and says how long they were."""

    def do_POST(self) -> None:  # noqa: N802 - the name of the base class
        length = 0
        if self.headers["Transfer-Encoding"]:
            while size := int(self.rfile.readline(), 16):
                length += len(self.rfile.read(size + 2)) - 2
            self.rfile.readline()
        else:
            length = len(self.rfile.read(int(self.headers["Content-Length"] or 0)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(str(length))))
        self.end_headers()
        self.wfile.write(str(length).encode())


def post(edge: Edge, body: Any, **headers: str) -> tuple[int, str]:
    """Status and text; what is iterated over is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=10)
    try:
        connection.request("POST", "/x", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def post_by_http2(edge: Edge, body: bytes, *headers: tuple[str, str], ends: bool = True) -> int:
    """The status of a request with a body in one frame (RFC 9113), as the edge logs it."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    told = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", NAME), *headers]
    # Literals that are not indexed (RFC 7541, 6.2.2).
    packed = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in told
    )
    with socket.create_connection(("127.0.0.1", edge.port), 10) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, packed))
        connection.sendall(frame(0, int(ends), 1, body))
        return int(edge.logged()["status"])


def test_other_names_lead_to_the_first_one_with_path_and_query(slots: dict[str, Slot], tmp_path: Path) -> None:
    shop = app(tmp_path, host_names=[NAME, "s.example.org"], redirect_names=["WWW.example.org", OLD])
    behind = {"haproxy_trusted_proxies": ["127.0.0.1"]}
    with running(tmp_path, shop, **behind) as edge:
        for name in ("www.example.org", "Old.example.org:8080"):
            answer, _ = edge.get("/a/%20b?c=d&e=//f", Host=name)
            assert (answer.status, answer.headers["Location"]) == (308, f"http://{NAME}/a/%20b?c=d&e=//f")
        answer, _ = edge.get("//elsewhere.example/", Host=OLD, X_Forwarded_Proto="HTTPS")
        assert answer.headers["Location"] == f"https://{NAME}//elsewhere.example/", (
            "as they came to the proxy before it"
        )
        assert [edge.get("/x", Host=name)[0].status for name in (NAME, "s.example.org")] == [200, 200]
        assert edge.get("/x", Host="other.example.org")[0].status == 421


def test_with_a_certificate_they_lead_to_https(slots: dict[str, Slot], certificate: str, tmp_path: Path) -> None:
    shop = app(tmp_path, host_names=[NAME], redirect_names=[OLD])
    text = Role("haproxy", haproxy_tls_certificate=certificate).render("app.cfg.j2", app=shop)
    assert f"redirect prefix https://{NAME} code 308 if redirect_name\n" in text
    with running(tmp_path, shop, haproxy_tls_certificate=certificate) as edge:
        assert edge.get("/x", Host=OLD)[0].headers["Location"] == f"https://{OLD}/x", "HTTPS first, for HSTS"


def test_a_body_may_be_as_long_as_it_is_told(slots: dict[str, Slot], tmp_path: Path) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Takes
    with running(tmp_path, app(tmp_path, max_body_mib=1)) as edge:
        assert post(edge, b"x" * MIB) == (200, str(MIB))
        # It does not wait for the body, so what is sent of it finds a closed connection.
        longer = {"Content-Length": str(MIB + 1)}
        assert post(edge, b"", **longer) == (413, "This is more than the 1 MiB that may be sent at once.")
        assert post(edge, b"", **longer, Accept="application/json") == (413, '{"status":"too large"}')
        chunked = {"Transfer-Encoding": "chunked"}
        assert post(edge, b"", **chunked)[0] == 411, "nobody would count what comes"
        assert post(edge, b"", **chunked, Upgrade="websocket", Connection="upgrade")[0] == 411, "no way around"
        assert post(edge, None) == (200, "0")
        assert edge.get("/x")[0].status == 200
        while edge.logged()["method"] != "GET":
            pass
        assert post_by_http2(edge, b"abc", ("content-length", "3")) == 200
        assert post_by_http2(edge, b"abc") == 411
        assert post_by_http2(edge, b"") == 200, "none at all, and none declared"
        assert post_by_http2(edge, b"abc", ("content-length", str(MIB + 1)), ends=False) == 413


def test_without_a_limit_bodies_pass_as_they_did(slots: dict[str, Slot], tmp_path: Path) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Takes
    with running(tmp_path, app(tmp_path, max_body_mib=0)) as edge:
        assert post(edge, b"x" * 5 * MIB) == (200, str(5 * MIB))
        assert post(edge, iter([b"x" * MIB] * 5)) == (200, str(5 * MIB))
