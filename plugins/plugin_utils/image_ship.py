# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that the controller's Docker has and that is sent to the hosts that lack it."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils import layers
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, answer


def identify(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the controller has."""
    name = str(options["name"])
    local = find(name)
    return answer(name, local.id if local else "", None, changed=False)


def put(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host."""
    name = str(options["name"])
    local = find(name)
    if local is None:
        raise ImageError(f"the controller's Docker has no image {name}; pull or build it, or set source to pull")
    there = host.call(name=name)["image"]
    if there and there["id"] == local.id:
        return answer(name, local.id, local.id, changed=False)
    if not host.check_mode:
        layers.send(host, local, name)
    return answer(name, local.id, local.id, changed=True)
