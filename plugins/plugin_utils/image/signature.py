# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Looks, on the controller and with cosign, whether an image was signed with a key."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, run
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import (
    DOCKER_HUB,
    Login,
    Reference,
    RegistryError,
)

KEY_VARIABLE = "fastapi_image_cosign_key"
LOG_VARIABLE = "fastapi_image_cosign_log"
_LIMIT = 300  # seconds
# Exit codes of cosign 2 and later (its cmd/cosign/errors).
_NO_SIGNATURE, _OTHER_KEY = 10, 12
# A helper as Docker knows them, which hands on what is in the environment: so the login is in no file and no argument.
_HELPER = '#!/bin/sh\nprintf %s "$SLIPWAY_REGISTRY_LOGIN"\n'


def public_key(path: str) -> Path:
    """The key's file. Raises RegistryError where it is none."""
    key = Path(path)
    try:
        text = key.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{KEY_VARIABLE} is {path}, which cannot be read: {error}; name a public key") from error
    if "PUBLIC KEY-----" not in text:
        raise RegistryError(f"{KEY_VARIABLE} is {path}, which holds no public key; name the cosign.pub of the key pair")
    return key


def verify(reference: Reference, digest: str, login: Login, key: Path, log: bool) -> None:
    """Raise RegistryError unless the image with this digest was signed with the key.

    Args:
        reference: the image
        digest: what its name was resolved to
        login: for the registry, and whom to trust
        key: file of the public key
        log: whether the signature must be in the public transparency log too, which takes the internet
    """
    image = reference.at(digest)
    command = ["cosign", "verify", "--key", str(key), f"--insecure-ignore-tlog={'false' if log else 'true'}", image]
    with tempfile.TemporaryDirectory(prefix="slipway-cosign-") as directory:
        try:
            ran = run(command, _LIMIT, os.environ | _environment(reference, login, Path(directory)))
        except CommandError:
            raise RegistryError(
                f"{KEY_VARIABLE} is set, but the controller has no `cosign` to look for the signature of {image} with; "
                "install it (a package of Debian 13 and later), or empty the variable"
            ) from None
    if ran.timed_out:
        raise RegistryError(f"cosign did not end within {_LIMIT} s when asked about {image}")
    if ran.returncode:
        raise RegistryError(refusal(image, reference.registry, str(key), ran.returncode, ran.stderr.strip()))


def refusal(image: str, registry: str, key: str, code: int, said: str) -> str:
    """What it means that cosign ended with this code and these words."""
    lines = [line.removeprefix("Error: ") for line in said.splitlines() if line.startswith("Error: ")]
    words = lines[-1] if lines else said[-500:]
    if code == _NO_SIGNATURE or "no signatures found" in words:
        why = f"has no signature in the registry {registry}; sign it (cosign sign --key ...), or empty {KEY_VARIABLE}"
    elif code == _OTHER_KEY or "no matching signatures" in words:
        why = (
            f"is not signed with the key {key} of {KEY_VARIABLE}: {words}. Find out who signed it before you deploy it"
        )
    elif "rekor" in words.lower() or "tuf" in words.lower():
        why = f"could not be looked up in the transparency log: {words}. Out of its reach, set {LOG_VARIABLE}: false"
    else:
        why = f"could not be looked up by cosign: {words}"
    return f"{image} {why}"


def _environment(reference: Reference, login: Login, directory: Path) -> dict[str, str]:
    """What lets cosign in, without the password on its command line or in a file."""
    environment: dict[str, str] = {}
    if login.user:
        helper = directory / "docker-credential-slipway"
        helper.write_text(_HELPER, encoding="utf-8")
        helper.chmod(0o700)
        name = "https://index.docker.io/v1/" if reference.registry == DOCKER_HUB else reference.registry
        (directory / "config.json").write_text(json.dumps({"credHelpers": {name: "slipway"}}), encoding="utf-8")
        environment |= {
            "DOCKER_CONFIG": str(directory),
            "PATH": f"{directory}{os.pathsep}{os.environ.get('PATH', '')}",
            "SLIPWAY_REGISTRY_LOGIN": json.dumps({"Username": login.user, "Secret": login.password}),
        }
    if login.authorities:
        # Instead of the system's bundle; Go still reads the system's directory of certificates.
        bundle = directory / "ca.pem"
        bundle.write_text(login.authorities, encoding="utf-8")
        environment["SSL_CERT_FILE"] = str(bundle)
    return environment
