# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that the controller's Docker has and that is sent to the hosts that lack it."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host, answer
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.move import Found, Known, Wanted, union


def identify(_host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the controller has."""
    name = str(options["name"])
    local = find(name)
    if local is None:
        return answer(name, "", None, changed=False, architectures=[])
    return answer(name, local.id, None, changed=False, architectures=[local.architecture], size=local.size)


def wanted(options: dict[str, Any]) -> Wanted:
    """The image of the controller. Raises ImageError where it has none of that name."""
    name = str(options["name"])
    if "@" in name:
        raise ImageError(
            f"{name} cannot be shipped under a digest, which only a registry gives to an image; name its tag, or set "
            "source to pull"
        )
    if ":" not in name.rpartition("/")[2]:
        name += ":latest"
    local = _local(name)
    return Wanted(name, local.id, local.id, Known(local.id, local.layers, local.made))


def _local(name: str) -> Image:
    local = find(name)
    if local is None:
        raise ImageError(f"the controller's Docker has no image {name}; pull or build it, or set source to pull")
    return local


def found(_host: Host, options: dict[str, Any], image: Wanted, hosts: dict[str, dict[str, Any]]) -> Found:
    """What hosts lack of it, in the cache."""
    return in_cache(_local(image.record), hosts)


def in_cache(local: Image, hosts: dict[str, dict[str, Any]], built: bool = False) -> Found:
    """The layers of the controller's image that any of the hosts lacks, in the cache."""
    return Found(LayerCache().take(local, union(hosts, local.layers)), built)
