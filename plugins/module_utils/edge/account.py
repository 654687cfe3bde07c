"""An account with an authority that takes only whom it knows already (RFC 8555, 7.3.4, external account binding).

It is made here, since lego (4.9) takes the key of the binding as an argument, which everybody on a host can read while
it runs. lego finds the account where it keeps its own, and needs the key no more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

from ..host import command
from ..host.durable import write_durably
from ..host.errors import SlipwayError
from ..host.reading import object_of

# Seconds for one request, and how often one is sent whose nonce the authority does not take (RFC 8555, 6.5).
PATIENCE, TRIES = 20.0, 6
_JOSE = "application/jose+json"
_LENGTH = 32  # bytes of each number of a point and of a signature of P-256
_BAD_NONCE = "urn:ietf:params:acme:error:badNonce"
_CREATED = (200, 201)


class Unbound(SlipwayError):
    """The authority made no account; the text has its words."""


@dataclass(frozen=True)
class Binding:
    """What the authority gave to whoever has an account with it by other means."""

    kid: str
    hmac: str = field(repr=False)

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Optional[Binding]:
        return cls(str(values["kid"]), str(values["hmac"])) if values else None

    @property
    def key(self) -> bytes:
        """Authorities give it as base64url, with or without its padding."""
        return base64.urlsafe_b64decode(self.hmac.rstrip("=") + "=" * (-len(self.hmac.rstrip("=")) % 4))


def directory_of(home: Path, authority: str, email: str) -> Path:
    """Where lego keeps an account, below its --path."""
    return home / "accounts" / urlsplit(authority).netloc.replace(":", "_") / email


def is_there(home: Path, authority: str, email: str) -> bool:
    return (directory_of(home, authority, email) / "account.json").is_file()


def damage(home: Path, authority: str, email: str) -> str:
    """What is wrong with an account that is there, and what to do; empty where nothing is. lego dies of such a one."""
    place = directory_of(home, authority, email)
    record, key = place / "account.json", place / "keys" / f"{email}.key"
    path = record
    try:
        if record.is_file():
            object_of(record.read_text(encoding="utf-8"))
        path = key
        if key.is_file():
            _openssl(["pkey", "-in", str(key), "-noout"])
    except (OSError, ValueError, Unbound):
        return (
            f"{path} is damaged, which is of the account with {authority}; move the account away (mv {place} "
            f"{place}.damaged), and the next order makes another one; where the authority takes only whom it "
            "knows, haproxy_acme_eab must be right for that"
        )
    return ""


def make(home: Path, authority: str, email: str, binding: Binding, ca_file: str = "") -> None:
    """Have an account with a key of its own, where lego looks for it.

    Args:
        home: lego's --path
        authority: address of the directory
        email: whom the authority may write to
        binding: of this authority
        ca_file: certificates of a private authority, believed beside those of the host

    Raises Unbound with the authority's words, CommandError and OSError.
    """
    place = directory_of(home, authority, email)
    key = place / "keys" / f"{email}.key"
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = key.with_name(f".{key.name}")
    try:
        _openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(new)])
        new.chmod(0o600)
        uri = _Session(authority, _Key(new), ca_file).register(email, binding)
        new.replace(key)
    finally:
        new.unlink(missing_ok=True)
    registration = {"body": {"status": "valid", "contact": [f"mailto:{email}"]}, "uri": uri}
    write_durably(place / "account.json", json.dumps({"email": email, "registration": registration}), mode=0o600)


def _openssl(arguments: list[str]) -> None:
    ran = command.run(["openssl", *arguments], PATIENCE)
    if ran.returncode:
        raise Unbound(f"openssl made no key of an account: {ran.said[-300:]}")


def _text(raw: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def signed(protected: Mapping[str, Any], payload: bytes, sign: Callable[[bytes], bytes]) -> dict[str, str]:
    """A flattened JSON web signature (RFC 7515, 7.2.2)."""
    head, body = _text(_json(protected)), _text(payload)
    return {"protected": head, "payload": body, "signature": _text(sign(f"{head}.{body}".encode()))}


def numbers_in(signature: bytes) -> bytes:
    """The two numbers of a signature as openssl writes it (a DER sequence), one after the other (RFC 7518, 3.4)."""
    found, at = b"", 2
    for _ in range(2):
        length = signature[at + 1]
        found += signature[at + 2 : at + 2 + length].lstrip(b"\0").rjust(_LENGTH, b"\0")
        at += 2 + length
    return found


class _Key:
    """The private key in a file, used by openssl, since Python has nothing for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        public = self._by_openssl("public", ["pkey", "-in", str(path), "-pubout", "-outform", "DER"])
        x, y = public[-2 * _LENGTH : -_LENGTH], public[-_LENGTH:]
        self.public = {"crv": "P-256", "kty": "EC", "x": _text(x), "y": _text(y)}

    def sign(self, text: bytes) -> bytes:
        said = self._path.with_name(".said")
        try:
            said.write_bytes(text)
            return numbers_in(self._by_openssl("signature", ["dgst", "-sha256", "-sign", str(self._path)], str(said)))
        finally:
            said.unlink(missing_ok=True)

    def _by_openssl(self, what: str, arguments: list[str], *read: str) -> bytes:
        out = self._path.with_name(f".{what}")
        try:
            _openssl([*arguments, "-out", str(out), *read])
            return out.read_bytes()
        finally:
            out.unlink(missing_ok=True)


