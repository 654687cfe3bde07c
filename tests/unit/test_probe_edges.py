"""Which edges a run asks while hosts turn over, and as whom: by the variables that make them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.edges import Edge, edges_of, stripped

EVERYWHERE = ["0.0.0.0", "[::]"]  # noqa: S104 - nothing listens
NAMES = "DNS:example.test,DNS:*.links.test,IP:192.0.2.9"


def made(directory: Path, names: str) -> str:
    """A certificate with its key, as the vault has it."""
    options = ["-addext", f"subjectAltName={names}"] if names else []
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=edge", "-keyout", "key.pem", "-out", "chain.pem", *options],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return (directory / "chain.pem").read_text() + (directory / "key.pem").read_text()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made(tmp_path_factory.mktemp("named"), NAMES)


def app(*names: str, name: str = "links") -> dict[str, Any]:
    return {"name": name, "host_names": list(names)}


def asked(known: dict[str, Any], **more: Any) -> tuple[str, str]:
    """The URL of web1's edge, and the name that it is asked for."""
    (edge,), wrong = edges_of({"web1": {**known, **more}}, {"web": ["web1"]}, "links")
    assert not wrong
    return edge.url, edge.name


def refused(known: dict[str, Any]) -> str:
    edges, (wrong,) = edges_of({"web1": known}, {"web": ["web1"]}, "links")
    assert not edges
    return wrong


def test_edges_are_the_balancers_where_there_are_some() -> None:
    known = {"web1": {"ansible_host": "192.0.2.1"}, "lb1": {"slipway_url": "https://links.example.com"}, "lb2": {}}
    groups = {"web": ["web1"], "load_balancer": ["lb1", "lb2"]}
    assert edges_of(known, groups, "links") == (
        [Edge("https://links.example.com", "lb1", balances=True), Edge("http://lb2", "lb2", balances=True)],
        [],
    )
    assert edges_of(known, {"web": ["web1"]}, "links") == ([Edge("http://192.0.2.1", "web1")], [])


@pytest.mark.parametrize(
    ("known", "url"),
    [
        ({}, "http://web1"),
        ({"ansible_host": "2001:db8::1"}, "http://[2001:db8::1]"),
        ({"ansible_host": "[2001:db8::1]"}, "http://[2001:db8::1]"),
        ({"ansible_host": "fe80::1%eth0"}, "http://[fe80::1%eth0]"),
        # the address of the operators is not that of the users
        ({"ansible_host": "10.0.0.1", "haproxy_addresses": ["127.0.0.1", "192.0.2.1"]}, "http://192.0.2.1"),
        ({"ansible_host": "10.0.0.1", "haproxy_addresses": ["192.0.2.1", "10.0.0.1"]}, "http://10.0.0.1"),
        ({"ansible_host": "10.0.0.1", "haproxy_addresses": ["[2001:db8::1]"]}, "http://[2001:db8::1]"),
        ({"ansible_host": "10.0.0.1", "haproxy_addresses": EVERYWHERE}, "http://10.0.0.1"),
        ({"ansible_host": "10.0.0.1", "haproxy_addresses": ["*"]}, "http://10.0.0.1"),
        ({"ansible_host": "2001:db8::1", "haproxy_addresses": EVERYWHERE}, "http://[2001:db8::1]"),
        ({"slipway_url": "http://127.0.0.1:8081", "haproxy_addresses": ["127.0.0.1"]}, "http://127.0.0.1:8081"),
    ],
)
def test_addresses(known: dict[str, Any], url: str) -> None:
    assert asked(known) == (url, "")


@pytest.mark.parametrize(
    ("known", "url", "name"),
    [
        ({}, "https://192.0.2.1", "example.test"),
        # the edge answers for the app's names alone
        ({"haproxy_apps": [app("a.test", "b.links.test")]}, "https://192.0.2.1", "b.links.test"),
        ({"haproxy_apps": [app("a.test")]}, "https://192.0.2.1", "a.test"),
        ({"haproxy_apps": [app(name="shop"), app("example.test")]}, "https://192.0.2.1", "example.test"),
        # what the URL says is right already
        ({"ansible_host": "x.links.test"}, "https://x.links.test", ""),
        ({"ansible_host": "192.0.2.9"}, "https://192.0.2.9", ""),
        ({"slipway_url": "https://Example.test", "haproxy_apps": [app("example.test")]}, "https://Example.test", ""),
        ({"slipway_url": "https://lb.internal"}, "https://lb.internal", "example.test"),
        ({"slipway_url": "http://lb.internal:81"}, "http://lb.internal:81", ""),
        ({"slipway_url": "http://lb.internal", "haproxy_apps": [app("a.test")]}, "http://lb.internal", "a.test"),
    ],
)
def test_names_with_tls(certificate: str, known: dict[str, Any], url: str, name: str) -> None:
    assert asked({"ansible_host": "192.0.2.1", **known}, haproxy_tls_certificate=certificate) == (url, name)


