# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""On a host: take an image from its registry, by digest."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from ..host.durable import write_durably
from .local import ImageError, docker, find, look
from .registry import CA_VARIABLE, DOCKER_HUB, LOGIN_VARIABLES, Login, Reference, Registry, RegistryUnreachable, parse

# Where Docker looks for the authorities of one registry. It reads them at every pull.
CERTIFICATES = Path("/etc/docker/certs.d")
_LIMIT = 1800  # seconds

# Docker with a login that nothing outside of this process and its children ever sees: it comes by stdin and lies on a
# tmpfs in a mount namespace of its own, which is gone with the last process in it, however that one ends.
_WITH_LOGIN = """
mount -t tmpfs -o mode=0700,size=1m,nosuid,nodev slipway-login /dev/shm
umask 077
cat >/dev/shm/config.json
export DOCKER_CONFIG=/dev/shm
exec docker pull --quiet "$1" </dev/null
"""

# What Docker says when a pull fails, and what that means.
_MEANINGS = {
    r"manifest verification failed|layer verification failed|unexpected commit digest|failed size validation": """
        what came does not match the digest: the registry or something on the way hands out other content. Do not deploy
        it, and push the image again from where it was built""",
    r"x509|tls: |certificate": f"""
        this host does not trust the registry's certificate. Where an authority of your own signed it, name its PEM file
        with {CA_VARIABLE}""",
    r"unauthorized|denied|authentication required|no basic auth|incorrect username or password": f"""
        the registry does not let this host have it. Look at {LOGIN_VARIABLES}""",
    r"no matching manifest|does not match the specified platform": """
        the image is not made for this host's architecture. Build it for that one too""",
    r"manifest unknown|name unknown|not found|repository does not exist": """
        the registry has it no more. Push the image again, and look whether something cleans up there""",
    r"dial tcp|no such host|refused|i/o timeout|Client\.Timeout|deadline exceeded|no route|unreachable|reset|proxy": """
        this host cannot reach the registry, whoever else can. Look at its name service, its firewall, and the proxy of
        its Docker""",
    r"no space left": """
        the disk is full. Make room below /var/lib/docker""",
}


def meaning(said: str) -> str:
    """What to do about a pull that failed with these words."""
    for pattern, advice in _MEANINGS.items():
        if re.search(pattern, said, re.IGNORECASE):
            return " ".join(advice.split())
    return "look what `journalctl -u docker` says on this host"


def login_of(options: dict[str, Any]) -> Login:
    return Login(
        options["registry_user"] or "", options["registry_password"] or "", options["registry_authorities"] or ""
    )


def ask(options: dict[str, Any]) -> dict[str, Any]:
    """What the registry says of the image when this host asks; nothing where the host has that content already."""
    reference = parse(options["name"])
    there = look(reference.at(reference.digest), check_mode=True)["image"] if reference.digest else None
    if there:
        return {"changed": False, "image": there}
    result: dict[str, Any] = {"changed": False, "image": None}
    try:
        result["resolved"] = Registry(reference, login_of(options), platform.node()).resolve().as_dict()
    except RegistryUnreachable as error:
        # With a digest nothing has to be asked; Docker may know a way (a proxy, a mirror) that this process does not.
        if not reference.digest:
            raise
        result["without_registry"] = str(error)
    return result


def pull(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The image as the host has it afterwards."""
    name, reference, login = options["name"], parse(options["name"]), login_of(options)
    trusted = trust(reference, login.authorities, check_mode)
    there = look(name, check_mode)
    if there["image"] or check_mode:
        return {**there, "changed": trusted}
    try:
        fetch(name, reference, login)
    except ImageError as error:
        raise ImageError(
            f"{platform.node()} could not pull {name} from the registry {reference.registry}, so nothing was switched: "
            f"{meaning(str(error))}. Docker says: {error}"
        ) from error
    pulled = find(name)
    if pulled is None:
        raise ImageError(f"`docker pull {name}` succeeded, but the image is not there")
    return {"changed": True, "image": pulled.as_dict()}


def fetch(name: str, reference: Reference, login: Login) -> None:
    """Let Docker pull. Raises ImageError with its words."""
    if not login.user:
        docker("pull", "--quiet", name, timeout=_LIMIT)
        return
    try:
        result = subprocess.run(
            ["unshare", "--mount", "--", "sh", "-euc", _WITH_LOGIN, "pull", name],
            input=login.docker_config(reference.registry),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT,
            check=False,
        )
    except FileNotFoundError:
        raise ImageError("there is no `unshare` here; install the package util-linux") from None
    except subprocess.TimeoutExpired:
        raise ImageError(f"`docker pull` did not end within {_LIMIT} s") from None
    if result.returncode:
        raise ImageError(f"`docker pull` failed: {(result.stderr or result.stdout).strip()}")


def trust(reference: Reference, authorities: str, check_mode: bool, root: Path = CERTIFICATES) -> bool:
    """Let Docker trust these authorities for this one registry; tells whether that changes anything."""
    if not authorities or reference.registry == DOCKER_HUB:
        return False
    path = root / reference.registry / "ca.crt"
    try:
        if path.read_text(encoding="utf-8", errors="replace") == authorities:
            return False
    except FileNotFoundError:
        pass
    if not check_mode:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        write_durably(path, authorities)
    return True
