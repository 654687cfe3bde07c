# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The bill of materials of an image, made once for each content: where the image was made or taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.inventory import take
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import Bundle, BundleError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host, once
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom


def have(host: Host, options: dict[str, Any], identity: str | None) -> dict[str, Any]:
    """The path of the document as `sbom`, or a warning that says why there is none. A deploy does not fail for it."""
    if identity is None:  # a dry run
        return {}
    path = sbom.cached(identity)
    with once(f"sbom-{identity.rpartition(':')[2][:12]}"):
        if not path.exists():
            try:
                path = sbom.keep(identity, _made(host, options, identity))
            except (ImageError, BundleError, sbom.SbomError) as error:
                return {"warnings": [f"the release has no bill of materials (SBOM): {error}"]}
    return {"sbom": str(path)}


def _made(host: Host, options: dict[str, Any], identity: str) -> str:
    if options.get("bundle"):
        bundle = Bundle(Path(options["bundle"]))
        part = bundle.image(str(options["name"])).get("sbom")
        if part:
            return bundle.read(part).decode()
    return sbom.of_image(str(options["name"]), _inventory(host, identity))


def _inventory(host: Host, identity: str) -> dict[str, Any]:
    """From the controller's Docker where that has the image, else from the host's."""
    try:
        here = find(identity) is not None
    except ImageError:
        here = False
    if here:
        return take(identity)
    inventory: dict[str, Any] = host.call(operation="inventory", name=identity)["inventory"]
    return inventory
