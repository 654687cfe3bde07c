# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that each host takes from its registry."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, answer


def digest_of(name: str) -> str:
    """The digest in an image name, empty where it has none: sha256:... of registry.example/app@sha256:..."""
    return name.partition("@")[2]


def identify(options: dict[str, Any]) -> dict[str, Any]:
    """Name and content; the content is empty for a tag, which only the registry can resolve."""
    name = str(options["name"])
    return answer(name, digest_of(name), None, changed=False)


def put(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host."""
    name = str(options["name"])
    result = host.call(operation="pull", name=name, pull_again=options.get("pull_again", False))
    image = result.get("image")
    if image is None:
        return answer(name, name, None, changed=True)
    digest = next(iter(image["digests"]), name)
    return answer(digest, digest_of(name) or image["id"], image["id"], changed=result["changed"])
