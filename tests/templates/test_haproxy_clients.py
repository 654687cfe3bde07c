"""Paths for which a client must show a certificate: a real HAProxy, and certificates of several authorities."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from tests.templates.test_haproxy import PATIENCE, Edge, Slot, app, slots, wait_for
from tests.templates.test_haproxy_paths import served
from tests.templates.test_haproxy_protection import said
from tests.templates.test_haproxy_slow import Serves
from tests.templates.test_haproxy_tls import Authority

__all__ = ["slots"]  # fixtures
NAME = "shop.example.org"
FORGED = {"Client-Cert": ":AAAA:", "X-Client-Cert-Subject": "CN=root"}


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    """Of the edge's own certificate, of its clients, and of clients of somebody else."""
    found = {}
    for name in ("public", "clients", "other"):
        found[name] = Authority(tmp_path_factory.mktemp(name))
        found[name].start()
    return found


def limited(directory: Path, authorities: dict[str, Authority], *paths: str, **more: Any) -> Edge:
    """An edge whose app has these paths; what is not the edge's (haproxy_) is the app's."""
    of_the_edge = {name: more.pop(name) for name in list(more) if name.startswith("haproxy_")}
    own = app(directory, host_names=[NAME], client_certificate_paths=list(paths), **more)
    return Edge(
        directory,
        **{"haproxy_apps": [own], **of_the_edge},
        haproxy_tls_certificate=authorities["public"].issue(NAME),
        haproxy_client_ca_file=str(authorities["clients"].file),
        __haproxy_client_ca=str(authorities["clients"].file),
    )


@pytest.fixture
def edge(slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path) -> Iterator[Edge]:
    found = limited(tmp_path, authorities, "/internal", "/admin/keys")
    found.start()
    yield found
    found.stop()


def tls(certificate: Path | None = None) -> ssl.SSLContext:
    """What a client speaks, with a certificate where there is one."""
    # Without the authorities of the machine, which nobody asks: to read them takes longer than all of a test.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    return context


def status(port: int | Path, request: bytes, context: ssl.SSLContext | None = None) -> int:
    """Of the answer to a request that is sent at once, to a port or the socket of a slot."""
    with socket.socket(socket.AF_UNIX if isinstance(port, Path) else socket.AF_INET) as plain:
        plain.settimeout(PATIENCE)
        plain.connect(str(port) if isinstance(port, Path) else ("127.0.0.1", port))
        connection = context.wrap_socket(plain) if context else plain
        with connection, connection.makefile("rb") as answer:
            connection.sendall(request)
            return int(answer.readline().split()[1])


