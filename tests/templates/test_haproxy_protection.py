"""What an edge sends elsewhere, limits and refuses for one app: with a real HAProxy."""

from __future__ import annotations

import base64
import csv
import gzip
import http.client
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.client import MOST_RATE

from tests.templates.rendering import Role
from tests.templates.test_haproxy import (
    PATIENCE,
    Edge,
    Slot,
    answering,
    app,
    certificate,
    runtime,
    slots,
    statuses,
    wait_for,
)

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


def said(text: str) -> str:
    """What the edge says itself, without the id of the request, which it has in it."""
    if text.startswith("{"):
        answer = json.loads(text)
        UUID(answer.pop("request_id"))
        return str(answer.pop("status"))
    words, _, shown = text.partition(" Request ")
    UUID(shown.rstrip("."))
    return words


def post(edge: Edge, body: Any, **headers: str) -> tuple[int, str]:
    """Status and text; what is iterated over is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
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
    with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, packed))
        connection.sendall(frame(0, int(ends), 1, body))
        while (line := edge.logged())["protocol"] != "HTTP/2.0":
            pass
        return int(line["status"])


def forget_log(edge: Edge) -> None:
    """Its lines so far; a socket of the log takes ten, and what comes then is lost."""
    edge.log.setblocking(False)
    with suppress(BlockingIOError):
        while edge.log.recv(16384):
            pass
    edge.log.settimeout(PATIENCE)


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
        status, text = post(edge, b"", **longer)
        assert (status, said(text)) == (413, "This is more than the 1 MiB that may be sent at once.")
        status, text = post(edge, b"", **longer, Accept="application/json")
        assert (status, said(text)) == (413, "too large")
        chunked = {"Transfer-Encoding": "chunked"}
        assert post(edge, b"", **chunked)[0] == 411, "nobody would count what comes"
        assert post(edge, b"", **chunked, Upgrade="websocket", Connection="upgrade")[0] == 411, "no way around"
        assert post(edge, None) == (200, "0")
        assert edge.get("/x")[0].status == 200
        forget_log(edge)
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


BEHIND_A_PROXY = {"haproxy_trusted_proxies": ["127.0.0.1"]}
ONE, OTHER = "203.0.113.7", "203.0.113.8"


def asked(
    edge: Edge, client: str, count: int = 1, path: str = "/x", headers: Mapping[str, str] = MappingProxyType({})
) -> list[int]:
    """The statuses of so many requests from an address."""
    return [edge.get(path, X_Forwarded_For=client, **headers)[0].status for _ in range(count)]


def counted(edge: Edge, table: str) -> dict[str, int]:
    """What was let through by key."""
    found = re.findall(r"key=(\S+) .*gpc0_rate\(\d+\)=(\d+)", edge.ask(f"show table {table}"))
    return {key: int(count) for key, count in found}


def has_none_under_way(edge: Edge, client: str, table: str = "addresses_links") -> bool:
    """Whether nothing of an address is counted as begun any more, which is a moment after its answer was read."""
    held: dict[str, str] = dict(re.findall(r"key=(\S+) .*conn_cur=(\d+)", edge.ask(f"show table {table}")))
    return held.get(f"::ffff:{client}", "0") == "0"


def test_an_address_may_ask_so_often(slots: dict[str, Slot], tmp_path: Path) -> None:
    limited = app(tmp_path, host_names=[NAME], rate_limit={"requests": 3, "seconds": 60}, version_path="/version?x=1")
    other = app(tmp_path, "other", slots=limited["slots"])
    with running(tmp_path, limited, other, **BEHIND_A_PROXY) as edge:
        to_it = {"Host": NAME}
        assert asked(edge, ONE, 5, headers=to_it) == [200, 200, 200, 429, 429]
        answer, text = edge.get("/x", X_Forwarded_For=ONE, **to_it)
        assert (answer.headers["Retry-After"], said(text)) == ("60", "These are too many requests at once; wait 60 s.")
        text = edge.get("/x", X_Forwarded_For=ONE, Accept="application/json", **to_it)[1]
        assert said(text) == "too many requests"
        assert counted(edge, "addresses_links") == {f"::ffff:{ONE}": 3}, "what was refused does not count"
        assert asked(edge, f"::ffff:{ONE}", headers=to_it) == [429], "the same one"
        assert asked(edge, OTHER, 3, headers=to_it) == [200] * 3
        assert asked(edge, "2001:db8::1", 2, headers=to_it) + asked(edge, "2001:db8::f:2", 2, headers=to_it) == [
            200
        ] * 3 + [429]
        assert asked(edge, "2001:db8:0:1::1", headers=to_it) == [200], "of another customer"
        assert [edge.get("/x", **to_it)[0].status for _ in range(5)] == [200] * 5, "the proxy itself"
        probing = {"X_Slipway_Probe": "1", **to_it}
        assert (
            asked(edge, ONE, 4, "/readyz", headers=probing) + asked(edge, ONE, 4, "/version", headers=probing)
            == [200] * 8
        )
        assert asked(edge, ONE, 1, "/x", headers=probing) + asked(edge, ONE, 1, "/readyz", headers=to_it) == [429, 429]
        assert asked(edge, ONE, 5) == [200] * 5, "of the other app"


def test_the_probe_is_limited_to_what_a_probe_asks(slots: dict[str, Slot], tmp_path: Path) -> None:
    assert Role("haproxy").value("__haproxy_probe_rate") == MOST_RATE
    limited = app(tmp_path, rate_limit={"requests": 1, "seconds": 60})
    with running(tmp_path, limited, __haproxy_probe_rate=0.05, **BEHIND_A_PROXY) as edge:
        assert asked(edge, ONE, 5, "/readyz", headers={"X-Slipway-Probe": "1"}) == [200] * 3 + [429] * 2


class Reads(answering("blue")):  # type: ignore[misc]
    """Reads a body to its end before it answers."""

    def do_POST(self) -> None:  # noqa: N802 - the name of the base class
        self.rfile.read(int(self.headers["Content-Length"]))
        super().do_GET()


def test_who_sends_a_body_for_ever_takes_no_more_turns_than_one_address_may(
    slots: dict[str, Slot], tmp_path: Path
) -> None:
    """More than a buffer holds, so that it is in the app, and no timeout ends it, since something comes all the time.

    Two slots have a turn each.
    """
    for slot in slots.values():
        slot.server.RequestHandlerClass = Reads
    limited = app(tmp_path, max_connections=1, max_wait=1, rate_limit={"requests": 1000, "seconds": 60, "at_once": 1})
    begun = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nX-Forwarded-For: {}\r\n\r\n" + "x" * 50000

    def begins(client: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", edge.port), PATIENCE)
        connection.sendall(begun.format(client).encode())
        return connection

    def in_the_app() -> int:
        lines = csv.DictReader(edge.ask("show stat").lstrip("# ").splitlines())
        return sum(int(line["scur"]) for line in lines if line["pxname"] == "app_links" and line["svname"] == "BACKEND")

    with running(tmp_path, limited, **BEHIND_A_PROXY) as edge, ExitStack() as open_:
        slow = open_.enter_context(begins(ONE))
        wait_for(lambda: in_the_app() == 1)
        for _ in range(3):
            slow.sendall(b"x")
            again = open_.enter_context(begins(ONE))
            assert again.recv(12) == b"HTTP/1.1 429"
            assert asked(edge, OTHER) == [200], "there is a turn left"
            wait_for(lambda: has_none_under_way(edge, OTHER))
        open_.enter_context(begins(OTHER))
        wait_for(lambda: in_the_app() == 2)
        assert asked(edge, "203.0.113.9") == [503], "it takes as many addresses as there are turns"
        assert not has_none_under_way(edge, ONE)
        slow.close()
        wait_for(lambda: in_the_app() == 1 and has_none_under_way(edge, ONE))
        assert asked(edge, ONE) == [200]


def test_a_rate_by_a_header(slots: dict[str, Slot], tmp_path: Path) -> None:
    limited = app(tmp_path, rate_limit={"requests": 2, "seconds": 60, "key": "X-Api-Key"})
    with running(tmp_path, limited, haproxy_private_networks=[], **BEHIND_A_PROXY) as edge:
        assert asked(edge, ONE, 2, headers={"X-Api-Key": "a"}) + asked(edge, OTHER, 1, headers={"X-Api-Key": "a"}) == [
            200,
            200,
            429,
        ]
        assert asked(edge, ONE, 3, headers={"X-Api-Key": "b"}) == [200, 200, 429]
        assert asked(edge, ONE, 3) == [200, 200, 429], "without a key by the address"
        assert "X-Api-Key" not in edge.ask("show table keys_links")
        assert len(counted(edge, "keys_links")) == 2


def hashed(password: str) -> str:
    """As its sentence of refusal and docs/protection.md have it made."""
    said = subprocess.run(["openssl", "passwd", "-6", password], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_only_these_networks_may_ask(slots: dict[str, Slot], tmp_path: Path) -> None:
    closed = app(
        tmp_path, host_names=[NAME], allowed_networks=["203.0.113.0/29", "2001:db8::/32"], health_path="/up?x=1"
    )
    other = app(tmp_path, "other", slots=closed["slots"])
    with running(tmp_path, closed, other, **BEHIND_A_PROXY) as edge:
        to_it = {"Host": NAME}
        assert asked(edge, ONE, headers=to_it) + asked(edge, "2001:db8::1", headers=to_it) == [200, 200]
        answer, text = edge.get("/x", X_Forwarded_For=OTHER, **to_it)
        assert (answer.status, said(text)) == (403, "This is not open to your address.")
        assert edge.get("/x", **to_it)[0].status == 403, "not the proxy either, which may tell nobody's address"
        assert asked(edge, OTHER, path="/up?x=1", headers=to_it) == [200], "who looks after it"
        assert asked(edge, OTHER, path="/upx", headers=to_it) + asked(edge, OTHER, path="/up/", headers=to_it) == [
            403,
            403,
        ]
        assert post(edge, b"", **{"X-Forwarded-For": OTHER, **to_it})[0] == 403
        assert asked(edge, OTHER) == [200], "of the other app"


def test_a_password_is_asked_for_and_stays_at_the_edge(slots: dict[str, Slot], tmp_path: Path) -> None:
    users = {"review": hashed("correct horse"), "ops@example.org": hashed("battery staple")}
    with running(tmp_path, app(tmp_path, basic_auth=users, version_path="/version")) as edge:
        answer, text = edge.get("/x")
        assert (answer.status, said(text)) == (401, "A name and a password are needed.")
        assert answer.headers["WWW-Authenticate"] == "Basic realm=links"
        for user, password in (("review", "battery staple"), ("nobody", "correct horse"), ("review", "")):
            assert edge.get("/x", **basic(user, password))[0].status == 401
        for user, password in (("review", "correct horse"), ("ops@example.org", "battery staple")):
            answer, text = edge.get("/x", **basic(user, password))
            assert answer.status == 200
            assert "authorization" not in text.lower()
        assert [edge.get(path)[0].status for path in ("/readyz", "/version?x=1", "/readyz/x", "/")] == [
            200,
            200,
            401,
            401,
        ]
        assert "authorization" in edge.get("/readyz", **basic("review", "other"))[1].lower(), "not the edge's password"
        forget_log(edge)
        edge.get("/last", **basic("review", "correct horse"))
        while (line := edge.logged())["path"] != "/last":
            pass
        assert not any(secret in json.dumps(line) for secret in ("review", "horse", "$6$", "Basic"))


def test_a_balancer_hands_the_password_on_to_hosts_that_ask_for_it(slots: dict[str, Slot], tmp_path: Path) -> None:
    users = {"review": hashed("correct horse")}
    (tmp_path / "balancer").mkdir()
    with running(
        tmp_path, app(tmp_path, basic_auth=users, allowed_networks=["203.0.113.0/29"]), **BEHIND_A_PROXY
    ) as host:
        servers = {"web1": f"127.0.0.1:{host.port}"}
        before = {"name": "links", "servers": servers, "basic_auth": users}
        with running(tmp_path / "balancer", before, **BEHIND_A_PROXY) as balancer:
            wait_for(lambda: asked(balancer, ONE, headers=basic("review", "correct horse")) == [200])
            assert asked(balancer, ONE) + asked(balancer, OTHER, headers=basic("review", "correct horse")) == [401, 403]
            assert statuses(balancer) == {"web1": "UP"}, "its checks pass"


def test_programs_that_say_who_they_are_are_refused(slots: dict[str, Slot], tmp_path: Path) -> None:
    closed = app(tmp_path, host_names=[NAME], blocked_agents=["GPTBot", "wget/1 (x; +y)"], health_path="/up?x=1")
    with running(tmp_path, closed, app(tmp_path, "public", slots=closed["slots"])) as edge:

        def by(agent: str, path: str = "/x", name: str = NAME) -> int:
            return edge.get(path, Host=name, User_Agent=agent)[0].status

        assert by("Mozilla/5.0 (compatible; gptbot/1.3; +https://openai.com/gptbot)") == by("WGET/1 (X; +Y)") == 403
        assert by("Mozilla/5.0 (X11; Linux x86_64; rv:140.0)") == by("wget/2") == by("") == 200
        assert edge.get("/x", Host=NAME)[0].status == 200, "one that says nothing"
        assert by("GPTBot", "/up") == 200, "who looks whether the app is well"
        assert by("GPTBot", name="other.example.org") == 200, "the other app"
        answer, text = edge.get("/x", Host=NAME, User_Agent="GPTBot", Accept="application/json")
        assert (answer.status, said(text)) == (403, "not allowed")


def test_a_site_that_no_search_engine_is_to_show(slots: dict[str, Slot], tmp_path: Path) -> None:
    staging = app(tmp_path, host_names=[NAME], robots=False, basic_auth={"review": hashed("correct horse")})
    public = app(tmp_path, "public", slots=staging["slots"], robots=True)
    with running(tmp_path, staging, public) as edge:
        answer, text = edge.get("/robots.txt", Host=NAME)
        assert (answer.status, text) == (200, "User-agent: *\nDisallow: /\n")
        for headers in ({}, basic("review", "correct horse")):
            assert edge.get("/x", Host=NAME, **headers)[0].headers["X-Robots-Tag"] == "noindex, nofollow"
        answer, text = edge.get("/robots.txt")
        assert "slot" in text, "the other app's own"
        assert "X-Robots-Tag" not in answer.headers


class Types(answering("blue")):  # type: ignore[misc]
    """A slot whose answer has the headers that the query has; events come one by one, once each was taken."""

    taken = threading.Semaphore(0)

    def do_GET(self) -> None:  # noqa: N802 - the name of the base class
        self.send_response(200)
        for name, value in parse_qsl(urlsplit(self.path).query):
            self.send_header(name, value)
        if self.path.startswith("/events"):
            self.end_headers()
            self.close_connection = True
            for _ in range(3):
                self.wfile.write(b"data: 1\n\n")
                assert self.taken.acquire(timeout=PATIENCE)
            return
        self.send_header("Content-Length", str(len(LONG)))
        self.end_headers()
        self.wfile.write(LONG)


LONG = b'{"items": [' + b"1, " * 2000 + b"1]}"
JSON, GZIP = "/x?Content-Type=application/json%3B+charset%3Dutf-8", {"Accept_Encoding": "br, gzip"}


def fetched(edge: Edge, path: str, **headers: str) -> tuple[http.client.HTTPMessage, bytes]:
    """Headers and the body as it comes."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.headers, answer.read()
    finally:
        connection.close()


