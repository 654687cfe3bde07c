"""Paths for which a client must show a certificate: a real HAProxy, and certificates of several authorities."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_haproxy import Edge, Slot, app, slots
from tests.templates.test_haproxy_tls import Authority

__all__ = ["slots"]  # fixtures
NAME = "shop.example.org"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Authority]:
    """Of the edge's own certificate, of its clients, and of clients of somebody else."""
    found = {}
    for name in ("public", "clients", "other"):
        found[name] = Authority(tmp_path_factory.mktemp(name))
        found[name].start()
    return found


def limited(directory: Path, authorities: dict[str, Authority], *paths: str, **more: Any) -> Edge:
    return Edge(
        directory,
        haproxy_apps=[app(directory, host_names=[NAME], client_certificate_paths=list(paths), **more)],
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


def get(edge: Edge, path: str, certificate: Path | None = None, **headers: str) -> tuple[int, str]:
    """Status and text of a request by HTTPS, with a certificate where there is one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    connection = http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=10, context=context)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={"Host": NAME, **sent})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def client(directory: Path, authority: Authority, name: str, use: str = "clientAuth", days: int = 90) -> Path:
    found = directory / f"{name}.pem"
    found.write_text(authority.issue(name, use, days))
    return found


def told(text: str) -> dict[str, str]:
    """What the app was told, by names in small letters."""
    return {name.lower(): value for name, value in json.loads(text)["headers"].items()}


@pytest.mark.parametrize("path", ["/internal", "/internal/x", "/%69nternal/x", "/internal%2Fx", "/admin/keys?x=1"])
def test_without_a_certificate_these_paths_are_closed(path: str, edge: Edge) -> None:
    assert get(edge, path) == (403, "A certificate is to be shown for this.")
    assert get(edge, path, Accept="application/json")[1] == '{"status":"certificate needed"}'


@pytest.mark.parametrize("path", ["/", "/internals", "/admin", "/readyz"])
def test_all_else_is_open(path: str, edge: Edge) -> None:
    assert get(edge, path)[0] == 200


def test_the_app_is_told_who_it_was_and_by_nobody_else(
    edge: Edge, authorities: dict[str, Authority], tmp_path: Path
) -> None:
    mine = client(tmp_path, authorities["clients"], "billing")
    status, text = get(edge, "/internal/x", mine, Client_Cert=":AAAA:", X_Client_Cert_Subject="CN=root")
    assert (status, told(text)["x-client-cert-subject"]) == (200, "CN=billing")
    shown = ssl.DER_cert_to_PEM_cert(base64.b64decode(told(text)["client-cert"].strip(":")))
    assert shown in mine.read_text()
    assert told(get(edge, "/x", mine)[1])["x-client-cert-subject"] == "CN=billing"
    _, text = get(edge, "/x", Client_Cert=":AAAA:", X_Client_Cert_Subject="CN=root")
    assert not {"client-cert", "x-client-cert-subject"} & set(told(text))


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
            connection = http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=10, context=context)
            connection.sock = context.wrap_socket(
                socket.create_connection(("127.0.0.1", edge.tls_port), 10), session=session
            )
            connection.request("GET", "/internal", headers={"Host": NAME})
            answers.append((connection.sock.session_reused, connection.getresponse().status))
            session = connection.sock.session
            connection.close()
            assert answers[-1][0] == resumed
    assert [status for _, status in answers] == [403, 403, 200, 200]