def get(
    edge: Edge, path: str, certificate: Path | None = None, headers: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, str]:
    """Status and text of a request by HTTPS, with a certificate where there is one."""
    connection = http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=PATIENCE, context=tls(certificate))
    try:
        connection.request("GET", path, headers={"Host": NAME, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def client(directory: Path, authority: Authority, name: str, use: str = "clientAuth", **more: Any) -> Path:
    found = directory / f"{name}.pem"
    found.write_text(authority.issue(name, use, **more))
    return found


def asked(edge: Edge, path: str, headers: Mapping[str, str], address: str = "127.0.0.1") -> tuple[int, str]:
    """Status and text of a request by HTTP, with headers as they are spelled, from an address of loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE, source_address=(address, 0))
    try:
        connection.request("GET", path, headers={"Host": NAME, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@contextmanager
def running(edge: Edge) -> Iterator[Edge]:
    edge.start()
    try:
        yield edge
    finally:
        edge.stop()


def of_a_certificate(text: str) -> set[str]:
    """The headers by which an app was told of one."""
    return {"client-cert", "x-client-cert-subject"} & set(told(text))


def told(text: str) -> dict[str, str]:
    """What the app was told, by names in small letters."""
    return {name.lower(): value for name, value in json.loads(text)["headers"].items()}


@pytest.mark.parametrize("path", ["/internal", "/internal/x", "/%69nternal/x", "/internal%2Fx", "/admin/keys?x=1"])
def test_without_a_certificate_these_paths_are_closed(path: str, edge: Edge) -> None:
    status, text = get(edge, path)
    assert (status, said(text)) == (403, "A certificate is to be shown for this.")
    assert said(get(edge, path, headers={"Accept": "application/json"})[1]) == "certificate needed"


@pytest.mark.parametrize("path", ["/", "/internals", "/admin", "/readyz"])
def test_all_else_is_open(path: str, edge: Edge) -> None:
    assert get(edge, path)[0] == 200


def test_the_app_is_told_who_it_was_and_by_nobody_else(
    edge: Edge, authorities: dict[str, Authority], tmp_path: Path
) -> None:
    mine = client(tmp_path, authorities["clients"], "billing")
    found, text = get(edge, "/internal/x", mine, FORGED)
    assert (found, told(text)["x-client-cert-subject"]) == (200, "CN=billing")
    shown = ssl.DER_cert_to_PEM_cert(base64.b64decode(told(text)["client-cert"].strip(":")))
    assert shown in mine.read_text()
    assert told(get(edge, "/x", mine)[1])["x-client-cert-subject"] == "CN=billing"
    assert not of_a_certificate(get(edge, "/x", headers=FORGED)[1])
    assert get(edge, "/internal/x", headers=FORGED)[0] == 403


def test_no_proxy_is_believed_about_certificates_where_this_edge_checks_them(
    slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path
) -> None:
    with running(limited(tmp_path, authorities, "/internal", haproxy_trusted_proxies=["127.0.0.1"])) as edge:
        assert not of_a_certificate(get(edge, "/x", headers=FORGED)[1])
        assert get(edge, "/internal/x", headers=FORGED)[0] == 403


@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
def test_what_a_wsgi_app_would_take_for_a_header_of_the_edge_never_comes(
    proxies: list[str], slots: dict[str, Slot], tmp_path: Path
) -> None:
    """There HTTP_CLIENT_CERT is Client-Cert as well as Client_Cert."""
    decided = ("CLIENT_CERT", "X_CLIENT_CERT_SUBJECT", "X_FORWARDED_FOR", "X_FORWARDED_PROTO", "SLIPWAY_REPLAY")
    sent = {
        "Client_Cert": ":A:",
        "client_cert": ":B:",
        "X_Client-Cert_Subject": "CN=root",
        "X-Client_Cert-Subject": "a",
    }
    sent |= {"X_Client_Cert_Subject": "CN=root", "X_Forwarded_For": "192.0.2.1", "X-Forwarded_Proto": "https"}
    with running(Edge(tmp_path, haproxy_trusted_proxies=proxies)) as edge:
        text = asked(edge, "/x", {**sent, "Slipway_Replay": "1", "Api_Key": "mine"})[1]
        found = [name for name in json.loads(text)["headers"] if name.upper().replace("-", "_") in decided]
        assert sorted(name.lower() for name in found) == ["x-forwarded-for", "x-forwarded-proto"]
        assert told(text)["api_key"] == "mine", "all else is the app's"
        assert told(text)["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("authority", "wrong"), [("other", {}), ("clients", {"days": -1}), ("clients", {"use": "serverAuth"})]
)
def test_a_certificate_that_is_wrong_opens_nothing(
    authority: str, wrong: dict[str, Any], edge: Edge, authorities: dict[str, Authority], tmp_path: Path
) -> None:
    shown = client(tmp_path, authorities[authority], "billing", **wrong)
    for path in ("/internal", "/x"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(edge, path, shown)


def test_a_whole_app_and_what_looks_after_it(
    slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path
) -> None:
    edge = limited(tmp_path, authorities, "/", version_path="/version")
    edge.start()
    try:
        mine = client(tmp_path, authorities["clients"], "billing")
        assert [get(edge, path)[0] for path in ("/", "/x", "/readyz", "/version", "/readyz/x")] == [
            403, 403, 200, 200, 403,
        ]  # fmt: skip
        assert [get(edge, path, mine)[0] for path in ("/", "/x")] == [200, 200]
        assert edge.get("/x", Host=NAME)[0].status == 308, "by HTTP nobody can show one"
        assert status(edge.tls_port, f"OPTIONS * HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode(), tls()) == 403
    finally:
        edge.stop()


def test_a_session_that_is_resumed_is_whose_it_was(
    edge: Edge, authorities: dict[str, Authority], tmp_path: Path
) -> None:
    """TLS 1.2, whose sessions are known once the handshake has ended."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    answers = []
    for certificate in (None, client(tmp_path, authorities["clients"], "billing")):
        if certificate:
            context.load_cert_chain(certificate)
        session = None
        for resumed in (False, True):
            connection = http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=PATIENCE, context=context)
            connection.sock = context.wrap_socket(
                socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE), session=session
            )
            connection.request("GET", "/internal", headers={"Host": NAME})
            reused, session = connection.sock.session_reused, connection.sock.session
            answer = connection.getresponse()
            answer.read()  # a connection that is closed before is reset, and the edge forgets its session
            answers.append((reused, answer.status))
            connection.close()
            assert answers[-1][0] == resumed
    assert [status for _, status in answers] == [403, 403, 200, 200]


