# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Images in a bundle: from the Docker of the machine that makes it, and back into what `docker load` reads."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import Image
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import Bundle, BundleError, Writer


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


def write_archive(bundle: Bundle, image: dict[str, Any], target: Path) -> None:
    """Write an image of a bundle as an archive that `docker load` reads; every part is checked on its way."""
    identity = image["id"].partition(":")[2]
    with tarfile.open(target, "w") as archive:
        _add(archive, f"{identity}.json", bundle.read(image["config"]))
        names = []
        for name in image["layers"]:
            # Compressed layers are read as such by Docker, whatever their names.
            names.append(f"{Path(name).name.partition('.')[0]}/layer.tar")
            if names.count(names[-1]) == 1:
                with tempfile.TemporaryFile() as spool:
                    bundle.copy(name, spool)
                    size = spool.tell()
                    spool.seek(0)
                    item = tarfile.TarInfo(names[-1])
                    item.size = size
                    archive.addfile(item, spool)
        _add(archive, "manifest.json", json.dumps(_manifest(identity, names)).encode())


def _manifest(identity: str, layers: Iterable[str]) -> list[dict[str, Any]]:
    return [{"Config": f"{identity}.json", "RepoTags": None, "Layers": list(layers)}]


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(data)
    archive.addfile(item, BytesIO(data))