def test_names_without_tls() -> None:
    assert asked({"haproxy_apps": [app("Links.example.test")]}) == ("http://web1", "links.example.test")
    assert asked({"haproxy_apps": [app()]}) == ("http://web1", "")
    assert asked({"fastapi_app_host_names": ["Links.example.test"]}) == ("http://web1", "links.example.test")
    assert asked({"fastapi_app_host_names": ["*.links.test"]}) == ("http://web1", "www.links.test")
    assert asked({"haproxy_apps": [app("a.test")], "fastapi_app_host_names": ["b.test"]}) == ("http://web1", "a.test")


def test_a_star_is_one_label(tmp_path: Path) -> None:
    certificate = made(tmp_path, "DNS:*.links.test")
    known = {"haproxy_tls_certificate": certificate}
    assert asked(known, ansible_host="a.b.links.test") == ("https://a.b.links.test", "www.links.test")


def test_the_certificate_is_believed_and_its_key_goes_nowhere(certificate: str) -> None:
    (edge,), _ = edges_of({"web1": {"haproxy_tls_certificate": certificate}}, {"web": ["web1"]}, "links")
    assert edge.trusted.count("BEGIN CERTIFICATE") == 1
    assert "KEY" in certificate
    assert "KEY" not in edge.trusted
    assert "CERTIFICATE" not in repr(edge)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            {"haproxy_addresses": ["127.0.0.1"]},
            "listens on 127.0.0.1 (haproxy_addresses) and not on 10.0.0.1; set slip",
        ),
        ({"ansible_host": "2001:db8::1", "haproxy_addresses": EVERYWHERE[:1]}, "and not on 2001:db8::1"),
        ({"haproxy_addresses": ["[::]"]}, "and not on 10.0.0.1"),
        ({"haproxy_apps": [app(name="shop")]}, "the edge of web1 serves shop and not links (haproxy_apps)"),
        ({"haproxy_tls_certificate": "x"}, "the certificate of web1 (haproxy_tls_certificate) cannot be read"),
    ],
)
def test_what_cannot_be_asked_is_named(known: dict[str, Any], said: str) -> None:
    assert said in refused({"ansible_host": "10.0.0.1", **known})


def test_a_certificate_without_a_name_is_named(tmp_path: Path) -> None:
    assert "names no host (subjectAltName)" in refused({"haproxy_tls_certificate": made(tmp_path, "")})


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://192.0.2.7", "a.test"), ("http://localhost:81", "a.test"), ("https://cdn.example.com", "")],
)
def test_what_an_operator_names_is_asked_as_it_is_named(url: str, name: str) -> None:
    known = {"web1": {"haproxy_apps": [app("a.test")]}}
    assert edges_of(known, {"web": ["web1"]}, "links", [url]) == ([Edge(url, "", name, balances=True)], [])
    assert edges_of({}, {}, "links", [url]) == ([Edge(url, "", "", balances=True)], [])


def test_an_edge_that_orders_certificates_is_asked_by_https_under_the_app_s_name(
    tmp_path: Path, certificate: str
) -> None:
    (tmp_path / "ca.pem").write_text(certificate)
    names = {"fastapi_app_host_names": ["shop.example.org"], "haproxy_acme_email": "ops@example.org"}
    (edge,), _ = edges_of({"web1": names}, {"web": ["web1"]}, "links")
    assert edge == Edge("https://web1", "web1", "shop.example.org"), "an authority that every machine knows"
    private = names | {"haproxy_acme_ca_file": str(tmp_path / "ca.pem")}
    for urls in ([], ["https://192.0.2.1"]):
        (edge,), _ = edges_of({"web1": private}, {"web": ["web1"]}, "links", urls)
        assert edge.trusted.startswith("-----BEGIN CERTIFICATE-----")
        assert "KEY" not in edge.trusted
    gone = names | {"haproxy_acme_ca_file": str(tmp_path / "none.pem")}
    for urls in ([], ["https://192.0.2.1"]):
        found, (wrong,) = edges_of({"web1": gone}, {"web": ["web1"]}, "links", urls)
        assert not found
        assert "haproxy_acme_ca_file of" in wrong


@pytest.mark.parametrize(
    ("known", "prefix"),
    [
        ({}, ""),
        ({"fastapi_app_paths": ["/api", "/v2"]}, ""),
        ({"fastapi_app_paths": ["/api", "/v2"], "fastapi_app_strip_path": "yes"}, "/api"),
        ({"fastapi_app_paths": ["/api"], "fastapi_app_strip_path": "false"}, ""),
        ({"fastapi_app_strip_path": True}, ""),
        ({"haproxy_apps": [{"name": "links", "paths": ["/l"], "strip_path": True}, {"name": "shop"}]}, "/l"),
        ({"haproxy_apps": [{"name": "shop", "paths": ["/l"], "strip_path": True}], "fastapi_app_paths": ["/x"]}, ""),
    ],
)
def test_an_app_that_knows_nothing_of_its_path_is_asked_with_it(known: dict[str, Any], prefix: str) -> None:
    assert stripped(known, "links") == prefix
