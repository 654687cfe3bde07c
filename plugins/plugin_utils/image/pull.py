# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that each host takes from its registry: its tag is resolved to a digest once, the same for all hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, ImageRefused, find
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
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link, Question
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import cache, signature
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import CONTROLLER, ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import Had, ImageIdentity, look

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
    def of(cls, request: ImageRequest) -> Wanted:
        """Raises RegistryError for a name that is none, or a file that cannot be read."""
        return cls(
            parse(request.name),
            Login(request.registry_user, request.registry_password, authorities(request.registry_ca_file)),
            request.registry_resolve,
            signature.public_key(request.cosign_key) if request.cosign_key else None,
            request.cosign_log,
        )

    @property
    def for_host(self) -> dict[str, str]:
        """The options with which a host asks the registry."""
        return {
            "registry_user": self.login.user,
            "registry_password": self.login.password,
            "registry_authorities": self.login.authorities,
        }


class Pulled:
    """An ImageSource whose hosts fetch it themselves.

    Args:
        request: what is asked
        run: names this run, in which the registry is asked once for all hosts
        check_mode: nothing is pulled
    """

    def __init__(self, request: ImageRequest, run: str, check_mode: bool = False) -> None:
        self.request = request
        self._run = run
        self._check_mode = check_mode

    @cached_property
    def _wanted(self) -> Wanted:
        try:
            return Wanted.of(self.request)
        except RegistryError as error:
            raise ImageRefused(str(error)) from error

    @cached_property
    def _resolved(self) -> tuple[Resolved, str]:
        """What the controller says that the name stands for, with its signature verified where a key is set."""
        try:
            return remembered(self._wanted, self._run, lambda: _by_controller(self._wanted))
        except RegistryError as error:
            raise ImageRefused(str(error)) from error

    def identify(self) -> ImageIdentity:
        """By its digest where the controller resolves it; else its name and what digest that has."""
        if self._wanted.resolve != CONTROLLER:
            return ImageIdentity(self.request.name, self._wanted.reference.digest)
        return self._identity(*self._resolved)

    def question(self) -> Question:
        """Whether a host has it; where hosts resolve the name, what the registry tells that one."""
        wanted = self._wanted
        if wanted.resolve == CONTROLLER:
            return "find", {"name": wanted.reference.at(self._resolved[0].digest)}
        if wanted.resolve == "nobody":
            return "find", {"name": str(wanted.reference)}
        return "ask", {"name": str(wanted.reference), **wanted.for_host}

    def identity_on(self, seen: Result) -> ImageIdentity:
        """What it is, with what a host told in its look."""
        if self._wanted.resolve != "host":
            return self.identify()
        return self._identity(*self._by_host(seen))

    def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Link]) -> bool:
        """Nothing comes through the controller."""
        return False

    def put(self, host: Link, seen: Result) -> Had:
        wanted = self._wanted
        if wanted.resolve == "nobody":
            return self._put_as_named(host)
        if wanted.resolve == "host":
            seen = seen or look(self, host)
        identity = self.identity_on(seen)
        result = host.call("pull", name=identity.reference, **wanted.for_host)
        image = result.get("image")
        if image is None:  # a dry run
            return Had(identity, None, changed=True)
        return Had(identity, str(image["id"]), changed=result["changed"])

    def kept(self) -> Saved | None:
        return None

    def _put_as_named(self, host: Link) -> Had:
        """Have what the host has under this name, or gets when it pulls it now."""
        wanted = self._wanted
        name, digest = str(wanted.reference), wanted.reference.digest
        result = host.call("pull", name=name, **wanted.for_host)
        image = result.get("image")
        if image is None:  # a dry run
            return Had(ImageIdentity(name, digest), None, changed=True)
        identity = ImageIdentity(name, digest or str(image["id"]), (image["architecture"],))
        return Had(identity, str(image["id"]), changed=result["changed"])

    def _by_host(self, seen: Result) -> tuple[Resolved, str]:
        """Each host asks, all at the same time; where a tag moves meanwhile, the first answer counts for all."""
        resolved = seen.get("resolved")
        found = Resolved(**resolved) if resolved else Resolved(self._wanted.reference.digest, {})
        first, _ = remembered(self._wanted, self._run, lambda: (found, ""))
        failed = seen.get("without_registry")
        return Resolved(first.digest, found.sizes), f"{failed}. Its Docker tries by itself" if failed else ""

    def _identity(self, found: Resolved, warning: str) -> ImageIdentity:
        return ImageIdentity(
            self._wanted.reference.at(found.digest),
            found.digest,
            tuple(found.architectures),
            max(found.sizes.values(), default=0),
            (warning,) if warning else (),
            digest=found.digest,
        )


def take_here(request: ImageRequest) -> tuple[Image, str]:
    """Have the image in the controller's Docker; returns it, and the digest that its name has now.

    Its signature is verified where a key is set. The Docker here must trust the registry already.
    """
    try:
        wanted = Wanted.of(request)
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


def remembered(wanted: Wanted, run: str, ask: Callable[[], tuple[Resolved, str]]) -> tuple[Resolved, str]:
    """The first answer for all hosts and tasks of a run, whichever process asks, a refusal too.

    Raises:
        RegistryError: as `ask` did the first time
    """
    directory = cache.directory("resolved")
    path = directory / f"{_key(wanted, run)}.json"
    with cache.once(f"resolve-{hashlib.sha256(wanted.reference.name.encode()).hexdigest()[:12]}"):
        if not path.exists():
            path.write_text(json.dumps(_asked(ask)), encoding="utf-8")
            for old in older(directory.glob("*.json"), ANSWERS_KEPT):
                old.unlink(missing_ok=True)
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
