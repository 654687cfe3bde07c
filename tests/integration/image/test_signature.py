"""Signatures of images, made and looked for by the real cosign in a real registry."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import (
    Login,
    RegistryError,
    authorities,
    parse,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import signature

from lab import cosign
from lab import registry as lab

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Signed:
    """A registry with an image that was signed and one that was not, and two pairs of keys."""

    registry: lab.Registry
    directory: Path
    program: Path
    signed: str
    unsigned: str

    @property
    def login(self) -> Login:
        return Login(lab.USER, lab.PASSWORD, authorities(str(self.registry.ca_file)))

    def key(self, name: str = "right") -> Path:
        return self.directory / f"{name}.pub"

    def verify(self, digest: str, key: Path | None = None, login: Login | None = None, log: bool = False) -> None:
        reference = parse(f"{self.registry.name}/team/app:1")
        signature.verify(reference, digest, login or self.login, key or self.key(), log)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    directory = tmp_path_factory.mktemp("signatures")
    program = cosign.ensure(ROOT / ".lab" / "cosign")
    with lab.Registry(directory / "registry") as registry:
        found = Signed(
            registry,
            directory,
            program,
            registry.push("team/app", "1", lab.Image.of_files({"a": "signed"})),
            registry.push("team/app", "2", lab.Image.of_files({"a": "unsigned"})),
        )
        (directory / "config.json").write_text(found.login.docker_config(registry.name))
        environment = os.environ | {
            "COSIGN_PASSWORD": "",
            "DOCKER_CONFIG": str(directory),
            "SSL_CERT_FILE": str(registry.ca_file),
        }

        def run(*arguments: str) -> None:
            subprocess.run([program, *arguments], cwd=directory, env=environment, capture_output=True, check=True)

        run("generate-key-pair", "--output-key-prefix", "right")
        run("generate-key-pair", "--output-key-prefix", "other")
        name = f"{registry.name}/team/app@{found.signed}"
        run("sign", "--key", "right.key", "--tlog-upload=false", "--yes", name)
        yield found


@pytest.fixture(autouse=True)
def on_path(images: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{images.program.parent}{os.pathsep}{os.environ['PATH']}")
    # Whoever runs this may be logged in somewhere.
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")


def test_what_was_signed_with_the_key_passes(images: Signed) -> None:
    images.verify(images.signed)


def test_what_was_not_signed_does_not(images: Signed) -> None:
    with pytest.raises(
        RegistryError, match=rf"{images.unsigned} has no signature in .*{images.registry.name}; sign it"
    ):
        images.verify(images.unsigned)


def test_what_was_signed_with_another_key_does_not(images: Signed) -> None:
    with pytest.raises(RegistryError, match=r"is not signed with the key .*other\.pub of fastapi_image_cosign_key"):
        images.verify(images.signed, images.key("other"))


def test_a_signature_of_another_image_is_none(images: Signed) -> None:
    """Put in the place where the signature of the unsigned image would be."""
    images.registry.push("team/app", "3", lab.Image.of_files({"a": "third"}))
    third = lab.sha256(lab.Image.of_files({"a": "third"}).manifest())
    place = f"https://{images.registry.name}/v2/team/app/manifests/sha256-{images.signed[7:]}.sig"
    kind = {"Accept": lab.OCI_MANIFEST}
    stolen = images.registry.session.get(place, headers=kind, timeout=10).content
    assert json.loads(stolen)["layers"]
    images.registry.push_manifest("team/app", f"sha256-{third[7:]}.sig", stolen)
    with pytest.raises(RegistryError, match="is not signed with the key"):
        images.verify(third)


def test_the_login_is_needed_and_not_told(images: Signed) -> None:
    nobody = Login(authorities=images.login.authorities)
    with pytest.raises(RegistryError, match=r"could not be looked up by cosign: .*UNAUTHORIZED"):
        images.verify(images.signed, login=nobody)
    wrong = Login(lab.USER, "wrong-and-secret", images.login.authorities)
    with pytest.raises(RegistryError) as told:
        images.verify(images.signed, login=wrong)
    assert "wrong-and-secret" not in str(told.value)


def test_without_cosign(images: Signed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RegistryError, match=r"the controller has no `cosign` .*install it"):
        images.verify(images.signed)


@pytest.mark.parametrize("text", [None, "", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n"])
def test_a_key_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "key").write_text(text)
    with pytest.raises(RegistryError, match=f"fastapi_image_cosign_key is {tmp_path}/key, which"):
        signature.public_key(str(tmp_path / "key"))


def test_a_key_that_is_one(images: Signed) -> None:
    assert signature.public_key(str(images.key())) == images.key()


def test_out_of_reach_of_the_transparency_log() -> None:
    """Words of cosign 2.5 without the internet."""
    said = (
        "Error: getting Rekor public keys: updating local metadata and targets: error updating to TUF remote mirror: "
        "tuf: failed to download 13.root.json\nerror during command execution: the same again"
    )
    told = signature.refusal("app@sha256:1", "r.example", "cosign.pub", 1, said)
    assert told.startswith("app@sha256:1 could not be looked up in the transparency log: getting Rekor")
    assert told.endswith("set fastapi_image_cosign_log: false")
