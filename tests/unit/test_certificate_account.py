"""An account that is bound to another one, with an authority that verifies every signature and turns nonces away."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import account, lego
from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import Settings
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

KEY, OTHER = (
    base64.urlsafe_b64encode(text).decode() for text in (b"a key of the authority, 32 bytes", b"not that key")
)
EMAIL = "ops@example.org"


def plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    return int.from_bytes(plain(text), "big")


@dataclass
class Authority:
    """Knows one key, by RFC 8555 and RFC 7515 as the library for cryptography verifies them."""

    url: str = ""
    ca_file: Path = Path()
    turned_away: int = 2
    nonces: list[str] = field(default_factory=list)
    accounts: list[dict[str, Any]] = field(default_factory=list)

    def nonce(self) -> str:
        self.nonces.append(f"nonce-{len(self.nonces)}")
        return self.nonces[-1]

    def account(self, sent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        head, wanted = json.loads(plain(sent["protected"])), json.loads(plain(sent["payload"]))
        assert (head["alg"], head["url"]) == ("ES256", f"{self.url}/account")
        raw, jwk = plain(sent["signature"]), head["jwk"]
        assert len(raw) == 64
        signature = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        public = ec.EllipticCurvePublicNumbers(number(jwk["x"]), number(jwk["y"]), ec.SECP256R1()).public_key()
        public.verify(signature, f"{sent['protected']}.{sent['payload']}".encode(), ec.ECDSA(hashes.SHA256()))
        assert head["nonce"] == self.nonces[-1], "the last one, once"
        if self.turned_away:
            self.turned_away -= 1
            return 400, {"type": "urn:ietf:params:acme:error:badNonce", "detail": "again"}
        bound = wanted["externalAccountBinding"]
        assert json.loads(plain(bound["protected"])) == {"alg": "HS256", "kid": "kid-1", "url": head["url"]}
        assert json.loads(plain(bound["payload"])) == jwk
        text = f"{bound['protected']}.{bound['payload']}".encode()
        if plain(bound["signature"]) != hmac.new(plain(KEY), text, hashlib.sha256).digest():
            return 403, {"type": "urn:ietf:params:acme:error:unauthorized", "detail": "no such key"}
        self.accounts.append(wanted)
        return 201, {"status": "valid"}


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    found = Authority(ca_file=tmp_path / "ca.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key.pem"),
         "-out", str(found.ca_file)],
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def answer(self, status: int, content: dict[str, Any], **headers: str) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Replay-Nonce": found.nonce(), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            places = {"newAccount": f"{found.url}/account", "newNonce": f"{found.url}/nonce"}
            self.answer(200, places if self.path == "/dir" else {})

        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/jose+json"
            status, content = found.account(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(status, content, Location=f"{found.url}/account/1")

        def log_message(self, *_: object) -> None:
            """Nothing, as other tests say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.ca_file, tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found.url = f"https://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


def settings(authority: Authority, state: Path, key: str = KEY) -> Settings:
    return Settings(
        email=EMAIL, directory="staging", fallback_directory=f"{authority.url}/dir", listen="127.0.0.1:402",
        certificates="", https_map="", socket="", state=str(state), token="", pieces="", ca_file=str(authority.ca_file),
        fallback_eab={"kid": "kid-1", "hmac": key},
    )  # fmt: skip


def test_the_account_is_where_lego_looks_and_lego_never_gets_the_key(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], dict[str, str]]] = []
    really = command.run

    def run(argv: list[str], *rest: Any, **more: Any) -> Ran:
        if argv[0] != "lego":
            return really(argv, *rest, **more)
        asked.append((argv, rest[1]))
        return Ran(tuple(argv), 1, "no")

    monkeypatch.setattr(command, "run", run)
    given = settings(authority, tmp_path)
    for _ in range(2):
        with pytest.raises(lego.OrderFailed):
            lego.order(given, given.authorities()[1], "a.example", 10)
    (wanted,) = authority.accounts
    assert (wanted["termsOfServiceAgreed"], wanted["contact"]) == (True, [f"mailto:{EMAIL}"])
    (home,) = (tmp_path / "lego").iterdir()
    place = home / "accounts" / authority.url.removeprefix("https://").replace(":", "_") / EMAIL
    found = json.loads((place / "account.json").read_text())
    assert found["registration"] == {
        "body": {"status": "valid", "contact": [f"mailto:{EMAIL}"]},
        "uri": f"{authority.url}/account/1",
    }
    kept = place / "keys" / f"{EMAIL}.key"
    assert [path for path in place.rglob("*") if path.is_file()] == [place / "account.json", kept]
    assert kept.read_text().startswith("-----BEGIN EC PRIVATE KEY-----"), "as lego reads it"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert all("--eab" in argv and KEY not in argv and KEY not in environment.values() for argv, environment in asked)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]
    with pytest.raises(lego.OrderFailed):
        lego.order(given, given.authorities()[0], "a.example", 10)
    assert "--eab" not in asked[-1][0], "of the other authority nothing is known"


def test_what_the_authority_says_of_a_wrong_key_and_no_account_is_left(authority: Authority, tmp_path: Path) -> None:
    given = settings(authority, tmp_path, key=OTHER)
    with pytest.raises(lego.OrderFailed) as refused:
        lego.order(given, given.authorities()[1], "a.example", 10)
    said = str(refused.value)
    assert "made no account that is bound to kid-1: acme: error: 403 :: urn:ietf:params:acme:error:unauthorized" in said
    assert ":: no such key; look at haproxy_acme_eab (haproxy_acme_fallback_eab)" in said
    assert given.fallback_eab["hmac"] not in said
    assert not [path for path in (tmp_path / "lego").rglob("*") if path.is_file()]


def test_an_authority_that_turns_every_nonce_away_is_not_asked_for_ever(authority: Authority, tmp_path: Path) -> None:
    authority.turned_away = 100
    with pytest.raises(account.Unbound, match="badNonce :: again"):
        account.make(tmp_path, f"{authority.url}/dir", EMAIL, account.Binding("kid-1", KEY), str(authority.ca_file))
    assert authority.turned_away == 100 - account.TRIES


def test_one_that_is_not_believed_or_none_is_told(authority: Authority, tmp_path: Path) -> None:
    binding = account.Binding("kid-1", KEY)
    assert KEY not in repr(binding)
    with pytest.raises(account.Unbound, match="gave no answer .*CERTIFICATE_VERIFY_FAILED"):
        account.make(tmp_path, f"{authority.url}/dir", EMAIL, binding)
    with pytest.raises(account.Unbound, match="is no directory of an authority"):
        account.make(tmp_path, f"{authority.url}/else", EMAIL, binding, str(authority.ca_file))


@pytest.mark.parametrize("given", [KEY, KEY.rstrip("="), KEY.rstrip("=") + "=="])
def test_a_key_is_read_with_and_without_its_padding(given: str) -> None:
    assert account.Binding("kid-1", given).key == plain(KEY)


def test_numbers_of_a_signature_have_their_whole_length() -> None:
    for first, second in ((1, 2), (2**255, 2**256 - 1), (5, 2**248)):
        raw = account.numbers_in(utils.encode_dss_signature(first, second))
        assert (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")) == (first, second)
        assert len(raw) == 64
