# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Images on their way from the controller's Docker to that of a host."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.image import Image, ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host, cache, once

ARCHIVES_KEPT = 3


def send(host: Host, image: Image, reference: str) -> None:
    """Send an image that the controller has; the compressed archive is made once and kept for the next host."""
    archive = cache() / f"{image.id.rpartition(':')[2]}.tar.gz"
    with once(archive.name):
        if not archive.exists():
            _save(image, archive)
    os.utime(archive)
    host.call_with(archive, operation="load", name=reference, expected=image.id)


def _save(image: Image, archive: Path) -> None:
    part = archive.with_suffix(".part")
    with subprocess.Popen(["docker", "save", image.id], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with gzip.open(part, "wb", compresslevel=1) as stream:
            shutil.copyfileobj(process.stdout, stream, 1 << 20)
    if process.returncode:
        part.unlink()
        raise ImageError(f"`docker save {image.id}` failed with exit code {process.returncode}")
    part.rename(archive)
    for old in sorted(cache().glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-ARCHIVES_KEPT]:
        old.unlink()
