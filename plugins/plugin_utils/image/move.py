# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The part that every image has in common that reaches its host through the controller's cache of layers.

Three steps: look at every host, prepare once for all of them (which is where an image is built, and where a host that
is too small stops the run before anything moved), and put it on each host that lacks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ARCHITECTURES, ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host, answer
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import (
    MIB,
    LayerCache,
    lacks,
    require_room,
    room_problem,
    send,
)


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
    """What `prepare` found or made: an image whose layers, as far as a host lacks them, are in the cache."""

    saved: Saved
    built: bool = False
    # The inventory's name of the host that it was built on, and its id there.
    host: str = ""
    id: str = ""


# Has an image with (at least) the layers that any of the hosts lacks in the cache.
Source = Callable[[dict[str, dict[str, Any]]], Found]


def look(host: Host, wanted: Wanted) -> dict[str, Any]:
    """What the host has, and what a transfer to it has to know."""
    return host.call(operation="look", name=wanted.reference, expected=wanted.known.id if wanted.known else "")


def is_there(seen: dict[str, Any], wanted: Wanted) -> bool:
    """Whether the host has the image already."""
    there, known = seen.get("image"), wanted.known
    if not there or known is None or there["id"] == known.id:
        return bool(there)
    # The containerd store names images otherwise than the others do.
    alike: bool = there["layers"] == known.layers and there["made"] == known.made
    return alike and seen["store"] == "containerd"


def prepare(
    wanted: Wanted, hosts: dict[str, dict[str, Any]], source: Source, reserve: int, cache: int, check_mode: bool
) -> dict[str, Any]:
    """Have in the cache what any host lacks. Raises ImageError when a host has no room for it.

    `hosts` is what was seen, by the inventory's names. `reserve` bytes stay free on every host, and the cache of layers
    may have `cache` bytes.
    """
    missing = {name: seen for name, seen in hosts.items() if not is_there(seen, wanted)}
    prepared = {"reference": wanted.reference, "content": wanted.content, "record": wanted.record, "changed": False}
    if not missing:
        return prepared
    if check_mode:
        return {**prepared, "changed": True}
    found = source(missing)
    layer_cache = LayerCache()
    layer_cache.keep(wanted.record, found.saved)
    require_architecture(missing, found.saved)
    require_room(
        room_problem(name, seen, layer_cache.packed(lacks(seen, found.saved.layers)), reserve)
        for name, seen in missing.items()
        if name != found.host and "disks" in seen
    )
    layer_cache.prune(cache)
    return {
        **prepared,
        "changed": found.built,
        "built_on": found.host,
        "built_id": found.id,
        "architectures": [found.saved.architecture],
        "size": found.saved.size,
    }


def require_architecture(hosts: dict[str, dict[str, Any]], saved: Saved) -> None:
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


def put(host: Host, wanted: Wanted, seen: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host, from the cache."""

    def told(image: str | None, changed: bool, moved: int = 0) -> dict[str, Any]:
        about = {name: prepared[name] for name in ("architectures", "size") if name in prepared}
        return answer(wanted.reference, wanted.content, image, changed, bytes_moved=moved, **about)

    if is_there(seen, wanted):
        there = seen["image"]
        about = {"architectures": [there["architecture"]], "size": there["size"], "bytes_moved": 0}
        return answer(wanted.reference, wanted.content, there["id"], changed=False, **about)
    if host.check_mode:
        return told(None, changed=True)
    if prepared.get("built_on") == host.name:
        return told(prepared["built_id"], changed=True)
    saved = LayerCache().saved(wanted.record)
    if saved is None:
        raise ImageError(f"the controller's cache has lost {wanted.reference}; run it again")
    image, moved = send(host, seen, saved, wanted.reference)
    return told(str(image["id"]), changed=True, moved=moved)


def union(hosts: dict[str, dict[str, Any]], diff_ids: list[str]) -> list[str]:
    """The layers that any of the hosts lacks."""
    return sorted({layer for seen in hosts.values() for layer in lacks(seen, diff_ids)})


def megabytes(options: dict[str, Any], name: str, default: int) -> int:
    """An option in MiB, in bytes."""
    return int(options.get(name, default)) * MIB
