"""With which variables no edge can be run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import wrong_values

from tests.unit.inputs.saying import says


def slots(name: str, **more: Any) -> dict[str, Any]:
    sockets = {slot: f"/run/slipway/{name}/{slot}/app.sock" for slot in ("blue", "green")}
    return {"name": name, "slots": sockets, **more}


def servers(**addresses: str) -> dict[str, Any]:
    return {"name": "links", "servers": addresses}


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN EC PRIVATE KEY-----\nx\n-----END EC PRIVATE KEY-----\n"
SHA512 = "$6$AVxbm24HR5C1HbaA$" + "h" * 86
SHA256 = "$5$rounds=1000$.bRfFdub$" + "2" * 43
BCRYPT = "$2b$12$" + "a" * 53
RIGHT: dict[str, Any] = {
    "haproxy_apps": [slots("links")],
    "haproxy_client_timeout": "75",
    "haproxy_log_sample": "1",
    "haproxy_private_paths": ["/metrics", "/x/~y"],
    "haproxy_private_networks": ["127.0.0.0/8", "::1"],
    "haproxy_maintenance_passes": [],
    "haproxy_trusted_proxies": ["10.0.0.1", "fd00::/8"],
    "haproxy_proxy_protocol": [],
    "haproxy_maintenance": ["links"],
    "haproxy_tls_certificate": "",
    "haproxy_acme_email": "",
    "haproxy_tls_hsts": "auto",
    "haproxy_client_ca_file": "",
    "haproxy_floating_addresses": [],
    "haproxy_floating_balancers": [],
}


INTERNAL = {"haproxy_apps": [slots("links", client_certificate_paths=["/internal"])]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of an authority, PEM."""
    found = tmp_path_factory.mktemp("authority")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=Clients", "-keyout", "ca.key", "-out", "ca.pem"],
        cwd=found, check=True, capture_output=True,
    )  # fmt: skip
    return (found / "ca.pem").read_text()


