# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that is built once, from a context on the controller: there or on a host of the inventory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import build as image_build
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import BuildContext, ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host, answer, once
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache, fetch
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.move import Found, Wanted, union
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.ship import in_cache

CONTROLLER = "controller"


def identify(_host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the build will make."""
    image = wanted(options)
    saved = LayerCache().saved(image.record)
    made_for = [saved.architecture] if saved else []
    return answer(image.reference, image.content, None, changed=False, architectures=made_for)


def wanted(options: dict[str, Any]) -> Wanted:
    """The image of the context, by its content."""
    key = _context(options).key()
    return Wanted(f"{options['name']}:{key[:12]}", key, key)


def found(host: Host, options: dict[str, Any], image: Wanted, hosts: dict[str, dict[str, Any]]) -> Found:
    """What hosts lack of it, in the cache: from there if it was built before, else from a build on the build host."""
    layer_cache = LayerCache()
    if (saved := layer_cache.saved(image.record)) and set(union(hosts, saved.layers)) <= set(layer_cache.layers()):
        return Found(saved)
    if options.get("build_on", CONTROLLER) == CONTROLLER:
        return _built_here(options, image, hosts)
    return _built_there(host, options, image, hosts)


def take_here(options: dict[str, Any]) -> tuple[Image, str, str]:
    """Have the image in the controller's Docker, built there if need be; returns it, its reference and its content."""
    image = wanted(options)
    return _image_here(options, image)[0], image.reference, image.content


def _built_here(options: dict[str, Any], image: Wanted, hosts: dict[str, dict[str, Any]]) -> Found:
    local, built = _image_here(options, image)
    return in_cache(local, hosts, built)


def _image_here(options: dict[str, Any], image: Wanted) -> tuple[Image, bool]:
    """The image in the controller's Docker, and whether it was built now."""
    with once(f"build-{image.content[:12]}"):
        local = find(image.reference)
        if local and local.content == image.content:
            return local, False
        with _archive(options) as (archive, context):
            local = image_build.build(
                archive, image.reference, image.content, context.dockerfile, context.arguments,
                options.get("build_secrets") or {},
            )  # fmt: skip
        image_build.prune_tags(image.reference)
    return local, True


def _built_there(host: Host, options: dict[str, Any], image: Wanted, hosts: dict[str, dict[str, Any]]) -> Found:
    with _archive(options) as (archive, context):
        result = host.call_with(
            archive,
            operation="build",
            name=image.reference,
            content=image.content,
            dockerfile=context.dockerfile,
            build_args=context.arguments,
            build_secrets=options.get("build_secrets") or {},
            build_cache_mib=options.get("build_cache_mib"),
        )
    built = result["image"]
    others = {name: seen for name, seen in hosts.items() if name != host.name}
    saved = fetch(host, image.reference, union(others, built["layers"]))
    return Found(saved, result["changed"], host.name, built["id"])


@contextmanager
def _archive(options: dict[str, Any]) -> Iterator[tuple[Path, BuildContext]]:
    """The context as a file that a build reads."""
    context = _context(options)
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        archive = Path(directory) / "context.tar"
        context.write(archive)
        yield archive, context


def _context(options: dict[str, Any]) -> BuildContext:
    if not options.get("context"):
        raise ContextError("a build needs `context`, the directory with the Dockerfile")
    ca_file = options.get("ca_file")
    return BuildContext(
        Path(options["context"]),
        options.get("dockerfile", "Dockerfile"),
        {key: str(value) for key, value in (options.get("build_args") or {}).items()},
        Path(ca_file) if ca_file else None,
    )