def test_answers_of_some_types_are_compressed_for_who_takes_that(slots: dict[str, Slot], tmp_path: Path) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Types
    with running(tmp_path, app(tmp_path, compression=["Application/JSON", "text/css"])) as edge:
        headers, body = fetched(edge, f'{JSON}&ETag="a"', **GZIP)
        assert (headers["Content-Encoding"], headers["ETag"]) == ("gzip", 'W/"a"'), "not the bytes that it named"
        assert "Accept-Encoding" in headers["Vary"]
        assert len(body) < len(LONG) / 10
        assert gzip.decompress(body) == LONG
        for path, asked_with in (
            (JSON, {}),
            (JSON, {"Accept_Encoding": "br"}),
            ("/x?Content-Type=text/html", GZIP),
            (f"{JSON}&Cache-Control=no-transform", GZIP),
        ):
            headers, body = fetched(edge, path, **asked_with)
            assert "Content-Encoding" not in headers, path
            assert body == LONG
        headers, body = fetched(edge, f"{JSON}&Content-Encoding=br", **GZIP)
        assert (headers["Content-Encoding"], body) == ("br", LONG), "the app did it itself"


def test_events_come_as_they_are_sent_where_others_are_compressed(slots: dict[str, Slot], tmp_path: Path) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Types
    with running(tmp_path, app(tmp_path, compression=["application/json", "text/css"])) as edge:
        connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
        connection.request("GET", "/events?Content-Type=text/event-stream", headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        for _ in range(3):
            assert answer.read(9) == b"data: 1\n\n"
            Types.taken.release()
        connection.close()


def test_what_a_host_has_compressed_its_balancer_hands_on(slots: dict[str, Slot], tmp_path: Path) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Types
    types: dict[str, Any] = {"compression": ["application/json"]}
    (tmp_path / "balancer").mkdir()
    with running(tmp_path, app(tmp_path, **types)) as host:
        servers = {"name": "links", "servers": {"web1": f"127.0.0.1:{host.port}"}, "health_path": "/x", **types}
        with running(tmp_path / "balancer", servers) as balancer:
            headers, body = fetched(balancer, JSON, **GZIP)
    assert headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == LONG, "once"


class Busy:
    """How many requests a slot has at a time, and until when it keeps them."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.goes_on = threading.Event()
        self._lock = threading.Lock()
        busy = self

        class Handler(answering("busy")):  # type: ignore[misc]
            def do_GET(self) -> None:  # noqa: N802 - the name of the base class
                if self.path != "/slow":
                    super().do_GET()
                    return
                with busy._lock:
                    busy.now += 1
                    busy.most = max(busy.most, busy.now)
                busy.goes_on.wait(PATIENCE)
                with busy._lock:
                    busy.now -= 1
                super().do_GET()

        self.handler = Handler


def test_an_app_gets_what_it_can_do_and_the_others_wait(slots: dict[str, Slot], tmp_path: Path) -> None:
    busy = Busy()
    slots["blue"].server.RequestHandlerClass = busy.handler
    with running(tmp_path, app(tmp_path, max_connections=2)) as edge, ThreadPoolExecutor(8) as clients:
        edge.ask("set server app_links/green state drain")
        asking = [clients.submit(edge.get, "/slow") for _ in range(8)]
        wait_for(lambda: busy.now == 2 and waiting(edge) == 6)
        assert statuses_of_slots(edge)["blue"] == "UP", "checks do not wait for a turn"
        busy.goes_on.set()
        assert {one.result()[0].status for one in asking} == {200}
    assert busy.most == 2


def test_whoever_waits_gets_the_slot_that_comes(slots: dict[str, Slot], tmp_path: Path) -> None:
    """As in a release: the full one is drained, and the other one gets what waits."""
    busy = Busy()
    slots["blue"].server.RequestHandlerClass = busy.handler
    with running(tmp_path, app(tmp_path, max_connections=1)) as edge, ThreadPoolExecutor(3) as clients:
        edge.ask("set server app_links/green state drain")
        asking = [clients.submit(edge.get, "/slow") for _ in range(3)]
        wait_for(lambda: busy.now == 1 and waiting(edge) == 2)
        wait_for(lambda: runtime(edge).servers()["green"].answers)
        runtime(edge).set_state("blue", "drain", beside="green")
        wait_for(lambda: sum(one.done() for one in asking) == 2)
        assert {json.loads(one.result()[1])["slot"] for one in asking if one.done()} == {"green"}
        busy.goes_on.set()
        assert {one.result()[0].status for one in asking} == {200}


def test_the_wait_is_shorter_only_where_an_app_has_a_limit(tmp_path: Path) -> None:
    """A piece of another inventory, made before, has the limit and counts on what was everybody's."""
    role = Role("haproxy")
    assert "timeout queue 10s\n" in role.render("edge.cfg.j2")
    assert "timeout queue" not in role.render("app.cfg.j2", app=app(tmp_path))
    assert "timeout queue 3s\n" in role.render("app.cfg.j2", app=app(tmp_path, max_connections=2))


def test_whoever_waits_too_long_is_told_to_come_again(slots: dict[str, Slot], tmp_path: Path) -> None:
    busy = Busy()
    for slot in slots.values():
        slot.server.RequestHandlerClass = busy.handler
    limited = app(tmp_path, max_connections=1)
    with running(tmp_path, limited, __haproxy_queue_timeout=1) as edge, ThreadPoolExecutor(3) as clients:
        asking = [clients.submit(edge.get, "/slow") for _ in range(3)]
        wait_for(lambda: any(one.done() for one in asking))
        (answer, _), *others = [one.result() for one in asking if one.done()]
        assert (answer.status, answer.headers["Retry-After"], others) == (503, "5", [])
        busy.goes_on.set()
        assert sorted(one.result()[0].status for one in asking) == [200, 200, 503]


def waiting(edge: Edge) -> int:
    """How many requests wait for a slot."""
    rows = [line.split(",") for line in edge.ask("show stat").splitlines() if line.startswith("app_links,")]
    return sum(int(row[2]) for row in rows if row[1] == "BACKEND")


def statuses_of_slots(edge: Edge) -> dict[str, str]:
    rows = [line.split(",") for line in edge.ask("show stat").splitlines() if line.startswith("app_links,")]
    return {row[1]: row[17] for row in rows}
