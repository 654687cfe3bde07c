# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Images on their way into a bundle, from the Docker of the machine that makes it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from typing import IO, Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, Writer


def add(writer: Writer, image: Image) -> dict[str, Any]:
    """Write the layers and the configuration of an image that this Docker has; layers that are there are not repeated.

    Returns what the manifest says of the image's parts.
    """
    with tempfile.NamedTemporaryFile(prefix="slipway-") as saved:
        with subprocess.Popen(["docker", "save", image.id], stdout=saved) as process:
            pass
        if process.returncode:
            raise BundleError(f"`docker save {image.id}` failed with exit code {process.returncode}")
        with tarfile.open(saved.name) as archive:
            return add_saved(writer, archive, image.id)


def add_saved(writer: Writer, archive: tarfile.TarFile, image: str) -> dict[str, Any]:
    """As `add`, from what `docker save` wrote, in whichever of its two forms."""
    listed = json.loads(_member(archive, "manifest.json").read())[0]
    config = _member(archive, listed["Config"]).read()
    if f"sha256:{hashlib.sha256(config).hexdigest()}" != image:
        raise BundleError(f"`docker save {image}` gave another image, {listed['Config']}; try again")
    described = json.loads(config)
    layers = []
    for diff_id, path in zip(described["rootfs"]["diff_ids"], listed["Layers"]):
        name = f"layers/{diff_id.partition(':')[2]}.tar.gz"
        if name not in writer and f"sha256:{writer.add_compressed(name, _member(archive, path))}" != diff_id:
            raise BundleError(f"layer {path} of {image} is not what the image says ({diff_id}); try again")
        layers.append(name)
    part = f"images/{image.partition(':')[2]}.json"
    if part not in writer:
        writer.add_bytes(part, config)
    return {"id": image, "architecture": described["architecture"], "config": part, "layers": layers}


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise BundleError(f"`docker save` wrote no {name}")
    return stream
