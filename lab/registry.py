"""A registry for tests: Debian's docker-registry with TLS and a password, and images pushed into it without Docker."""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import io
import ipaddress
import json
import shutil
import socket
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.ports import free_port
from lab.shell import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator

USER = "puller"
PASSWORD = "only-to-pull-with-in-tests-4f9a1c"  # noqa: S105 - opens nothing but registries made here
# Of that password, by bcrypt, which is all that the registry takes.
_HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuue59MYtq9fwCius/9jDH1cdCtaUCEOMG\n"
_LIMIT = 60.0  # seconds until it has to answer; the machine may have other work

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Authority:
    """An authority of its own with one server certificate."""

    ca_file: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, directory: Path, address: str) -> Authority:
        """Write the authority, and the certificate and key of a server at an address."""
        directory.mkdir(parents=True, exist_ok=True)
        # Days on both sides, so that clocks of hosts and of this machine may differ.
        now = dt.datetime.now(dt.UTC)
        ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Registry authority of the lab")])
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Registry of the lab")])

        def build(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, is_ca: bool) -> x509.Certificate:
            usage = dict.fromkeys(("content_commitment", "data_encipherment", "key_agreement"), False)
            usage |= dict.fromkeys(("encipher_only", "decipher_only", "key_encipherment"), False)
            builder = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(ca_name)
                .public_key(public)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - dt.timedelta(days=30))
                .not_valid_after(now + dt.timedelta(days=365))
                .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
                .add_extension(
                    x509.KeyUsage(digital_signature=True, key_cert_sign=is_ca, crl_sign=is_ca, **usage), critical=True
                )
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
                .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
            )
            if not is_ca:
                names = [x509.IPAddress(ipaddress.ip_address(address)), x509.DNSName("localhost")]
                builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            return builder.sign(ca_key, hashes.SHA256())

        made = cls(directory / "ca.crt", directory / "server.crt", directory / "server.key")
        pem = serialization.Encoding.PEM
        made.ca_file.write_bytes(build(ca_name, ca_key.public_key(), is_ca=True).public_bytes(pem))
        made.certificate.write_bytes(build(name, key.public_key(), is_ca=False).public_bytes(pem))
        made.key.touch(mode=0o600)
        made.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return made


@dataclass(frozen=True)
class Image:
    """An image as a registry keeps it: its configuration, and packed layers."""

    config: bytes
    layers: tuple[bytes, ...]
    oci: bool = True

    @classmethod
    def of_files(cls, files: dict[str, str], architecture: str = "amd64", *, oci: bool = True) -> Image:
        """One layer with some files. It has no program, so no container can be made of it."""
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w") as tar:
            for name, text in files.items():
                item = tarfile.TarInfo(name)
                item.size = len(text.encode())
                tar.addfile(item, io.BytesIO(text.encode()))
        return cls._of_layers([layer.getvalue()], {"architecture": architecture, "os": "linux", "config": {}}, oci=oci)

    @classmethod
    def of_docker(cls, name: str) -> Image:
        """An image that this machine's Docker has."""
        saved = subprocess.run(["docker", "save", name], stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if saved.returncode:
            raise LabError(f"`docker save {name}` failed: {saved.stderr.decode(errors='replace').strip()}")
        with tarfile.open(fileobj=io.BytesIO(saved.stdout)) as tar:
            content = {item.name: tar.extractfile(item) for item in tar.getmembers()}
            files = {path: stream.read() for path, stream in content.items() if stream}
        listed = json.loads(files["manifest.json"])[0]
        layers = tuple(gzip.compress(files[path], 1, mtime=0) for path in listed["Layers"])
        return cls(files[listed["Config"]], layers, oci=False)

    @classmethod
    def _of_layers(cls, layers: list[bytes], config: dict[str, Any], *, oci: bool) -> Image:
        config = config | {"rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}}
        return cls(json.dumps(config).encode(), tuple(gzip.compress(layer, 1, mtime=0) for layer in layers), oci)

    @property
    def architecture(self) -> str:
        return str(json.loads(self.config)["architecture"])

    @property
    def size(self) -> int:
        """Bytes of the packed layers."""
        return sum(map(len, self.layers))

    def manifest(self) -> bytes:
        def entry(kind: str, data: bytes) -> dict[str, Any]:
            return {"mediaType": kind, "size": len(data), "digest": sha256(data)}

        kind, config, layer = (
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER) if self.oci else (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
        )
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": entry(config, self.config),
                "layers": [entry(layer, data) for data in self.layers],
            }
        ).encode()


