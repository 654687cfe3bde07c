# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image out of a bundle, for hosts and controllers that reach no registry. The controller needs no Docker for it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError, made_as
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import Bundle, BundleError, opened
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import Found, Known, Wanted, union
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import ImageIdentity


class FromBundle:
    """A bundle as the origin of an image; it is opened once. Raises ImageError where it has none of that name.

    Name and content are what another way would have given the image.
    """

    def __init__(self, request: ImageRequest, bundle: Path) -> None:
        self._name = request.name
        self._path = bundle
        self._key = request.cosign_key

    @cached_property
    def _bundle(self) -> Bundle:
        if self._key:
            raise ImageError(
                f"fastapi_image_cosign_key is set, but the image comes from the bundle {self._path}, and signatures of "
                "images are in the registry, where they are looked for when a bundle is made. Nobody would look now: "
                "name those who may make bundles with slipway_bundle_signers, and empty the key for this run: "
                "-e fastapi_image_cosign_key="
            )
        try:
            return opened(self._path)
        except BundleError as error:
            raise ImageError(str(error)) from error

    @cached_property
    def _image(self) -> dict[str, Any]:
        try:
            return self._bundle.image(self._name)
        except BundleError as error:
            raise ImageError(str(error)) from error

    @cached_property
    def _saved(self) -> Saved:
        try:
            config = self._bundle.read(self._image["config"]).decode(errors="replace")
        except BundleError as error:
            raise ImageError(str(error)) from error
        return Saved.of(config)

    def identify(self) -> ImageIdentity:
        return ImageIdentity(self._image["reference"], self._image["content"], (self._image["architecture"],))

    def wanted(self) -> Wanted:
        told = json.loads(self._saved.config)
        known = Known(self._saved.id, self._saved.layers, made_as(told.get("created"), told.get("config")))
        return Wanted(self._image["reference"], self._image["content"], self._saved.id, known)

    def found(self, missing: Mapping[str, Result], hosts: Mapping[str, Link]) -> Found:
        layer_cache = LayerCache()
        parts = dict(zip(self._saved.layers, self._image["layers"], strict=True))
        try:
            for diff_id in union(missing, self._saved.layers):
                with tempfile.TemporaryFile() as spool:
                    self._bundle.copy(parts[diff_id], spool)
                    layer_cache.add(spool, diff_id)
        except BundleError as error:
            raise ImageError(str(error)) from error
        return Found(self._saved)
