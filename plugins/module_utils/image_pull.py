"""On a host: take an image from its registry."""

from __future__ import annotations

from typing import Any

from .image import ImageError, docker, find, look


def pull(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The image as the host has it afterwards."""
    name = options["name"]
    there = look(name, check_mode)
    if (there["image"] and not options["pull_again"]) or check_mode:
        return there
    try:
        docker("pull", "--quiet", name, timeout=1800)
    except ImageError as error:
        raise ImageError(
            f"{name} could not be pulled, so nothing was switched: {error}; look whether the name is right, and "
            "whether this host reaches the registry and is logged in there"
        ) from error
    pulled = find(name)
    if pulled is None:
        raise ImageError(f"`docker pull {name}` succeeded, but the image is not there")
    return {"changed": (there["image"] or {}).get("id") != pulled.id, "image": pulled.as_dict()}
