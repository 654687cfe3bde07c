# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The bill of materials of an image, made once for each content, from what is at hand.

An image that came through the controller's cache is read layer by layer, and what was found in a layer is kept: after a
change of code only the layer of the code is read. Any other is read where it was made or taken.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.module_utils.image import inventory
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Packed, Saved
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, opened
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import cache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import ImageSource
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom

# Of how many layers the controller keeps what is in them, and the form in which it is kept.
LAYERS_KEPT, FORMAT = 400, 1
# A release goes out without one; the text says why there is none.
ERRORS = (ImageError, BundleError, sbom.SbomError, Refused, Unreachable, OSError)


def of(source: ImageSource, image: str, host: Link) -> Path:
    """The file with the document of an image; `image` is its id on the host. Raises ERRORS."""
    path = sbom.cached(image)
    with cache.once(f"sbom-{image.rpartition(':')[2][:12]}"):
        return path if path.exists() else sbom.keep(image, _made(source, image, host))


def _made(source: ImageSource, image: str, host: Link) -> str:
    request = source.request
    if request.bundle:
        bundle = opened(request.bundle)
        if part := bundle.image(request.name).get("sbom"):
            return bundle.read(part).decode()
    local = _here(image)
    saved = source.kept()
    if saved and (found := of_layers(saved, local)):
        # Under the name that the host gives it, which a containerd store does by other rules.
        return sbom.of_image(request.name, found | {"id": image})
    if local:
        return sbom.of_image(request.name, inventory.take(image))
    return sbom.of_image(request.name, host.call("inventory", name=image)["inventory"])


def _here(image: str) -> Image | None:
    """The image where the controller's Docker has it; there may be no Docker."""
    try:
        return find(image)
    except ImageError:
        return None


def of_layers(saved: Saved, local: Image | None) -> dict[str, Any] | None:
    """The inventory of an image by those of its layers; None where one of them is at hand nowhere."""
    kept = {diff_id: _kept(diff_id) for diff_id in saved.layers}
    unread = [diff_id for diff_id, found in kept.items() if found is None]
    layer_cache = LayerCache()
    packed = layer_cache.layers()
    if local and not packed.keys() >= set(unread):
        layer_cache.take(local, unread)
        packed = layer_cache.layers()
    if not packed.keys() >= set(unread):
        return None
    for diff_id in unread:
        kept[diff_id] = _read(packed[diff_id])
    return inventory.of_layers(json.loads(saved.config), [found for found in kept.values() if found is not None])


def file_of(diff_id: str) -> Path:
    """Where it is kept what was found in a layer."""
    return cache.directory("inventories") / f"{diff_id.rpartition(':')[2]}.json"


def _kept(diff_id: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(file_of(diff_id).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found["layer"] if found.get("format") == FORMAT else None


def _read(layer: Packed) -> dict[str, Any]:
    with layer.path.open("rb") as stream:
        found = inventory.read_layer(stream)
    path = file_of(layer.diff_id)
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"format": FORMAT, "layer": found}), encoding="utf-8")
    part.replace(path)
    for old in older(path.parent.glob("*.json"), LAYERS_KEPT):
        old.unlink(missing_ok=True)
    return found
