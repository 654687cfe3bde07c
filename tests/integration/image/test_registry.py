"""The registry client against a real registry server, with TLS and a password."""

from __future__ import annotations

import base64
import datetime as dt
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import (
    Login,
    Reference,
    Registry,
    RegistryError,
    RegistryUnreachable,
    Resolved,
    authorities,
    parse,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lab import registry as lab

D64 = "a" * 64


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Registry]:
    with lab.Registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenService]:
    with TokenService.running(tmp_path_factory.mktemp("tokens")) as service:
        yield service


def login(server: lab.Registry, user: str = lab.USER, password: str = lab.PASSWORD) -> Login:
    return Login(user, password, authorities(str(server.ca_file)))


def resolve(server: lab.Registry, name: str, who: Login | None = None) -> Resolved:
    return Registry(parse(f"{server.name}/{name}"), who or login(server), sleep=lambda _: None).resolve()


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("app:1", Reference("docker.io", "library/app", "1")),
        ("team/app:1", Reference("docker.io", "team/app", "1")),
        ("docker.io/team/app:1", Reference("docker.io", "team/app", "1")),
        ("localhost/app:1", Reference("localhost", "app", "1")),
        ("registry.example/team/app:1.2_3-x", Reference("registry.example", "team/app", "1.2_3-x")),
        ("registry.example:5000/app:1", Reference("registry.example:5000", "app", "1")),
        ("[::1]:5000/app:1", Reference("[::1]:5000", "app", "1")),
        (f"r.example/app@sha256:{D64}", Reference("r.example", "app", "", f"sha256:{D64}")),
        (f"r.example/app:1@sha256:{D64}", Reference("r.example", "app", "1", f"sha256:{D64}")),
    ],
)
def test_a_name_in_its_parts(text: str, reference: Reference) -> None:
    assert parse(text) == reference


