"""What the edge shows of TLS to whoever looks closely: a real HAProxy, and testssl.sh."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.templates.test_haproxy import PATIENCE, Edge, Slot, app, slots, wait_for

__all__ = ["slots"]  # fixtures
NAME = "shop.example.org"
KEY = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


@dataclass(frozen=True)
class Authority:
    """Issues certificates of 90 days, as an authority of the web does."""

    directory: Path

    @property
    def file(self) -> Path:
        return self.directory / "ca.pem"

    def openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)

    def start(self) -> None:
        self.openssl(
            "req", "-x509", "-newkey", *KEY, "-nodes", "-days", "3650",
            "-subj", "/CN=Test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", "ca.key", "-out", "ca.pem",
        )  # fmt: skip

    def issue(self, name: str, use: str = "serverAuth", days: int = 90, key: tuple[str, ...] = KEY) -> str:
        """Chain and key for a name, or for an address."""
        kind = "IP" if name.rpartition(".")[2].isdigit() else "DNS"
        (self.directory / "leaf.cnf").write_text(
            f"subjectAltName={kind}:{name}\ncrlDistributionPoints=URI:http://crl.example.org/\nextendedKeyUsage={use}\nkeyUsage=critical,digitalSignature\n"
            "basicConstraints=critical,CA:false\nauthorityKeyIdentifier=keyid\n"
        )
        self.openssl(
            "req", "-newkey", *key, "-nodes", "-subj", f"/CN={name}",
            "-keyout", "leaf.key", "-out", "leaf.csr",
        )  # fmt: skip
        self.openssl(
            "x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", str(days),
            "-extfile", "leaf.cnf", "-out", "leaf.pem",
        )  # fmt: skip
        return "".join((self.directory / file).read_text() for file in ("leaf.pem", "ca.pem", "leaf.key"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    found = Authority(tmp_path_factory.mktemp("authority"))
    found.start()
    return found


@pytest.fixture
def edge(slots: dict[str, Slot], authority: Authority, tmp_path: Path) -> Iterator[Edge]:
    found = Edge(
        tmp_path, haproxy_apps=[app(tmp_path, host_names=[NAME])], haproxy_tls_certificate=authority.issue(NAME)
    )
    found.start()
    yield found
    found.stop()


def found_by_testssl(edge: Edge, authority: Path, *checks: str) -> dict[str, tuple[str, str]]:
    """Severity and words of each finding of testssl.sh, by its id. Nothing is asked of DNS or of the web."""
    report = edge.directory / "testssl.json"
    report.unlink(missing_ok=True)
    subprocess.run(
        ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--ip", "127.0.0.1",
         "--add-ca", str(authority), "--jsonfile", str(report), *checks, f"https://{NAME}:{edge.tls_port}"],
        check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=20 * PATIENCE,
    )  # fmt: skip
    return {entry["id"]: (entry["severity"], entry["finding"]) for entry in json.loads(report.read_text())}


def bad(found: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {name: said for name, said in found.items() if said[0] in {"MEDIUM", "HIGH", "CRITICAL"}}


@pytest.mark.parametrize(
    ("offered", "version", "asked"),
    [(("h2", "http/1.1"), "h2", "2"), (("http/1.1",), "http/1.1", "1.1"), ((), None, "")],
)
def test_http_2_is_for_who_offers_it(edge: Edge, offered: tuple[str, ...], version: str | None, asked: str) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if offered:
        context.set_alpn_protocols(list(offered))
    with (
        socket.create_connection(("127.0.0.1", edge.tls_port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname=NAME) as tls,
    ):
        assert tls.selected_alpn_protocol() == version
    if not asked:
        return
    spoken = subprocess.run(
        ["curl", "-sk", f"--http{asked}", "-o", "/dev/null", "-w", "%{http_version} %{http_code}", "--resolve",
         f"{NAME}:{edge.tls_port}:127.0.0.1", f"https://{NAME}:{edge.tls_port}/x"],
        check=True, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert spoken.stdout == f"{asked} 200"


def test_an_address_has_a_certificate_of_ones_own_authority(
    slots: dict[str, Slot], authority: Authority, tmp_path: Path
) -> None:
    """As docs/https.md says, since no client of the distribution orders one. Who asks for an address says no name."""
    address = "127.0.0.1"
    edge = Edge(
        tmp_path, haproxy_apps=[app(tmp_path, host_names=[address])], haproxy_tls_certificate=authority.issue(address)
    )
    edge.start()
    try:
        wait_for(lambda: edge.get("/", Host=address)[0].status == 308)
        context = ssl.create_default_context(cafile=str(authority.file))
        connection = http.client.HTTPSConnection(address, edge.tls_port, timeout=PATIENCE, context=context)
        wait_for(lambda: _status(connection, "/x") == 200)
        connection.close()
    finally:
        edge.stop()


def _status(connection: http.client.HTTPSConnection, path: str) -> int:
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


PROTOCOLS, CIPHERS, SECRECY, PREFERENCE, DEFAULTS, VULNERABILITIES = "-p", "-s", "-f", "-P", "-S", "-U"


def test_testssl_finds_nothing(edge: Edge, authority: Authority) -> None:
    found = found_by_testssl(edge, authority.file, PROTOCOLS, CIPHERS, SECRECY, PREFERENCE, DEFAULTS, VULNERABILITIES)
    assert bad(found) == {}
    assert {"TLS1_3", "cipherlist_AVERAGE", "cipher_order", "cert_chain_of_trust", "heartbleed"} <= set(found)
    assert found["PFS_ECDHE_curves"][1] == "prime256v1 secp384r1 X25519", "testssl.sh 3.0 knows no hybrid group"


def test_testssl_finds_what_is_wrong(slots: dict[str, Slot], authority: Authority, tmp_path: Path) -> None:
    """What the test above relies on, and why the order of ciphers is the edge's."""
    edge = Edge(tmp_path, haproxy_apps=[app(tmp_path)], haproxy_tls_certificate=authority.issue(NAME))
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        configuration.read_text().replace("no-tls-tickets", "no-tls-tickets prefer-client-ciphers")
    )
    edge.start()
    try:
        assert set(bad(found_by_testssl(edge, authority.file, PREFERENCE))) == {"cipher_order"}
    finally:
        edge.stop()
