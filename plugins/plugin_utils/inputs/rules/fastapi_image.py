# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.fastapi_image must be beyond their types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import SOURCES
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

_FILE = "group_vars/web/fastapi_image.yml"


def image(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no image can be had with."""
    source, resolve = value_of("fastapi_image_source"), value_of("fastapi_image_registry_resolve")
    if source == "build_on_host":
        yield (
            "fastapi_image_source is build_on_host, which is gone, since each host built an image of its own. Set "
            f"fastapi_image_source: build, and fastapi_image_build_on: first or the name of a host ({_FILE})."
        )
    elif source not in SOURCES:
        yield f"fastapi_image_source is {source}, but must be one of {', '.join(SOURCES)} ({_FILE})."
    yield from _built(source, value_of)
    if not value_of("__fastapi_image_name"):
        yield (f"fastapi_image_source is {source}, so fastapi_image_name must name the image to take ({_FILE}).")
    if bool(value_of("fastapi_image_registry_user")) != bool(value_of("fastapi_image_registry_password")):
        yield (
            "Of fastapi_image_registry_user and fastapi_image_registry_password only one is set; set both, the "
            "password by a vault_* variable (`ansible-vault edit` of the inventory's vault.yml), or none."
        )
    if value_of("fastapi_image_cosign_key") and (source, resolve) != ("pull", "controller"):
        yield (
            f"fastapi_image_cosign_key is set, but with fastapi_image_source: {source} and "
            f"fastapi_image_registry_resolve: {resolve} nobody looks for a signature. It takes pull and controller, "
            "since signatures are in the registry and the controller has cosign; or empty the key."
        )
    key = str(value_of("fastapi_image_build_ssh_key")).strip()
    if key and not re.match(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", key):
        yield (
            "fastapi_image_build_ssh_key is no private key, which begins with -----BEGIN OPENSSH PRIVATE KEY----- or "
            "the like; put the whole text of its file into the vault (vault_fastapi_image_build_ssh_key: |, the lines "
            "below and further in), neither its path nor the .pub beside it."
        )
    build_on = value_of("fastapi_image_build_on")
    if build_on not in {"controller", "first", *value_of("groups")["all"]}:
        yield (
            f"fastapi_image_build_on is {build_on}, but must be controller, first, or a host of the inventory "
            f"({_FILE})."
        )


def _built(source: str, value_of: Values) -> Iterator[str]:
    """What a build has and nothing else, and the other way round."""
    if source == "build" and (named := value_of("__fastapi_image_wanted")):
        yield (
            f"fastapi_image_name is {named}, but a build takes none: its image is made of fastapi_image_context "
            f"({value_of('fastapi_image_context')}) and named by what is in it. Set fastapi_image_source: pull (ship, "
            f"where the controller's Docker has it), or take fastapi_image_name out ({_FILE})."
        )
    target = str(value_of("fastapi_image_target"))
    if target and source != "build":
        yield (
            f"fastapi_image_target is {target}, which a build alone makes use of, and fastapi_image_source is "
            f"{source}; empty it, or name the directory to build with fastapi_image_context ({_FILE})."
        )
    elif target and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", target):
        yield f"fastapi_image_target is {target}; use the name of a stage in the Dockerfile, or its number ({_FILE})."
