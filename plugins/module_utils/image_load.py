"""On a host: have an image from what the controller sent."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from .image import CONTENT_LABEL, ImageError, build_arguments, docker, find


def load(options: dict[str, Any]) -> dict[str, Any]:
    """Load an archive of `docker save` and tag it; raises ImageError when it holds another image than `expected`."""
    expected = options["expected"]
    docker("load", "--quiet", "--input", str(options["archive"]))
    if find(expected) is None:
        raise ImageError(
            f"the archive did not bring image {expected}; it was changed on its way or made by another tool"
        )
    docker("tag", expected, options["name"])
    found = find(options["name"])
    assert found is not None
    return {"changed": True, "image": found.as_dict()}


def build(options: dict[str, Any]) -> dict[str, Any]:
    """Build from a context archive that the controller sent."""
    directory = Path(tempfile.mkdtemp(prefix="slipway-build-"))
    try:
        with tarfile.open(options["archive"]) as archive:
            archive.extractall(directory)  # noqa: S202 - the archive is the controller's own
        arguments = build_arguments(options["build_args"])
        docker(
            "build", "--tag", options["name"], "--file", str(directory / options["dockerfile"]),
            "--label", f"{CONTENT_LABEL}={options['content']}", *arguments, str(directory),
            timeout=3600,
        )  # fmt: skip
    finally:
        shutil.rmtree(directory)
    built = find(options["name"])
    return {"changed": True, "image": built.as_dict() if built else None}
