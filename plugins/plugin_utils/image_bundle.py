# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image out of a bundle, for hosts and controllers that reach no registry. The controller needs no Docker for it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import ImageError, made_as
from ansible_collections.slipway.fleet.plugins.module_utils.layers import Saved
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import Bundle, BundleError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, answer
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_move import Found, Known, Wanted, union
from ansible_collections.slipway.fleet.plugins.plugin_utils.layers import LayerCache


def identify(_host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the bundle has; both are what another way would have named them."""
    image = _image(options)
    return answer(image["reference"], image["content"], None, changed=False, architectures=[image["architecture"]])


def wanted(options: dict[str, Any]) -> Wanted:
    """The image of the bundle. Raises ImageError where it has none of that name."""
    image, saved = _image(options), _saved(options)
    told = json.loads(saved.config)
    known = Known(saved.id, saved.layers, made_as(told.get("created"), told.get("config")))
    return Wanted(image["reference"], image["content"], saved.id, known)


def found(_host: Host, options: dict[str, Any], _image_wanted: Wanted, hosts: dict[str, dict[str, Any]]) -> Found:
    """What hosts lack of it, in the cache."""
    saved, layer_cache = _saved(options), LayerCache()
    parts = dict(zip(saved.layers, _image(options)["layers"], strict=True))
    try:
        for diff_id in union(hosts, saved.layers):
            with tempfile.TemporaryFile() as spool:
                _bundle(options).copy(parts[diff_id], spool)
                layer_cache.add(spool, diff_id)
    except BundleError as error:
        raise ImageError(str(error)) from error
    return Found(saved)


def _saved(options: dict[str, Any]) -> Saved:
    try:
        config = _bundle(options).read(_image(options)["config"]).decode()
    except BundleError as error:
        raise ImageError(str(error)) from error
    return Saved(config, json.loads(config)["rootfs"]["diff_ids"])


def _bundle(options: dict[str, Any]) -> Bundle:
    """The bundle. Raises ImageError that says why it cannot be used."""
    if options.get("cosign_key"):
        raise ImageError(
            f"fastapi_image_cosign_key is set, but the image comes from the bundle {options['bundle']}, and signatures "
            "of images are in the registry, where they are looked for when a bundle is made. Nobody would look now: "
            "check a signature of the bundle itself (cosign verify-blob), and empty the key for this run: "
            "-e fastapi_image_cosign_key="
        )
    try:
        return Bundle(Path(options["bundle"]))
    except BundleError as error:
        raise ImageError(str(error)) from error


def _image(options: dict[str, Any]) -> dict[str, Any]:
    try:
        return _bundle(options).image(str(options["name"]))
    except BundleError as error:
        raise ImageError(str(error)) from error
