# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Asks a registry what an image is, without Docker.

OCI distribution specification 1.1 and Docker's Registry HTTP API V2; logins as in Docker's "Token Authentication".
Only Python's own library, since a host may be the one that asks (clients on PyPI want packages that hosts lack).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass, field
from typing import Any, Callable, Mapping, Optional, Union

from ..host.errors import SlipwayError
from ..host.reading import object_of
from ..host.shown import head

DOCKER_HUB = "docker.io"
_DOCKER_HUB_API = "registry-1.docker.io"
# The name under which Docker keeps a login to its own registry.
_DOCKER_HUB_LOGIN = "https://index.docker.io/v1/"

LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Bytes. The specification asks registries to take manifests of 4 MiB at least.
_LARGEST = 8 << 20
_PIECE = 1 << 16
# Images in one list.
_MOST = 50
# Seconds for a word of the registry, and for all of an answer.
_TIMEOUT, _LONGEST = 20.0, 60.0
# Seconds before each try of a registry that is busy or broken, and the longest that it may ask for.
_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 10.0

_DIGEST = re.compile(r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_REPOSITORY = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$")
_REGISTRY = re.compile(r"^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?$")
# RFC 6750, section 2.1.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CHALLENGE = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

CA_VARIABLE = "fastapi_image_registry_ca_file"
LOGIN_VARIABLES = "fastapi_image_registry_user and fastapi_image_registry_password"


class RegistryError(SlipwayError):
    """The registry does not give the image; the text names registry, image and mend."""


class RegistryUnreachable(RegistryError):
    """Nobody answered, so nothing is known about the image."""


@dataclass(frozen=True)
class Reference:
    """An image name in its parts: a tag, a digest, or both (the digest counts)."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """Without tag and digest, as Docker says it."""
        if self.registry != DOCKER_HUB:
            return f"{self.registry}/{self.repository}"
        return self.repository.removeprefix("library/")

    @property
    def wanted(self) -> str:
        return self.digest or self.tag

    def at(self, digest: str) -> str:
        """The name of exactly this content."""
        return f"{self.name}@{digest}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The parts of an image name. Raises RegistryError for what is none, or has neither tag nor digest."""
    rest, _, digest = text.partition("@")
    first, slash, path = rest.partition("/")
    named = bool(slash) and (any(letter in first for letter in ".:") or first == "localhost")
    registry, repository = (first, path) if named else (DOCKER_HUB, rest)
    repository, _, tag = repository.partition(":")
    if registry in ("index.docker.io", _DOCKER_HUB_API):
        registry = DOCKER_HUB
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    reference = Reference(registry, repository, tag, digest)
    if not (_REGISTRY.fullmatch(registry) and _REPOSITORY.fullmatch(repository)):
        raise RegistryError(
            f"{text!r} is no image name; write REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:..., the "
            "repository in lower case"
        )
    if not (tag or digest) or (tag and not _TAG.fullmatch(tag)) or (digest and not _DIGEST.fullmatch(digest)):
        raise RegistryError(
            f"{text!r} has neither a tag nor a digest that a registry could have; write "
            f"{reference.name}:TAG or {reference.name}@sha256:... with 64 hexadecimal digits"
        )
    return reference


@dataclass(frozen=True)
class Login:
    """A user of a registry, and what else it takes to talk to it. The password is not in its repr."""

    user: str = ""
    password: str = field(default="", repr=False)
    # PEM text of authorities that count besides the system's own.
    authorities: str = field(default="", repr=False)

    def header(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def docker_config(self, registry: str) -> str:
        """The text of Docker's config.json with this login alone."""
        key = _DOCKER_HUB_LOGIN if registry == DOCKER_HUB else registry
        auth = self.header().partition(" ")[2]
        return json.dumps({"auths": {key: {"auth": auth}} if self.user else {}})


@dataclass(frozen=True)
class Resolved:
    """What a name stood for when the registry was asked."""

    digest: str
    # Bytes of the layers as they travel (packed), by architecture as Docker says it: amd64, arm64, arm ...
    sizes: dict[str, int]

    @property
    def architectures(self) -> list[str]:
        return sorted(self.sizes)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Answer:
    """One answer of a registry, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def errors(self) -> str:
        """What the registry says is wrong, in one line."""
        try:
            found = object_of(self.body)["errors"]
            said = "; ".join(f"{item.get('code')}: {item.get('message')}" for item in found)
        except (ValueError, KeyError, TypeError, AttributeError):
            said = head(" ".join(self.body.decode(errors="replace").split()), 200)
        return said or http.client.responses.get(self.status, "")


class Registry:
    """One registry, asked about one repository.

    Args:
        reference: the image
        login: who asks, and whom to trust
        who: the machine that asks, for messages
        sleep: waits between tries
    """

    def __init__(
        self,
        reference: Reference,
        login: Optional[Login] = None,
        who: str = "the controller",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._reference = reference
        self._login = login or Login()
        self._who = who
        self._sleep = sleep
        self._authorization = ""
        https = urllib.request.HTTPSHandler(context=self._context())
        self._opener = urllib.request.build_opener(https, _StaysEncrypted)

    def resolve(self) -> Resolved:
        """The digest of the image and what it is made for.

        Raises:
            RegistryUnreachable: nobody answered
            RegistryError: the registry has it not, does not let us in, is not trusted, or hands out other content
        """
        wanted = self._reference
        answer = self._manifest(wanted.wanted)
        digest = self._verified(answer, wanted.digest)
        manifest = self._document(answer.body)
        kind = str(manifest.get("mediaType") or _header(answer, "Content-Type").partition(";")[0].strip())
        if kind in LISTS:
            return Resolved(digest, self._of_list(manifest))
        if kind in MANIFESTS:
            return Resolved(digest, dict([self._of_image(manifest)]))
        raise self._wrong(
            f"is of the type {kind[:200] or 'unknown'}, which is no image; push it again with a Docker of this decade"
        )

    def _of_list(self, manifest: dict[str, Any]) -> dict[str, int]:
        """The size of each image for Linux; others (Windows, attestations) are not what a host runs."""
        sizes: dict[str, int] = {}
        for item in _objects(manifest.get("manifests")):
            platform = _object(item.get("platform"))
            architecture = str(platform.get("architecture", ""))
            if platform.get("os") == "linux" and architecture not in sizes:
                if len(sizes) == _MOST:
                    raise self._wrong(f"is a list of more than {_MOST} architectures, which nobody builds for")
                digest = self._digest(item)
                answer = self._manifest(digest)
                self._verified(answer, digest)
                sizes[architecture] = _size(self._document(answer.body))
        if not sizes:
            raise self._wrong("is a list without an image for Linux; build it for linux/amd64 or linux/arm64")
        return sizes

    def _of_image(self, manifest: dict[str, Any]) -> tuple[str, int]:
        digest = self._digest(_object(manifest.get("config")))
        answer = self._get(f"blobs/{digest}", "application/octet-stream")
        if answer.status != 200:
            raise self._refused(answer, f"has no configuration {digest} any more; push the image again")
        self._verified(answer, digest)
        config = self._document(answer.body)
        if config.get("os") not in (None, "", "linux"):
            raise self._wrong(f"is made for {str(config['os'])[:200]}; build it for Linux")
        return str(config.get("architecture", "")), _size(manifest)

    def _digest(self, item: Mapping[str, Any]) -> str:
        """What a description names. Raises RegistryError where that is no digest."""
        digest = str(item.get("digest"))
        if not _DIGEST.fullmatch(digest):
            raise self._wrong(f"names a part by {digest[:200]!r}, which is no digest; push the image again")
        return digest

    def _manifest(self, name: str) -> Answer:
        answer = self._get(f"manifests/{name}", ", ".join((*LISTS, *MANIFESTS)))
        if answer.status == 200:
            return answer
        raise self._refused(
            answer,
            f"has no {'digest' if ':' in name else 'tag'} {name} of {self._reference.name}; look whether it was "
            "pushed, and whether fastapi_image_name is right",
        )

    def _refused(self, answer: Answer, missing: str) -> RegistryError:
        if answer.status == 404:
            return RegistryError(f"the registry {self._reference.registry} {missing} ({answer.errors()})")
        return RegistryError(
            f"the registry {self._reference.registry} answered {answer.status} when asked for {self._reference}: "
            f"{answer.errors()}; its own log tells more. Try again when it is well"
        )

    def _verified(self, answer: Answer, wanted: str) -> str:
        """The digest of what came. Raises RegistryError where it is not what was asked for or promised."""
        promised = wanted or _header(answer, "Docker-Content-Digest")
        algorithm = promised.partition(":")[0] if _DIGEST.fullmatch(promised) else "sha256"
        came = f"{algorithm}:{hashlib.new(algorithm, answer.body).hexdigest()}"
        if promised not in ("", came):
            raise self._wrong(
                f"does not match its digest: {promised} was asked for, {came} came. The registry or something on the "
                "way hands out other content; do not deploy it, and push the image again from where it was built"
            )
        return came

    def _document(self, body: bytes) -> dict[str, Any]:
        try:
            return object_of(body)
        except ValueError as error:
            raise self._wrong(
                f"is described by something else than JSON ({error}); is this address a registry?"
            ) from None

    def _wrong(self, words: str) -> RegistryError:
        return RegistryError(f"{self._reference} of the registry {self._reference.registry} {words}")

    def _get(self, path: str, accept: str) -> Answer:
        """Ask, log in where that is wanted, and ask again."""
        url = f"{self._base()}/v2/{self._reference.repository}/{path}"
        answer = self._ask(url, accept, self._authorization)
        if answer.status == 401:
            self._authorization = self._answer_to(_header(answer, "WWW-Authenticate"))
            answer = self._ask(url, accept, self._authorization)
        if answer.status in (401, 403):
            raise self._no_entry(answer)
        return answer

    def _answer_to(self, challenge: str) -> str:
        """What to send as `Authorization` where a registry asks for it. Raises RegistryError when we have nothing."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._login.user:
            return self._login.header()
        if scheme.lower() == "bearer":
            return f"Bearer {self._token(dict(_CHALLENGE.findall(rest)))}"
        raise self._no_entry(None)

    def _token(self, challenge: dict[str, str]) -> str:
        """Ask the registry's token service, as Docker does."""
        realm = challenge.get("realm", "")
        if not _is_private(realm):
            raise RegistryError(
                f"the registry {self._reference.registry} sends logins to {realm[:200] or 'nowhere'}, which is not "
                "HTTPS; the password was not sent. Correct the `realm` in the registry's configuration"
            )
        query = {"scope": challenge.get("scope") or f"repository:{self._reference.repository}:pull"}
        if challenge.get("service"):
            query["service"] = challenge["service"]
        url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(query)}"
        answer = self._ask(url, "application/json", self._login.header() if self._login.user else "")
        if answer.status in (401, 403):
            raise self._no_entry(answer)
        found = self._document(answer.body) if answer.status == 200 else {}
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryError(
                f"the token service {realm} of the registry {self._reference.registry} answered {answer.status} "
                f"without a token: {answer.errors()}"
            )
        return token

    def _no_entry(self, answer: Optional[Answer]) -> RegistryError:
        said = f" ({answer.errors()})" if answer and answer.body else ""
        registry, image = self._reference.registry, self._reference
        if self._login.user:
            return RegistryError(
                f"the registry {registry} does not let {self._login.user} have {image}{said}: the password is wrong, "
                f"or that user may not read the repository, or there is none of this name. Look at {LOGIN_VARIABLES}"
            )
        return RegistryError(
            f"the registry {registry} wants a login for {image}{said}, or has no such repository. Set "
            f"{LOGIN_VARIABLES}, the password in the vault"
        )

    def _ask(self, url: str, accept: str, authorization: str) -> Answer:
        """One question, asked again a few times of a registry that is busy or broken."""
        for pause in _PAUSES:
            answer = self._ask_once(url, accept, authorization)
            if isinstance(answer, Answer) and not _is_trouble(answer):
                return answer
            self._sleep(_pause(answer, pause))
        answer = self._ask_once(url, accept, authorization)
        if isinstance(answer, Answer):
            return answer
        raise RegistryUnreachable(
            f"{urllib.parse.urlsplit(url).netloc} broke off the connection ({answer}) when {self._who} asked for "
            f"{self._reference}; look at the registry's own log"
        )

    def _ask_once(self, url: str, accept: str, authorization: str) -> Union[Answer, Exception]:
        request = urllib.request.Request(url, headers={"Accept": accept, "User-Agent": "slipway"})  # noqa: S310 - https
        if authorization:
            # Not sent along to where the registry keeps its blobs, when it answers with a redirection.
            request.add_unredirected_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                return _read(response.status, response)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error.code, error)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionResetError):
                return error.reason
            raise self._out_of_reach(url, error.reason) from error
        except (ConnectionResetError, http.client.HTTPException) as error:
            return error
        except ValueError as error:  # an address to which nobody can be sent
            raise RegistryError(
                f"the registry {self._reference.registry} sends to an address that is none ({error}); correct its "
                "configuration, or that of the proxy in front of it"
            ) from error
        except OSError as error:
            raise self._out_of_reach(url, error) from error

    def _out_of_reach(self, url: str, reason: Union[str, BaseException]) -> RegistryError:
        place = urllib.parse.urlsplit(url).netloc
        if isinstance(reason, ssl.SSLCertVerificationError):
            return RegistryError(
                f"the certificate of {place} is not trusted ({reason.verify_message}), so {self._reference} was not "
                f"asked for. Where an authority of your own signed it, name its PEM file with {CA_VARIABLE}"
            )
        if isinstance(reason, ssl.SSLError):
            return RegistryError(
                f"{place} does not speak TLS as it should ({reason.reason or reason}), so {self._reference} was not "
                "asked for. A registry without TLS cannot be used here: give it a certificate"
            )
        why = "it did not answer in time" if isinstance(reason, (socket.timeout, TimeoutError)) else str(reason)
        return RegistryUnreachable(
            f"{self._who} cannot reach the registry {place} for {self._reference}: {why}. Look whether the registry "
            "runs, and at the name, the firewall and the proxy variables"
        )

    def _base(self) -> str:
        registry = self._reference.registry
        return f"https://{_DOCKER_HUB_API if registry == DOCKER_HUB else registry}"

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._login.authorities:
            try:
                context.load_verify_locations(cadata=self._login.authorities)
            except ssl.SSLError as error:
                raise RegistryError(f"the file that {CA_VARIABLE} names holds no PEM certificate: {error}") from error
        return context