@pytest.mark.parametrize(
    "text",
    ["", "app", "r.example/app", "r.example/App:1", "r.example/app:", "a/../b:1", "-r.e/a:1", "https://r.example/app:1",
     "r.example/app@sha256:12", "r.example/app:a b"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(RegistryError, match="sha256:"):
        parse(text)


def test_names_as_docker_says_them() -> None:
    assert parse("app:1").at("sha256:x") == "app@sha256:x"
    assert parse("team/app:1").name == "team/app"
    assert str(parse("r.example:5000/app:1")) == "r.example:5000/app:1"


@pytest.mark.parametrize("oci", [True, False])
def test_a_tag_becomes_a_digest(server: lab.Registry, oci: bool) -> None:
    image = lab.Image.of_files({"hello": "world"}, "arm64", oci=oci)
    digest = server.push("team/app", f"oci-{oci}", image)
    assert resolve(server, f"team/app:oci-{oci}") == Resolved(digest, {"arm64": image.size})
    assert resolve(server, f"team/app@{digest}").digest == digest
    assert resolve(server, f"team/app:moved-since@{digest}").digest == digest


def test_a_list_keeps_its_own_digest_and_tells_its_architectures(server: lab.Registry) -> None:
    images = [lab.Image.of_files({"file": name * 99}, name) for name in ("amd64", "arm64")]
    digest = server.push_list("app", "list", images)
    found = resolve(server, "app:list")
    assert found == Resolved(digest, {image.architecture: image.size for image in images})
    assert found.architectures == ["amd64", "arm64"]


def test_a_list_for_other_systems_alone_is_refused(server: lab.Registry) -> None:
    document = json.loads(server.content(server.push_list("app", "windows", [lab.Image.of_files({"a": "b"})])))
    document["manifests"][0]["platform"]["os"] = "windows"
    server.push_manifest("app", "windows", json.dumps(document).encode())
    with pytest.raises(RegistryError, match=r"app:windows .* without an image for Linux"):
        resolve(server, "app:windows")


def test_a_missing_tag_and_a_missing_digest(server: lab.Registry) -> None:
    server.push("app", "there", lab.Image.of_files({"a": "b"}))
    with pytest.raises(RegistryError, match=rf"{server.name} has no tag nowhere of {server.name}/app; look"):
        resolve(server, "app:nowhere")
    with pytest.raises(RegistryError, match=f"has no digest sha256:{D64}"):
        resolve(server, f"app@sha256:{D64}")
    with pytest.raises(RegistryError, match=r"has no tag 1 of .*/no/such"):
        resolve(server, "no/such:1")


def test_a_wrong_password_is_not_told(server: lab.Registry) -> None:
    with pytest.raises(
        RegistryError, match=r"does not let puller have .*/app:1.*fastapi_image_registry_password"
    ) as told:
        resolve(server, "app:1", login(server, password="wrong-and-secret"))
    assert "wrong-and-secret" not in str(told.value)
    assert "wrong-and-secret" not in repr(login(server, password="wrong-and-secret"))


def test_a_missing_login(server: lab.Registry) -> None:
    with pytest.raises(RegistryError, match=r"wants a login for .*/app:1.*fastapi_image_registry_user .*the vault"):
        resolve(server, "app:1", login(server, "", ""))


def test_an_authority_that_nobody_named(server: lab.Registry) -> None:
    with pytest.raises(RegistryError, match=r"is not trusted .*fastapi_image_registry_ca_file"):
        resolve(server, "app:1", Login(lab.USER, lab.PASSWORD))


@pytest.mark.parametrize("text", [None, "nothing", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n"])
def test_a_ca_file_that_is_none(server: lab.Registry, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RegistryError, match="fastapi_image_registry_ca_file"):
        resolve(server, "app:1", Login(lab.USER, lab.PASSWORD, authorities(str(path))))


def test_a_registry_that_is_down(tmp_path: Path) -> None:
    registry = lab.Registry(tmp_path / "down")
    with pytest.raises(RegistryUnreachable, match=f"controller cannot reach the registry {registry.name}.*refused"):
        resolve(registry, "app:1")


def test_a_name_that_nobody_has() -> None:
    with pytest.raises(RegistryUnreachable, match=r"no-registry\.invalid"):
        Registry(parse("no-registry.invalid/app:1")).resolve()


def test_a_manifest_that_is_not_what_its_digest_says(server: lab.Registry) -> None:
    digest = server.push("app", "true", lab.Image.of_files({"a": "true"}))
    other = lab.Image.of_files({"a": "false"})
    server.push("app", "other", other)
    server.corrupt(digest, other.manifest())
    for name in ("app:true", f"app@{digest}"):
        with pytest.raises(RegistryError, match=f"{name}.*does not match its digest: {digest} was asked for"):
            resolve(server, name)


def test_a_configuration_that_is_not_what_its_digest_says(server: lab.Registry) -> None:
    image = lab.Image.of_files({"a": "config"})
    server.push("app", "config", image)
    server.corrupt(lab.sha256(image.config), image.config.replace(b"amd64", b"arm64"))
    with pytest.raises(RegistryError, match="does not match its digest"):
        resolve(server, "app:config")


class TestTokens:
    """The way of Docker Hub, GHCR and others: a token service hands out what the registry takes."""

    def test_with_a_login(self, service: TokenService) -> None:
        digest = service.push("private/app", "1")
        found = resolve(service.registry, "private/app:1")
        assert found.digest == digest
        assert service.asked[-1] == {"scope": ["repository:private/app:pull"], "service": ["lab"]}

    def test_without_one(self, service: TokenService) -> None:
        digest = service.push("public/app", "1")
        assert resolve(service.registry, "public/app:1", login(service.registry, "", "")).digest == digest

    def test_a_wrong_password(self, service: TokenService) -> None:
        with pytest.raises(RegistryError, match="does not let puller have"):
            resolve(service.registry, "private/app:1", login(service.registry, password="wrong"))

    def test_a_missing_login(self, service: TokenService) -> None:
        service.push("private/app", "1")
        with pytest.raises(RegistryError, match="wants a login"):
            resolve(service.registry, "private/app:1", login(service.registry, "", ""))


class TestTrouble:
    """What a registry that works never does, by a server of which only the answers are made up."""

    def test_busy_and_broken_is_asked_again(self, tmp_path: Path) -> None:
        pauses: list[float] = []
        manifest = json.dumps({"mediaType": lab.OCI_INDEX, "manifests": []}).encode()
        with (
            answering(
                tmp_path,
                (429, {"Retry-After": "3"}, b""),
                (503, {}, b""),
                (502, {"Retry-After": "9999"}, b""),
                (200, {}, manifest),
            ) as (name, who),
            pytest.raises(RegistryError, match="without an image for Linux"),
        ):
            Registry(parse(f"{name}/app:1"), who, sleep=pauses.append).resolve()
        assert pauses == [3.0, 1.0, 10.0]

    def test_broken_for_good(self, tmp_path: Path) -> None:
        said = json.dumps({"errors": [{"code": "UNKNOWN", "message": "disk full"}]}).encode()
        told = refusal(tmp_path, *[(500, {}, said)] * 4)
        assert "answered 500 when asked for" in told
        assert "UNKNOWN: disk full" in told

    def test_something_that_is_no_registry(self, tmp_path: Path) -> None:
        told = refusal(tmp_path, (200, {"Content-Type": "text/html"}, b"<html>Welcome</html>"))
        assert "is this address a registry" in told

    @pytest.mark.parametrize("host", ["tokens.example", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil"])
    def test_a_password_is_not_sent_to_a_token_service_without_tls(self, host: str, tmp_path: Path) -> None:
        challenge = {"WWW-Authenticate": f'Bearer realm="http://{host}/",service="x"'}
        assert "not HTTPS; the password was not sent" in refusal(tmp_path, (401, challenge, b""))

    def test_a_login_is_not_sent_where_the_registry_redirects_to(self, server: lab.Registry, tmp_path: Path) -> None:
        seen: list[dict[str, str]] = []
        image = lab.Image.of_files({"a": "b"})
        with answering(tmp_path / "blobs", (200, {}, image.config), seen=seen) as (blobs, who):
            redirect = (307, {"Location": f"https://{blobs}/elsewhere"}, b"")
            challenge = (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")
            kind = {"Content-Type": lab.OCI_MANIFEST}
            with answering(tmp_path / "api", challenge, (200, kind, image.manifest()), redirect) as (name, other):
                both = Login(lab.USER, lab.PASSWORD, who.authorities + other.authorities)
                assert Registry(parse(f"{name}/app:1"), both).resolve().architectures == ["amd64"]
        assert [("authorization" in headers) for headers in seen] == [False]

    def test_a_redirection_to_plain_http_is_not_followed(self, tmp_path: Path) -> None:
        redirect = (307, {"Location": "http://mirror.example/v2/app/manifests/1"}, b"")
        told = refusal(tmp_path, redirect)
        assert "redirects to http://mirror.example/v2/app/manifests/1, which is not HTTPS" in told

    def test_a_port_without_tls(self, tmp_path: Path) -> None:
        told = refusal(tmp_path, tls=False)
        assert "does not speak TLS" in told
        assert "give it a certificate" in told


def test_logins_as_docker_keeps_them() -> None:
    auth = base64.b64encode(b"me:my:password").decode()
    assert json.loads(Login("me", "my:password").docker_config("r.example:5000")) == {
        "auths": {"r.example:5000": {"auth": auth}}
    }
    assert json.loads(Login("me", "my:password").docker_config("docker.io")) == {
        "auths": {"https://index.docker.io/v1/": {"auth": auth}}
    }
    assert json.loads(Login().docker_config("r.example")) == {"auths": {}}


Answered = tuple[int, dict[str, str], bytes]


def refusal(directory: Path, *answers: Answered, tls: bool = True) -> str:
    """What is said of an image of a server that gives these answers."""
    with answering(directory, *answers, tls=tls) as (name, who):
        with pytest.raises(RegistryError) as told:
            Registry(parse(f"{name}/app:1"), who, sleep=lambda _: None).resolve()
        assert name in str(told.value)
    return str(told.value)


@contextmanager
def answering(
    directory: Path, *answers: Answered, tls: bool = True, seen: list[dict[str, str]] | None = None
) -> Iterator[tuple[str, Login]]:
    """A server that gives these answers in their order; yields its name and a login that trusts it."""
    left = list(answers)

    def answer(handler: http.server.BaseHTTPRequestHandler) -> Answered:
        if seen is not None:
            seen.append({name.lower(): value for name, value in handler.headers.items()})
        return left.pop(0)

    authority = lab.Authority.make(directory, "127.0.0.1")
    with serving(answer, authority if tls else None) as port:
        yield f"127.0.0.1:{port}", Login(lab.USER, lab.PASSWORD, authorities(str(authority.ca_file)))
    assert not left, "the client asked less than expected"


@contextmanager
def serving(
    answer: Callable[[http.server.BaseHTTPRequestHandler], Answered], authority: lab.Authority | None
) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:  # a client that hangs up is no fault here
            pass

    with Server(("127.0.0.1", 0), Handler) as httpd:
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.certificate, authority.key)
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(httpd.server_address[1])
        finally:
            httpd.shutdown()
            thread.join()


class TokenService:
    """Hands out tokens that the real registry checks: anybody may pull below public/, one user below private/."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.directory = directory
        self.authority = lab.Authority.make(directory / "tokens", "127.0.0.1")
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tokens")])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder(name, name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = directory / "tokens.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @classmethod
    @contextmanager
    def running(cls, directory: Path) -> Iterator[TokenService]:
        service = cls(directory)
        with serving(service.answer, service.authority) as port:
            auth = {
                "realm": f"https://127.0.0.1:{port}/token", "service": "lab", "issuer": "lab",
                "rootcertbundle": str(service.bundle),
            }  # fmt: skip
            with lab.Registry(directory / "registry", auth={"token": auth}) as service.registry:
                # Trusting both.
                with service.registry.ca_file.open("a") as stream:
                    stream.write(service.authority.ca_file.read_text())
                yield service

    registry: lab.Registry

    def push(self, repository: str, tag: str) -> str:
        self.registry.session.headers["Authorization"] = f"Bearer {self.token(repository, ['pull', 'push'])}"
        return self.registry.push(repository, tag, lab.Image.of_files({"a": repository}))

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> Answered:
        asked = parse_qs(urlsplit(handler.path).query)
        self.asked.append(asked)
        repository = asked["scope"][0].split(":")[1]
        given = handler.headers.get("Authorization", "")
        if given and given != Login(lab.USER, lab.PASSWORD).header():
            return 401, {}, b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]}'
        allowed = ["pull"] if given or repository.startswith("public/") else []
        return 200, {}, json.dumps({"token": self.token(repository, allowed)}).encode()

    def token(self, repository: str, actions: list[str]) -> str:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        header = {
            "typ": "JWT", "alg": "ES256",
            "x5c": [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()],
        }  # fmt: skip
        claims = {
            "iss": "lab", "sub": "", "aud": "lab", "exp": now + 3600, "nbf": now - 3600, "iat": now, "jti": "1",
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        }  # fmt: skip
        signed = ".".join(map(_base64, (json.dumps(header).encode(), json.dumps(claims).encode())))
        r, s = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