def test_paths_that_need_a_certificate(authority: str, tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.write_text(authority)
    right = {"haproxy_client_ca_file": str(there), "haproxy_tls_certificate": CERTIFICATE + KEY}
    alone = RIGHT | INTERNAL | {"haproxy_trusted_proxies": []}
    says("haproxy", alone | right)
    says("haproxy", alone | right | {"haproxy_client_ca_file": ""}, "needs haproxy_client_ca_file")
    says("haproxy", alone | right | {"haproxy_tls_certificate": ""}, "needs TLS at this edge")
    says("haproxy", alone, "needs haproxy_client_ca_file", "has the certificate set haproxy_trusted_proxies to its")
    says("haproxy", RIGHT | INTERNAL)  # a balancer says who has shown one
    says("haproxy", RIGHT | INTERNAL | right | {"haproxy_client_ca_file": ""}, "needs haproxy_client_ca_file")
    for path in ("internal", "/internal/", "/a b", "/a/../b", "//", ""):
        wrong = {"haproxy_apps": [slots("links", client_certificate_paths=[path])]}
        says("haproxy", RIGHT | right | wrong, f'client_certificate_paths in haproxy_apps): "{path}" cannot be a path')
    says("haproxy", RIGHT | right | {"haproxy_apps": [slots("links", client_certificate_paths=["/", "/a/~b"])]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"<p>Back at 5\xc2\xa0pm, 100 % sure: REQUEST_ID</p>", []),
        (b"x" * (12 << 10), []),
        (b"x" * 12_000 + b"%" * 200, ["has 12400 bytes (a percent sign counts twice), and HAProxy has room for 12288"]),
        (b" \n", ["is empty; put the page there"]),
        (b"caf\xe9", ["is not in UTF-8, as which it is shown; save it so"]),
        (None, ["is no file that this machine can read; correct the path"]),
    ],
)
def test_a_page_of_the_app_s_own_is_read_before_anything_is_changed(
    text: bytes | None, said: list[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    if text is not None:
        page.write_bytes(text)
    where = f"fastapi_app_maintenance_page of links (maintenance_page in haproxy_apps): {page} "
    given = {"haproxy_apps": [slots("links", maintenance_page=str(page))]}
    says("haproxy", RIGHT | given, *(f"{where}{words}" for words in said))


def test_authorities_of_clients_are_looked_at_before_they_get_anywhere(authority: str, tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    for text, said in (
        (f"# Der Verbände\n{authority}", []),
        (authority * 2, []),
        ("", ["ca.pem has no certificate (PEM), or one that cannot be read"]),
        (CERTIFICATE, ["one that cannot be read; put the authorities there"]),
        (authority + CERTIFICATE, ["one that cannot be read"]),
        (authority + authority[:-40], ["one that cannot be read"]),
        (authority + KEY, ["ca.pem has a private key in it, which would be on every host"]),
    ):
        there.write_text(text)
        says("haproxy", RIGHT | {"haproxy_client_ca_file": str(there)}, *said)
    for path in ("/nowhere", str(tmp_path)):
        says("haproxy", RIGHT | {"haproxy_client_ca_file": path}, f"haproxy_client_ca_file: {path} is no file that")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"haproxy_client_timeout": 74}, ["haproxy_client_timeout (74) must be at least the longest server_timeout"]),
        ({"haproxy_log_sample": 100}, []),
        *(({"haproxy_tls_hsts": value}, []) for value in (True, False, "False", 0, 600, "31536000")),
        ({"haproxy_tls_hsts": "ever"}, ["haproxy_tls_hsts is ever; use auto, true, false, or the seconds"]),
        ({"haproxy_tls_hsts": -1}, ["haproxy_tls_hsts is -1"]),
        ({"haproxy_log_sample": 0}, ["haproxy_log_sample is 0; use the number of good answers of which one is logged"]),
        ({"haproxy_private_paths": ["metrics"]}, ["a path begins with a slash"]),
        ({"haproxy_private_paths": ["/metrics/"]}, ["does not end with one"]),
        ({"haproxy_private_networks": ["everybody"]}, ["such as 10.0.0.0/8, not everybody."]),
        ({"haproxy_proxy_protocol": ["10.0.0.1\n"]}, ["10.0.0.0/8"]),
        ({"haproxy_maintenance": ["links", "lonks"]}, ["haproxy_maintenance: lonks is not in haproxy_apps (links)."]),
        ({"haproxy_tls_certificate": CERTIFICATE + KEY}, []),
        ({"haproxy_tls_certificate": CERTIFICATE}, ["the unencrypted private key"]),
        ({"haproxy_tls_certificate": KEY}, ["must hold the certificate"]),
    ],
)
def test_edges_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("haproxy", RIGHT | changed, *said)