class _Session:
    """What is said to one authority. Raises Unbound."""

    def __init__(self, authority: str, key: _Key, ca_file: str) -> None:
        self._authority, self._key = authority, key
        self._trusted = ssl.create_default_context()
        if ca_file:
            self._trusted.load_verify_locations(ca_file)
        self._nonce = ""

    def register(self, email: str, binding: Binding) -> str:
        """The address of an account that was made."""
        places = self._asked(self._authority)[1]
        try:
            url, nonces = str(places["newAccount"]), str(places["newNonce"])
        except (KeyError, TypeError):
            raise Unbound(f"{self._authority} is no directory of an authority") from None
        outer = {"alg": "HS256", "kid": binding.kid, "url": url}
        bound = signed(
            outer, _json(self._key.public), lambda text: hmac.new(binding.key, text, hashlib.sha256).digest()
        )
        wanted = {"termsOfServiceAgreed": True, "contact": [f"mailto:{email}"], "externalAccountBinding": bound}
        status: int = 0
        answer: Any = {}
        for _ in range(TRIES):
            if not self._nonce:
                self._asked(nonces)
            head = {"alg": "ES256", "jwk": self._key.public, "nonce": self._nonce, "url": url}
            self._nonce = ""
            status, answer, location = self._asked(url, _json(signed(head, _json(wanted), self._key.sign)))
            if status in _CREATED and location:
                return location
            if not (isinstance(answer, dict) and answer.get("type") == _BAD_NONCE):
                break
        raise Unbound(_why(status, answer))

    def _asked(self, url: str, body: Optional[bytes] = None) -> tuple[int, Any, str]:
        """Status, content and Location of an answer; by HTTPS, whatever the address begins with."""
        place = urlsplit(url)
        connection = http.client.HTTPSConnection(place.netloc, timeout=PATIENCE, context=self._trusted)
        try:
            path = f"{place.path}?{place.query}" if place.query else place.path
            headers = {"User-Agent": "slipway", "Content-Type": _JOSE}
            connection.request("POST" if body else "GET", path, body, headers)
            answer = connection.getresponse()
            content = answer.read(1 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise Unbound(f"{url} gave no answer ({str(error) or type(error).__name__})") from None
        finally:
            connection.close()
        self._nonce = answer.headers.get("Replay-Nonce") or self._nonce
        return answer.status, _read(content), answer.headers.get("Location") or ""


def _read(content: bytes) -> Any:
    try:
        return json.loads(content or b"{}")
    except ValueError:
        return {}


def _why(status: int, answer: Any) -> str:
    """In the words of a problem document (RFC 7807), as lego writes it."""
    known = answer if isinstance(answer, dict) else {}
    return f"acme: error: {status} :: {known.get('type', 'no reason given')} :: {known.get('detail', '')}".rstrip(" :")