class Registry:
    """A registry server of this machine that keeps its images in a directory.

    Args:
        directory: for everything that it has; made when it is not there
        address: the IP address on which it listens
        auth: its `auth` section, instead of one user with a password
    """

    def __init__(self, directory: Path, address: str = "127.0.0.1", auth: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self.authority = Authority.make(directory / "tls", address)
        self._address = address
        self._port = free_port(address)
        self._process: subprocess.Popen[bytes] | None = None
        self._session = requests.Session()
        self._session.verify = str(self.ca_file)
        # A proxy for the internet is none for an address of this machine.
        self._session.trust_env = False
        htpasswd = directory / "htpasswd"
        htpasswd.write_text(_HTPASSWD)
        if auth is None:
            self._session.auth = (USER, PASSWORD)
        self._write_configuration(auth or {"htpasswd": {"realm": "lab", "path": str(htpasswd)}})

    def __enter__(self) -> Registry:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def name(self) -> str:
        """As it stands in the names of images."""
        return f"{self._address}:{self._port}"

    @property
    def ca_file(self) -> Path:
        return self.authority.ca_file

    @property
    def session(self) -> requests.Session:
        """Somebody who may push."""
        return self._session

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            LabError: it is not installed, or ended by itself
        """
        program = shutil.which("docker-registry")
        if program is None:
            raise LabError("There is no docker-registry here; install it with: sudo apt-get install docker-registry")
        with self.log.open("ab") as stream:
            self._process = subprocess.Popen(
                [program, "serve", str(self.directory / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _LIMIT
        while True:
            try:
                with socket.create_connection((self._address, self._port), timeout=1):
                    return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise LabError(f"docker-registry does not answer:\n{self.log.read_text()[-2000:]}") from error
                time.sleep(0.05)

    def stop(self) -> None:
        """End it; what it has stays for the next start."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    @property
    def log(self) -> Path:
        return self.directory / "registry.log"

    def requests(self) -> Iterator[str]:
        """What it was asked for, in order: `GET /v2/app/manifests/1`."""
        for line in self.log.read_text(errors="replace").splitlines():
            found = json.loads(line) if line.startswith("{") else {}
            if found.get("msg", "").startswith("response completed"):
                yield f"{found['http.request.method']} {found['http.request.uri']}"

    def push(self, repository: str, tag: str, image: Image) -> str:
        """Put an image under a tag and return the digest of its manifest."""
        for data in (image.config, *image.layers):
            self._push_blob(repository, data)
        return self.push_manifest(repository, tag, image.manifest())

    def push_list(self, repository: str, tag: str, images: list[Image]) -> str:
        """Put a list of images for several architectures under a tag and return the digest of the list."""
        entries: list[dict[str, Any]] = []
        for image in images:
            manifest = image.manifest()
            digest = self.push(repository, sha256(manifest), image)
            platform = {"architecture": image.architecture, "os": "linux"}
            kind = json.loads(manifest)["mediaType"]
            entries.append({"mediaType": kind, "size": len(manifest), "digest": digest, "platform": platform})
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        return self.push_manifest(repository, tag, json.dumps(document).encode())

    def push_manifest(self, repository: str, name: str, manifest: bytes) -> str:
        kind = json.loads(manifest)["mediaType"]
        answer = self._session.put(
            f"https://{self.name}/v2/{repository}/manifests/{name}",
            data=manifest,
            headers={"Content-Type": kind},
            timeout=_LIMIT,
        )
        _require(answer, 201)
        return sha256(manifest)

    def _push_blob(self, repository: str, data: bytes) -> None:
        begun = self._session.post(f"https://{self.name}/v2/{repository}/blobs/uploads/", timeout=_LIMIT)
        _require(begun, 202)
        place = begun.headers["Location"]
        answer = self._session.put(
            f"{place}{'&' if '?' in place else '?'}digest={sha256(data)}",
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=120,
        )
        _require(answer, 201)

    def corrupt(self, digest: str, content: bytes) -> None:
        """Let it hand out other content for a digest, as a broken or broken-into registry does."""
        self._blob(digest).write_bytes(content)

    def content(self, digest: str) -> bytes:
        return self._blob(digest).read_bytes()

    def _blob(self, digest: str) -> Path:
        name = digest.partition(":")[2]
        return self.directory / "images/docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def _write_configuration(self, auth: dict[str, Any]) -> None:
        # JSON is YAML. No cache, so that what lies on the disk is what it hands out.
        configuration = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "images")},
                "delete": {"enabled": True},
            },
            "http": {
                "addr": self.name,
                "host": f"https://{self.name}",
                "secret": "one-process-only",
                "tls": {"certificate": str(self.authority.certificate), "key": str(self.authority.key)},
            },
            "auth": auth,
        }
        (self.directory / "config.yml").write_text(json.dumps(configuration))


def _require(answer: requests.Response, status: int) -> None:
    if answer.status_code != status:
        raise LabError(f"the registry answered {answer.status_code} to {answer.request.method}: {answer.text[:500]}")