@pytest.mark.parametrize(
    ("apps", "said"),
    [
        ([], []),
        ([servers(web1="10.0.0.11:80", web2="fd00::1:80")], []),
        ([slots("links"), slots("other", host_names=["o.example", "p.example"])], []),
        ([slots("other", host_names=["*.example.org"])], []),
        ([slots("other", host_names=["*example.org"])], ["star elsewhere than in *. at its beginning"]),
        ([slots("other", host_names=["a.*.example.org"])], ["star elsewhere than in *. at its beginning"]),
        ([slots("Links")], ["every name must be there once"]),
        ([slots("links\n")], ["every name must be there once"]),
        ([slots("a", host_names=["a.example"]), {**slots("b"), "name": "a"}], ["every name must be there once"]),
        ([{"name": "links"}], ["either slots"]),
        ([{**slots("links"), **servers(web1="10.0.0.11:80")}], ["either slots"]),
        ([{"name": "links", "slots": {"blue": "/x/app.sock"}}], ["the sockets of blue and green"]),
        ([{"name": "links", "slots": {"blue": "/x/1.sock", "green": "/x/2.sock"}}], ["found /x/1.sock, /x/2.sock."]),
        ([servers()], ["found none."]),
        ([servers(web1="10.0.0.1")], ["found 10.0.0.1."]),
        ([{"name": "links", "servers": {"web 1": "10.0.0.1:80"}}], ["servers must name at least one host"]),
        ([slots("links"), slots("other")], ["Without are links, other; the names are none"]),
        (
            [slots("links", host_names=["A.example"]), slots("other", host_names=["a.example"])],
            ["can belong to one app only, or a part of it by `paths`"],
        ),
        (
            [
                slots("links", host_names=["A.example"]),
                slots("other", host_names=["a.example"], paths=["/x"], health_path="/x"),
                slots("third", host_names=["a.example"], paths=["/X"], health_path="/X"),
                slots("fourth", paths=["/x"], health_path="/x"),
                slots("fifth"),
            ],
            [],
        ),
        (
            [
                slots("links", host_names=["A.example"], paths=["/x"], health_path="/x"),
                slots("other", host_names=["a.example"], paths=["/x"], strip_path=True),
            ],
            ["can belong to one app only, or a part of it by `paths`"],
        ),
        (
            [slots("links", paths=["/x"], health_path="/x"), slots("other", paths=["/x"], health_path="/x")],
            ["only one app can do without host_names"],
        ),
        ([slots("links", host_names=["a.example"], paths=["x"])], ['"x" cannot be a path']),
        ([slots("links", host_names=["https://a.example"])], ["without scheme and port"]),
        (
            [slots("notes", host_names=["notes example"])],
            ['fastapi_app_host_names of notes (host_names in haproxy_apps) has "notes example", which has a space'],
        ),
        ([slots("links", host_names=["a.example"], redirect_names=["www.a.example", "b.example"])], []),
        (
            [slots("links", redirect_names=["www.example"])],
            ["fastapi_app_redirect_names of links (redirect_names in haproxy_apps) lead to the first of its host"],
        ),
        ([slots("links", host_names=["*.a.example"], redirect_names=["b.example"])], ["which is *.a.example; set"]),
        ([slots("links", host_names=["a.example"], redirect_names=["*.b.example"])], ["*.b.example cannot lead"]),
        (
            [slots("links", host_names=["a.example"], redirect_names=["b example"])],
            ["b example (has a space or a newline in it) cannot lead anywhere"],
        ),
        ([slots("links", host_names=["a.example"], redirect_names=["http://b"])], ["without scheme, port and star"]),
        ([slots("links", host_names=["a.example"], redirect_names=["A.example"])], ["a.example is a host name of the"]),
        ([slots("links", host_names=["a.example"], redirect_names=["b", "B"])], ["b stands there more than once"]),
        (
            [
                slots("links", host_names=["a.example"], redirect_names=["www.b.example", "b.example"]),
                slots("other", host_names=["b.example"]),
            ],
            ["b.example is a name of other; take it out of one of the two."],
        ),
        ([slots("links", max_body_mib="20")], []),
        ([slots("links", max_body_mib=-1)], ["fastapi_app_max_body_mib of links (max_body_mib in haproxy_apps) is -1"]),
        (
            [slots("links", max_wait=0)],
            ["fastapi_app_max_wait of links (max_wait in haproxy_apps) is 0; use the seconds"],
        ),
        ([slots("links", max_wait="601")], ["from 1 to 600"]),
        ([slots("links", max_wait="600")], []),
        ([slots("links", max_connections=-2)], ["use what a slot does at a time, or 0 for no limit"]),
        ([slots("links", rate_limit={})], []),
        ([slots("links", rate_limit={"requests": "100", "seconds": 10, "key": "X-Api-Key"})], []),
        (
            [slots("links", rate_limit={"requests": 0, "seconds": 1.5})],
            [
                "requests is 0; use a whole number from 1 to 1000000",
                "seconds is 1.5; use a whole number from 1 to 3600",
            ],
        ),
        (
            [slots("links", rate_limit={"requests": 5, "second": 1})],
            ["has second; known are requests, seconds, at_once and key", "seconds is null"],
        ),
        ([slots("links", rate_limit={"requests": 5, "seconds": 1, "at_once": 20})], []),
        (
            [slots("links", rate_limit={"requests": 5, "seconds": 1, "at_once": 0})],
            ["at_once is 0; use a whole number"],
        ),
        ([slots("links", rate_limit={"requests": 5, "seconds": 1, "key": "a b"})], ['key is "a b"; use address']),
        ([slots("links", allowed_networks=["203.0.113.0/24", "2001:db8::/32", "192.0.2.1"], robots=False)], []),
        (
            [slots("links", allowed_networks=["10.0.0.0/33", "office"])],
            ["takes networks such as 203.0.113.0/24, not 10.0.0.0/33, office."],
        ),
        ([slots("links", blocked_agents=["GPTBot", "python-requests/2", "Chrome/49."])], []),
        (
            [slots("links", blocked_agents=["*bot*", "ab", 'a"b"c', "a b\n", "$HOME"])],
            [r'"*bot*", "ab", "a\"b\"c", "a b\n", "$HOME" cannot be looked for'],
        ),
        (
            [slots("links", blocked_agents=["mozilla", "Android", "GPTBot"])],
            ["mozilla, Android is in what browsers say, so users would be refused"],
        ),
        ([slots("links", compression=["Text/CSS", "image/svg+xml", "application/vnd.api+json"])], []),
        ([slots("links", compression=["json", "text/*", "text/"])], ["in full, not json, text/*, text/."]),
        (
            [slots("links", compression=["text/event-stream", "text/event", "image/png", "font/woff2", "text/html"])],
            ["text/event-stream, text/event, image/png, font/woff2 is compressed already, or must not wait"],
        ),
        ([slots("links", basic_auth={"review": SHA256, "ops@example.org": SHA512})], []),
        (
            [slots("links", basic_auth={"re view": SHA512})],
            ['basic_auth in haproxy_apps): "re view" cannot be the name'],
        ),
        (
            [slots("links", basic_auth={"a": "hunter2", "b": BCRYPT, "c": SHA512 + "x", "d": None, "e": SHA512})],
            ["the value of a, b, c, d is no hash of a password that the edge takes; make one by `openssl passwd -6`"],
        ),
        (
            [slots("links", basic_auth={"a": SHA512}, health_path="/?full=1")],
            ["would leave the page / open to everybody"],
        ),
        ([slots("links", allowed_networks=["10.0.0.0/8"], version_path="/")], ["set fastapi_app_version_path to a"]),
        (
            [slots("links", client_certificate_paths=["/a", "/"], health_path="/?full=1")],
            ["fastapi_app_client_certificate_paths of links (client_certificate_paths in haproxy_apps) would leave"],
        ),
        ([slots("links", client_certificate_paths=["/a"], health_path="/")], []),
        ([slots("links", ports={"blue": 20010, "green": 20011})], []),
        ([slots("links", ports={"blue": 80})], ['ports of links are {"blue": 80}; use numbers from 1024 to 32767']),
        (
            [slots("links", ports={"blue": 20010}), slots("other", host_names=["o.example"], ports={"green": 20010})],
            ["links and other have the same port 20010 of the host for a slot; give one of them `ports` of its own"],
        ),
        ([slots("links", server_timeout="76")], ["haproxy_apps (76)"]),
        ([slots("links", health_path="/ready z")], ["health_path of links is /ready z; use a path that begins"]),
        ([slots("links", health_path="readyz")], ["health_path of links is readyz"]),
        ([slots("links", health_path="/health/?full=1&x=y")], []),
        ([slots("links", health_statuses=["200-299", 401])], []),
        ([slots("links", health_statuses=["2xx"])], ["health_statuses of links is 2xx; use statuses such as 200"]),
        ([slots("links", health_statuses=[])], ["health_statuses of links is empty"]),
    ],
)
def test_apps_that_cannot_be_behind_an_edge(apps: list[dict[str, Any]], said: list[str]) -> None:
    says("haproxy", RIGHT | {"haproxy_apps": apps, "haproxy_maintenance": []}, *said)


def test_no_hash_and_no_password_is_shown() -> None:
    users = {"a": "hunter2hunter2", "b": SHA512 + "x"}
    found = wrong_values("haproxy", (RIGHT | {"haproxy_apps": [slots("links", basic_auth=users)]}).__getitem__)
    assert "a, b" in " ".join(found)
    assert not any(text in " ".join(found) for text in ("hunter2", "hhh"))
