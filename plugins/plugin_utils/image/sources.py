# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""From a request to the way that it goes."""

from __future__ import annotations

from ansible_collections.slipway.fleet.plugins.plugin_utils.image.build import FromContext
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.bundle import FromBundle
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.pull import Pulled
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.ship import FromDocker
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import Shipped


def source_of(request: ImageRequest, run: str, check_mode: bool) -> Pulled | Shipped:
    """The ImageSource of a request; `run` names the run in which a registry is asked once for all."""
    if request.bundle:
        return Shipped(request, FromBundle(request, request.bundle), check_mode)
    if request.source == "pull":
        return Pulled(request, run, check_mode)
    origin = FromContext(request) if request.source == "build" else FromDocker(request)
    return Shipped(request, origin, check_mode)
