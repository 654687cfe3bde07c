# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image out of a bundle, for hosts and controllers that reach no registry. The controller needs no Docker for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import Bundle, BundleError
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_images import write_archive
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, answer, cache, once


def identify(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the bundle has; both are what another way would have named them."""
    image = _image(options)
    return answer(image["reference"], image["content"], None, changed=False, architectures=[image["architecture"]])


def put(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host."""
    image = _image(options)
    reference, identity = image["reference"], image["id"]
    there = host.call(name=reference)["image"]
    changed = not (there and there["id"] == identity)
    if changed and not host.check_mode:
        archive = cache() / f"{identity.partition(':')[2]}.bundle.tar"
        with once(archive.name):
            if not archive.exists():
                part = archive.with_suffix(".part")
                try:
                    write_archive(_bundle(options), image, part)
                except BundleError as error:
                    part.unlink(missing_ok=True)
                    raise ImageError(str(error)) from error
                part.rename(archive)
        os.utime(archive)
        host.call_with(archive, operation="load", name=reference, expected=identity)
    return answer(reference, image["content"], identity, changed, architectures=[image["architecture"]])


def _bundle(options: dict[str, Any]) -> Bundle:
    try:
        return Bundle(Path(options["bundle"]))
    except BundleError as error:
        raise ImageError(str(error)) from error


def _image(options: dict[str, Any]) -> dict[str, Any]:
    try:
        return _bundle(options).image(str(options["name"]))
    except BundleError as error:
        raise ImageError(str(error)) from error
