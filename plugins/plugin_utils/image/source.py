# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What every way to have an image does, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link, Question
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Identity, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest


@dataclass(frozen=True)
class ImageIdentity(Identity):
    """Which image it is; with a `digest` its size is that of the layers as they travel."""

    digest: str = ""


@dataclass(frozen=True)
class Had:
    """An image on a host; `id` is Docker's there, None in a dry run. `moved` are bytes, None where hosts fetch it."""

    identity: ImageIdentity
    id: str | None
    changed: bool
    moved: int | None = None


class ImageSource(Protocol):
    """One way to have one image on hosts. Raises ImageError and ContextError; Unreachable and Refused with a host."""

    request: ImageRequest

    def identify(self) -> ImageIdentity:
        """Which image it is; asks no host."""
        ...

    def question(self) -> Question:
        """What every host is asked to tell what it has of it, as `prepare` and `put` take it; asks no host."""
        ...

    def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Link]) -> bool:
        """Have on the controller what hosts lack; returns whether something was made. `hosts` has the build host."""
        ...

    def put(self, host: Link, seen: Result) -> Had:
        """Have it on a host."""
        ...

    def kept(self) -> Saved | None:
        """The image as the controller's cache of layers has it, None where it does not come through that."""
        ...


def look(source: ImageSource, host: Link) -> Result:
    """What a host has of the image."""
    operation, options = source.question()
    return host.call(operation, **options)


def result_of(identity: ImageIdentity, had: Had | None = None) -> dict[str, Any]:
    """The result of a task."""
    result: dict[str, Any] = {
        "changed": bool(had and had.changed),
        "reference": identity.reference,
        "content": identity.content,
        "id": had.id if had else None,
        "architectures": list(identity.architectures),
    }
    if identity.digest:
        result["digest"] = identity.digest
    if identity.size:
        result["size"] = identity.size
        if identity.digest:
            result["packed"] = True
    if had and had.moved is not None:
        result["bytes_moved"] = had.moved
    return result | ({"warnings": list(identity.warnings)} if identity.warnings else {})
