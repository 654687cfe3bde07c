# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that is built from a context on the controller, there or on the hosts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.build_context import BuildContext, ContextError
from ansible_collections.slipway.fleet.plugins.module_utils.image import (
    CONTENT_LABEL,
    Image,
    ImageError,
    build_arguments,
    docker,
    find,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils import layers
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, answer, once


def identify(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Name and content of what the build will make."""
    key = _context(options).key()
    return answer(_reference(options, key), key, None, changed=False)


def put(host: Host, options: dict[str, Any]) -> dict[str, Any]:
    """Have the image on the host."""
    context = _context(options)
    key = context.key()
    reference = _reference(options, key)
    there = host.call(name=reference)["image"]
    if there:
        return answer(reference, key, there["id"], changed=False)
    if host.check_mode:
        return answer(reference, key, None, changed=True)
    if options["source"] == "build_on_host":
        image = _build_there(host, context, key, reference)
    else:
        local = _build_here(context, key, reference)
        layers.send(host, local, reference)
        image = local.id
    return answer(reference, key, image, changed=True)


def take_here(options: dict[str, Any]) -> tuple[Image, str, str]:
    """Have the image in the controller's Docker, built there if need be; returns it, its reference and its content."""
    context = _context(options)
    key = context.key()
    reference = _reference(options, key)
    return _build_here(context, key, reference), reference, key


def _reference(options: dict[str, Any], key: str) -> str:
    return f"{options['name']}:{key[:12]}"


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


def _build_here(context: BuildContext, key: str, reference: str) -> Image:
    """Build on the controller unless it has the content already. Raises ImageError with the build's output."""
    with once(f"build-{key[:12]}"):
        found = find(reference)
        if found and found.content == key:
            return found
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "context.tar"
            context.write(archive)
            arguments = build_arguments(context.arguments)
            with open(archive, "rb") as stream:
                docker(
                    "build", "--tag", reference, "--file", context.dockerfile,
                    "--label", f"{CONTENT_LABEL}={key}", *arguments, "-",
                    timeout=3600, stdin=stream,
                )  # fmt: skip
        built = find(reference)
    if built is None:
        raise ImageError(f"the build of {reference} succeeded, but the image is not there")
    return built


def _build_there(host: Host, context: BuildContext, key: str, reference: str) -> str:
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        archive = Path(directory) / "context.tar"
        context.write(archive)
        result = host.call_with(
            archive,
            operation="build",
            name=reference,
            content=key,
            dockerfile=context.dockerfile,
            build_args=context.arguments,
        )
    return str(result["image"]["id"])
