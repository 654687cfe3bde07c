"""Single layers of an image out of Docker's own storage, for a process that may read it; `docker save` writes them all.

The storage driver overlay2 keeps a directory of files for each layer, and what else is in its tar file (headers and
padding, in the format of github.com/vbatts/tar-split) beside it. Together they are the tar file byte by byte. Whoever
reads it compares it with its diff id, so a Docker that keeps its layers otherwise costs nothing but this attempt.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .local import ImageError, docker

_BLOCK = 1 << 20
_HEADERS, _FILE = 2, 1


class Storage:
    """Docker's storage below `root`, which is /var/lib/docker unless somebody moved it."""

    def __init__(self, root: Path) -> None:
        self._layers = root / "image/overlay2/layerdb/sha256"
        self._configs = root / "image/overlay2/imagedb/content/sha256"
        self._files = root / "overlay2"

    @classmethod
    def of(cls, image: str) -> Optional[Storage]:
        """The storage that has an image; None where it is of another kind or this process may not read it."""
        try:
            upper = docker("image", "inspect", "--format", '{{index .GraphDriver.Data "UpperDir"}}', image).strip()
        except ImageError:
            return None
        found = Path(upper)
        if found.name != "diff" or not os.access(found, os.R_OK | os.X_OK):
            return None
        return cls(found.parents[2])

    def config(self, image: str) -> str:
        """The configuration of an image by its id, as it is hashed. Raises OSError and ValueError."""
        text = (self._configs / image.partition(":")[2]).read_text(encoding="utf-8")
        if f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" != image:
            raise ValueError(f"the configuration of {image} is another one")
        return text

    def layer(self, chain_id: str) -> Iterator[bytes]:
        """The tar file of a layer, by its name together with all below it. Raises OSError and ValueError."""
        place = self._layers / chain_id.partition(":")[2]
        files = self._files / (place / "cache-id").read_text(encoding="ascii").strip() / "diff"
        with gzip.open(place / "tar-split.json.gz", "rt", encoding="utf-8") as entries:
            for line in entries:
                entry = json.loads(line)
                if entry["type"] == _HEADERS:
                    yield base64.b64decode(entry["payload"])
                elif entry.get("size"):
                    yield from _content(files, entry)


def _content(files: Path, entry: dict[str, object]) -> Iterator[bytes]:
    """What stands in the tar file for one file; a name that is no UTF-8 comes in base64."""
    raw = entry.get("name_raw")
    name = base64.b64decode(str(raw)) if raw else os.fsencode(str(entry["name"]))
    # Without following a link, which in the storage would lead out of the layer.
    handle = os.open(os.path.join(os.fsencode(files), name.lstrip(b"/")), os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as stream:
        while block := stream.read(_BLOCK):
            yield block