# What a server of files takes for /NAME/x, and paths with a percent sign that is no escape.
ODD = (
    "//NAME/x", "///NAME//x", "/./NAME/x", "/a/../NAME/x", "/a/b/../../NAME/x", "/NAME%2f..%2fNAME/x", "/.%2fNAME/x",
    "/%2e/NAME/x", "/%2fNAME/x", "/a/%2E%2e/%4eAME/x", "/a/.././/NAME/x", "/NAME/./x", "/NAME/y/../x",
)  # fmt: skip
NO_ESCAPE = ("/NAME/%zz", "/NAME/%", "/NAME/a%2", "/NAME/%2%66")


def as_sent(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture(scope="module")
def files(authorities: dict[str, Authority], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """An edge before a real app that serves files: some are private, and some are for those with a certificate."""
    directory = tmp_path_factory.mktemp("files")
    for name in ("NAME", "metrics", "keys", "admin/keys", "open"):
        (directory / "site" / name / "y").mkdir(parents=True)
        for file in ("x", "%zz", "%", "a%2", "%2f"):
            (directory / "site" / name / file).write_text("secret")
    (directory / "site/a/b").mkdir(parents=True)
    (directory / "site/readyz").touch()
    application = FastAPI()
    application.mount("/", StaticFiles(directory=directory / "site"))
    private = {"haproxy_private_paths": ["/metrics"], "haproxy_private_networks": ["192.0.2.0/24"]}
    found = limited(directory, authorities, "/NAME", "/admin/keys", **private)
    with served(application, directory / "links-blue.sock"), running(found):
        yield found


@pytest.fixture(scope="module")
def billing(authorities: dict[str, Authority], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return client(tmp_path_factory.mktemp("billing"), authorities["clients"], "billing")


@pytest.mark.parametrize("path", ODD)
def test_no_way_to_write_a_path_leads_around_it(path: str, files: Edge, billing: Path) -> None:
    assert status(files.directory / "links-blue.sock", as_sent(path)) == 200, "the app serves it"
    assert status(files.tls_port, as_sent(path), tls()) == 403
    assert status(files.tls_port, as_sent(path), tls(billing)) == 200
    private = path.replace("%4eAME", "m%65trics").replace("NAME", "metrics")
    assert status(files.directory / "links-blue.sock", as_sent(private)) == 200
    assert status(files.tls_port, as_sent(private), tls()) == 403
    assert status(files.tls_port, as_sent(path.replace("%4eAME", "open").replace("NAME", "open")), tls()) == 200


@pytest.mark.parametrize("path", NO_ESCAPE)
@pytest.mark.parametrize("name", ["NAME", "metrics", "open"])
def test_a_path_that_the_edge_cannot_decode_is_none(path: str, name: str, files: Edge) -> None:
    asked_for = as_sent(path.replace("NAME", name))
    assert status(files.directory / "links-blue.sock", asked_for) == 200, "the app takes it as it is"
    assert status(files.tls_port, asked_for, tls()) == 400


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/admin//keys/x", 403), ("/admin/./keys/x", 403), ("/admin/y/../keys/x", 403), ("/y/../keys/x", 200),
        ("/open/x?next=/../NAME&part=100%", 200), ("/open//x", 200),
        ("/proxy/https://x.example/metrics", 404), ("/proxy/https://x.example/NAME", 404), ("/a..b/metrics", 404),
    ],
)  # fmt: skip
def test_what_is_no_other_path_stays_open(path: str, expected: int, files: Edge) -> None:
    assert status(files.tls_port, as_sent(path), tls()) == expected


def test_below_a_path_that_is_taken_away_it_is_the_same(
    slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path
) -> None:
    private = {"haproxy_private_networks": ["192.0.2.0/24"]}
    with running(limited(tmp_path, authorities, "/internal", paths=["/api"], strip_path=True, **private)) as edge:
        for path in ("/api/internal", "/api//internal", "/api/./internal", "/api/%2finternal", "/api/a/../internal"):
            assert get(edge, path)[0] == 403
            assert get(edge, path.replace("internal", "metrics"))[0] == 403
            assert get(edge, path.replace("internal", "open"))[0] == 200
        assert get(edge, "/api/%zz")[0] == 400


def test_a_large_certificate_has_room_beside_a_body(
    slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path
) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Serves
    mine = client(tmp_path, authorities["clients"], "billing", key=("rsa:4096",))
    request = f"POST /internal/x HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 100000\r\n\r\n".encode()
    with running(limited(tmp_path, authorities, "/internal")) as edge:
        assert status(edge.tls_port, request + b"x" * 100_000, tls(mine)) == 200
        assert len(told(get(edge, "/internal/x", mine)[1])["client-cert"]) > 1024, "what HAProxy keeps free by itself"


def test_a_host_behind_a_balancer_believes_it_alone(
    slots: dict[str, Slot], authorities: dict[str, Authority], tmp_path: Path
) -> None:
    (tmp_path / "balancer").mkdir()
    paths: dict[str, Any] = {"client_certificate_paths": ["/internal"]}
    mine = client(tmp_path, authorities["clients"], "billing")
    behind = Edge(tmp_path, haproxy_apps=[app(tmp_path, **paths)], haproxy_trusted_proxies=["127.0.0.1"])
    with running(behind) as host:
        servers = {"web1": f"127.0.0.1:{host.port}"}
        before = limited(
            tmp_path / "balancer", authorities, haproxy_apps=[{"name": "links", "servers": servers, **paths}]
        )
        with running(before) as balancer:
            wait_for(lambda: get(balancer, "/x", mine)[0] == 200)
            found, text = get(balancer, "/internal/x", mine, FORGED)
            assert (found, told(text)["x-client-cert-subject"]) == (200, "CN=billing")
            assert [get(balancer, path, headers=FORGED)[0] for path in ("/internal/x", "/x", "//internal/x")] == [
                403, 200, 403,
            ]  # fmt: skip
        for address, headers, expected in (
            ("127.0.0.2", FORGED, 403),
            ("127.0.0.2", {}, 403),
            ("127.0.0.1", {}, 403),
            ("127.0.0.1", {"Client-Cert": "(null)"}, 403),
            ("127.0.0.1", {"Client_Cert": ":AAAA:"}, 403),
            ("127.0.0.1", FORGED, 200),
        ):
            assert asked(host, "/internal/x", headers, address)[0] == expected, (address, headers)
        assert said(asked(host, "/internal/x", FORGED, "127.0.0.2")[1]) == "A certificate is to be shown for this."
        assert not of_a_certificate(asked(host, "/x", FORGED, "127.0.0.2")[1])
        assert asked(host, "/readyz", {}, "127.0.0.2")[0] == 200
        seen = host.ask("show table asked_links")
        assert "key=/x " in seen
        assert "internal" not in seen, "a new release is not asked for it"
