# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that the controller's Docker has and that is sent to the hosts that lack it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import Found, Known, Wanted, union
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import ImageIdentity


class FromDocker:
    """The controller's Docker as the origin of an image."""

    def __init__(self, request: ImageRequest) -> None:
        self._name = request.name

    def identify(self) -> ImageIdentity:
        local = self._local
        return ImageIdentity(self._name, local.id, (local.architecture,), local.size)

    def wanted(self) -> Wanted:
        local = self._local
        return Wanted(self._full_name, local.id, local.id, Known(local.id, local.layers, local.made))

    def found(self, missing: Mapping[str, Result], hosts: Mapping[str, Link]) -> Found:
        return in_cache(self._local, missing)

    @property
    def _full_name(self) -> str:
        """The name with its tag. Raises ImageError for one that Docker could not give to an image that it is sent."""
        if "@" in self._name:
            raise ImageError(
                f"fastapi_image_name is {self._name}, and an image cannot be shipped under a digest, which only a "
                "registry gives to one; name its tag, or set fastapi_image_source to pull"
            )
        return self._name if ":" in self._name.rpartition("/")[2] else f"{self._name}:latest"

    @cached_property
    def _local(self) -> Image:
        """Raises ImageError where Docker has none of that name."""
        name = self._full_name
        local = find(name)
        if local is None:
            raise ImageError(
                f"the controller's Docker has no image {name}, as fastapi_image_name says and fastapi_image_source: "
                "ship needs; mend the name, pull or build the image here, or set fastapi_image_source to pull"
            )
        return local


def in_cache(local: Image, missing: Mapping[str, Result], built: bool = False) -> Found:
    """The layers of the controller's image that any of the hosts lacks, in the cache."""
    return Found(LayerCache().take(local, union(missing, local.layers)), built)