def authorities(path: str) -> str:
    """The text of a PEM file, empty for an empty path. Raises RegistryError that names the variable."""
    if not path:
        return ""
    try:
        with open(path, encoding="ascii") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{CA_VARIABLE} is {path}, which cannot be read: {error}; name a PEM file") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise RegistryError(f"{CA_VARIABLE} is {path}, which holds no PEM certificate; name the authority's PEM file")
    return text


class _StaysEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to where everybody on the way could answer in the registry's place."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not _is_encrypted(newurl):
            fp.close()
            raise RegistryError(
                f"the registry {urllib.parse.urlsplit(req.full_url).netloc} redirects to {newurl[:200]}, which is not "
                "HTTPS; it was not followed. Correct the registry's configuration, or that of the proxy in front of it"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_encrypted(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        return False


def _is_private(url: str) -> bool:
    """Whether nobody on the way reads what is sent there: it is encrypted, or never leaves this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        return _is_encrypted(url) or (parts.scheme == "http" and _is_local(parts.hostname or ""))
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    """Whether a name means this machine: one that only begins like an address of it does not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_trouble(answer: Answer) -> bool:
    return answer.status == 429 or answer.status >= 500


def _pause(answer: Union[Answer, Exception], usual: float) -> float:
    """Seconds until the next try: what the registry asks for, within reason."""
    asked = _header(answer, "Retry-After") if isinstance(answer, Answer) else ""
    return min(float(asked), _LONGEST_PAUSE) if asked.isdecimal() and asked.isascii() else usual


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _size(manifest: Mapping[str, Any]) -> int:
    sizes = (layer.get("size") for layer in _objects(manifest.get("layers")))
    return sum(size for size in sizes if type(size) is int and size > 0)


def _header(answer: Answer, name: str) -> str:
    return answer.headers.get(name.lower(), "")


def _read(status: int, response: Any) -> Answer:
    until, body = time.monotonic() + _LONGEST, b""
    # One that sends a byte now and then never runs into the limit of a single read.
    while len(body) <= _LARGEST and (piece := response.read1(_PIECE)):
        body += piece
        if time.monotonic() > until:
            raise TimeoutError(f"it has sent {len(body)} bytes in {_LONGEST:.0f} s")
    if len(body) > _LARGEST:
        raise RegistryError(
            f"{response.geturl()} is larger than {_LARGEST >> 20} MiB, which no description of an image is"
        )
    return Answer(status, {name.lower(): value for name, value in response.headers.items()}, body)
