# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Software bills of materials: CycloneDX documents of images and packages, each a function of its content alone."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import NO_ARCHIVE

KEPT = 40


class SbomError(SlipwayError):
    """There is no bill of materials; the text says why and what to do."""


def cached(content: str) -> Path:
    """Where the document of a content is kept on the controller, there or not."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "slipway" / "sbom"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory / f"{re.sub('[^a-z0-9]', '-', content)}.cdx.json"


def keep(content: str, text: str) -> Path:
    """Keep a document for other hosts and later deploys; the oldest ones go."""
    path = cached(content)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    for old in older(path.parent.glob("*.cdx.json"), KEPT):
        old.unlink(missing_ok=True)
    return path


def of_image(name: str, inventory: Mapping[str, Any]) -> str:
    """The document of an image, from what `image_inventory` found in it. Raises SbomError."""
    return _made(_components().of_image, name, inventory)


def of_wheels(name: str, content: str, wheels: Iterable[tuple[Path, str]]) -> str:
    """The document of a package of the runtime systemd, from its wheels and their SHA-256. Raises SbomError."""
    return _made(_components().of_wheels, name, content, wheels)


def _made(make: Callable[..., str], name: str, *content: object) -> str:
    """A document of what others wrote, in which a name may be none that one can have."""
    try:
        return make(name, *content)
    except (*NO_ARCHIVE, zipfile.BadZipFile, NotImplementedError, RuntimeError, StopIteration, TypeError) as error:
        raise SbomError(f"no bill of materials can be made of {name}: {type(error).__name__}: {error}") from error


def _components() -> Any:
    from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import (  # noqa: PLC0415 - most runs make none
        components,
    )

    if not components.AVAILABLE:
        raise SbomError("the controller's Python has no cyclonedx-python-lib; install it there with pip")
    return components


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
