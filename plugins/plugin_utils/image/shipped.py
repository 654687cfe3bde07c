# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Images that reach their hosts through the controller's cache of layers, wherever they come from.

Three steps: look at every host, prepare once for all of them (which is where an image is built, and where a host that
is too small stops the run before anything moved), and put it on each host that lacks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ARCHITECTURES, ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link, Question
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import (
    MIB,
    LayerCache,
    lacks,
    require_room,
    room_problem,
    send,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import Had, ImageIdentity, look


@dataclass(frozen=True)
class Known:
    """What the image is, as far as that tells it from others."""

    id: str
    layers: list[str]
    made: dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """The image that every host shall have.

    `record` names it in the controller's cache. `known` is told where the image is known before any host is looked at;
    otherwise the reference alone names the content.
    """

    reference: str
    content: str
    record: str
    known: Known | None = None


@dataclass(frozen=True)
class Found:
    """What an origin found or made: an image whose layers, as far as a host lacks them, are in the cache."""

    saved: Saved
    built: bool = False
    # The inventory's name of the host that it was built on, and its id there.
    host: str = ""
    id: str = ""


class Origin(Protocol):
    """Where such an image comes from. Raises ImageError and ContextError."""

    def identify(self) -> ImageIdentity:
        """What is known of it without making it."""
        ...

    def wanted(self) -> Wanted:
        """The image that every host shall have."""
        ...

    def found(self, missing: Mapping[str, Result], hosts: Mapping[str, Link]) -> Found:
        """Have it, with (at least) the layers that any host in `missing` lacks, in the cache."""
        ...


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did for all hosts, for the tasks that send: a role has it from task to task as a result."""

    changed: bool = False
    built_on: str = ""
    built_id: str = ""
    architectures: tuple[str, ...] = ()
    size: int = 0


class Shipped:
    """An ImageSource with an origin."""

    def __init__(self, request: ImageRequest, origin: Origin, check_mode: bool = False) -> None:
        self.request = request
        self.prepared: Prepared | None = None
        self._origin = origin
        self._check_mode = check_mode

    @cached_property
    def _wanted(self) -> Wanted:
        return self._origin.wanted()

    def identify(self) -> ImageIdentity:
        return self._origin.identify()

    def question(self) -> Question:
        wanted = self._wanted
        return "look", {"name": wanted.reference, "expected": wanted.known.id if wanted.known else ""}

    def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Link]) -> bool:
        """Raises ImageError when a host has no room for it, or cannot run it."""
        missing = {name: one for name, one in seen.items() if not is_there(one, self._wanted)}
        self.prepared = Prepared()
        if not missing:
            return False
        if self._check_mode:
            self.prepared = Prepared(changed=True)
            return True
        found = self._origin.found(missing, hosts)
        layer_cache = LayerCache()
        layer_cache.keep(self._wanted.record, found.saved)
        require_architecture(missing, found.saved)
        require_room(
            room_problem(name, one, layer_cache.packed(lacks(one, found.saved.layers)), self.request.disk_reserve * MIB)
            for name, one in missing.items()
            if name != found.host and "disks" in one
        )
        layer_cache.prune(self.request.ship_cache * MIB)
        self.prepared = Prepared(found.built, found.host, found.id, (found.saved.architecture,), found.saved.size)
        return found.built

    def put(self, host: Link, seen: Result) -> Had:
        """From the cache; without a `prepare` for all hosts it is prepared for this one."""
        wanted = self._wanted
        seen = seen or look(self, host)
        if is_there(seen, wanted):
            there = seen["image"]
            identity = ImageIdentity(wanted.reference, wanted.content, (there["architecture"],), there["size"])
            return Had(identity, there["id"], changed=False, moved=0)
        if self.prepared is None:
            self.prepare({host.name: seen}, {host.name: host})
        prepared = self.prepared or Prepared()
        identity = ImageIdentity(wanted.reference, wanted.content, prepared.architectures, prepared.size)
        if self._check_mode:
            return Had(identity, None, changed=True, moved=0)
        if prepared.built_on == host.name:
            return Had(identity, prepared.built_id, changed=True, moved=0)
        saved = self.kept()
        if saved is None:
            raise ImageError(f"the controller's cache has lost {wanted.reference}; run it again")
        image, moved = send(host, seen, saved, wanted.reference)
        return Had(identity, str(image["id"]), changed=True, moved=moved)

    def kept(self) -> Saved | None:
        return LayerCache().saved(self._wanted.record)


def is_there(seen: Result, wanted: Wanted) -> bool:
    """Whether the host has the image already."""
    there, known = seen.get("image"), wanted.known
    if not there or known is None or there["id"] == known.id:
        return bool(there)
    # The containerd store names images otherwise than the others do.
    alike: bool = there["layers"] == known.layers and there["made"] == known.made
    return alike and seen["store"] == "containerd"


def require_architecture(hosts: Mapping[str, Result], saved: Saved) -> None:
    """Raise ImageError when the image cannot run on one of the hosts."""
    wrong = [
        f"{name} is {ARCHITECTURES[seen['machine']][0]}"
        for name, seen in hosts.items()
        if saved.architecture not in ARCHITECTURES.get(seen.get("machine", ""), (saved.architecture,))
    ]
    if wrong:
        raise ImageError(
            f"nothing was sent to any host: the image is made for {saved.architecture}, and {', '.join(wrong)}. Build "
            "it on a host of that kind (fastapi_image_build_on), or leave the others out"
        )


def union(hosts: Mapping[str, Result], diff_ids: list[str]) -> list[str]:
    """The layers that any of the hosts lacks."""
    return sorted({layer for seen in hosts.values() for layer in lacks(seen, diff_ids)})
