# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that each host takes from its registry: its tag is resolved to a digest once, the same for all hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, find
from ansible_collections.slipway.fleet.plugins.module_utils.image.pull import fetch
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
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import run_id
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import signature
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host, answer, cache, once

# Answers kept on the controller. One is only good for the run that asked.
ANSWERS_KEPT = 20


@dataclass(frozen=True)
class Wanted:
    """The image that is wanted, and who asks for it."""

    reference: Reference
    login: Login
    # Who asks the registry: controller, host or nobody.
    resolve: str
    key: Path | None
    log: bool

    @classmethod
    def of(cls, options: dict[str, Any]) -> Wanted:
        """Raises RegistryError for a name that is none, or a file that cannot be read."""
        key = options.get("cosign_key")
        return cls(
            parse(str(options["name"])),
            Login(
                options.get("registry_user") or "",
                options.get("registry_password") or "",
                authorities(options.get("registry_ca_file") or ""),
            ),
            options.get("registry_resolve") or "controller",
            signature.public_key(key) if key else None,
            bool(options.get("cosign_log")),
        )

    @property
    def for_host(self) -> dict[str, str]:
        """The options with which the module asks the registry."""
        return {
            "registry_user": self.login.user,
            "registry_password": self.login.password,
            "registry_authorities": self.login.authorities,
        }


def identify(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and digest, and what the image is made for; only with `registry_resolve: host` a host is asked."""
    wanted = _wanted(options)
    if wanted.resolve == "nobody":
        return answer(str(options["name"]), wanted.reference.digest, None, changed=False, architectures=[])
    found, warnings = _resolve(host, wanted)
    return _answer(wanted, found, None, changed=False) | ({"warnings": warnings} if warnings else {})


def put(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host."""
    wanted = _wanted(options)
    if wanted.resolve == "nobody":
        return _put_as_named(host, wanted)
    found, warnings = _resolve(host, wanted)
    name = wanted.reference.at(found.digest)
    result = host.call(operation="pull", name=name, **wanted.for_host)
    image = result.get("image")
    said = {"warnings": warnings} if warnings else {}
    if image is None:  # a dry run
        return _answer(wanted, found, None, changed=True) | said
    return _answer(wanted, found, image["id"], changed=result["changed"]) | said


def take_here(options: dict[str, Any]) -> tuple[Image, str]:
    """Have the image in the controller's Docker; returns it, and the digest that its name has now.

    Its signature is verified where a key is set. The Docker here must trust the registry already.
    """
    wanted = _wanted({**options, "registry_resolve": "controller"})
    try:
        found, _ = _by_controller(wanted)
    except RegistryError as error:
        raise ImageError(str(error)) from error
    name = wanted.reference.at(found.digest)
    if find(name) is None:
        fetch(name, wanted.reference, wanted.login)
    image = find(name)
    if image is None:
        raise ImageError(f"`docker pull {name}` succeeded, but the image is not there")
    return image, found.digest


def _put_as_named(host: Host, wanted: Wanted) -> dict[str, Any]:
    """Have what the host has under this name, or gets when it pulls it now."""
    name = str(wanted.reference)
    result = host.call(operation="pull", name=name, **wanted.for_host)
    image = result.get("image")
    if image is None:  # a dry run
        return answer(name, wanted.reference.digest, None, changed=True, architectures=[])
    content = wanted.reference.digest or image["id"]
    return answer(name, content, image["id"], changed=result["changed"], architectures=[image["architecture"]])


def _wanted(options: dict[str, Any]) -> Wanted:
    try:
        return Wanted.of(options)
    except RegistryError as error:
        raise ImageError(f"nothing was changed; {error}") from error


def _answer(wanted: Wanted, found: Resolved, image: str | None, changed: bool) -> dict[str, Any]:
    more: dict[str, Any] = {"digest": found.digest, "architectures": found.architectures}
    if found.sizes:
        # Of the layers as they travel; unpacked they take two to three times that.
        more |= {"size": max(found.sizes.values()), "packed": True}
    return answer(wanted.reference.at(found.digest), found.digest, image, changed, **more)


def _resolve(host: Host, wanted: Wanted) -> tuple[Resolved, list[str]]:
    """What the name stands for in this run, the same for every host, with its signature verified where a key is set."""
    try:
        if wanted.resolve == "host":
            return _by_host(host, wanted)
        found, warning = remembered(wanted, run_id(), lambda: _by_controller(wanted))
    except RegistryError as error:
        raise ImageError(f"nothing was changed; {error}") from error
    return found, [warning] if warning else []


def _by_controller(wanted: Wanted) -> tuple[Resolved, str]:
    try:
        found = Registry(wanted.reference, wanted.login).resolve()
    except RegistryUnreachable as error:
        # With a digest nothing has to be asked, and hosts that have the image need no registry.
        if not wanted.reference.digest or wanted.key:
            raise
        return Resolved(wanted.reference.digest, {}), (
            f"{error}. The name has a digest, so hosts that have the image go on, and the others try by themselves"
        )
    if wanted.key:
        signature.verify(wanted.reference, found.digest, wanted.login, wanted.key, wanted.log)
    return found, ""


def _by_host(host: Host, wanted: Wanted) -> tuple[Resolved, list[str]]:
    """Each host asks, all at the same time; where a tag moves meanwhile, the first answer counts for all."""
    result = host.call(operation="ask", name=str(wanted.reference), **wanted.for_host)
    resolved = result.get("resolved")
    found = Resolved(**resolved) if resolved else Resolved(wanted.reference.digest, {})
    first, _ = remembered(wanted, run_id(), lambda: (found, ""))
    warnings = [f"{result['without_registry']}. Its Docker tries by itself"] if result.get("without_registry") else []
    return Resolved(first.digest, found.sizes), warnings


def remembered(wanted: Wanted, run: str, ask: Callable[[], tuple[Resolved, str]]) -> tuple[Resolved, str]:
    """The answer of the first of Ansible's parallel workers for all tasks of a run, a refusal too.

    Raises:
        RegistryError: as `ask` did the first time
    """
    directory = cache() / "resolved"
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{_key(wanted, run)}.json"
    with once(f"resolve-{hashlib.sha256(wanted.reference.name.encode()).hexdigest()[:12]}"):
        if not path.exists():
            path.write_text(json.dumps(_asked(ask)), encoding="utf-8")
            for old in sorted(directory.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-ANSWERS_KEPT]:
                old.unlink()
        kept = json.loads(path.read_text(encoding="utf-8"))
    if "refused" in kept:
        raise RegistryError(kept["refused"])
    return Resolved(**kept["resolved"]), kept["warning"]


def _asked(ask: Callable[[], tuple[Resolved, str]]) -> dict[str, Any]:
    try:
        found, warning = ask()
    except RegistryError as error:
        return {"refused": str(error)}
    return {"resolved": found.as_dict(), "warning": warning}


def _key(wanted: Wanted, run: str) -> str:
    """Names an answer by all that it depends on; of the password by scrypt, which is no help to guess it."""
    password = hashlib.scrypt(wanted.login.password.encode(), salt=run.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()
    login = [wanted.login.user, password, wanted.login.authorities]
    parts = [run, str(wanted.reference), *login, wanted.resolve, str(wanted.key), wanted.log]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
