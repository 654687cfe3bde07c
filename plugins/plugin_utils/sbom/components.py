# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The components of CycloneDX documents. Needs cyclonedx-python-lib, whose import takes a third of a second.

Only where `AVAILABLE`.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from ansible_collections.slipway.fleet.plugins.module_utils.image.inventory import distribution

try:
    from cyclonedx.factory.license import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

# The space of names for the serial numbers, which are the same for the same content.
_SPACE = UUID("6f0b2d1e-6f7e-5d2c-9f53-3c1f5a1c0b77")


def of_image(name: str, inventory: Mapping[str, Any]) -> str:
    """The document of an image, from what `image_inventory` found in it."""
    identity = inventory["id"]
    algorithm, _, digest = identity.partition(":")
    component = Component(
        type=ComponentType.CONTAINER,
        name=name,
        version=identity,
        bom_ref=identity,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if algorithm == "sha256" else [],
        properties=[Property(name="slipway:architecture", value=inventory["architecture"])],
    )
    system = inventory["system"]
    qualifiers = {"distro": f"{system['ID']}-{system.get('VERSION_ID', '')}"} if system.get("ID") else {}
    parts = [
        *(_debian(package, system.get("ID", "debian"), qualifiers) for package in inventory["debian"]),
        *(_python(found["name"], found["version"], found["licence"]) for found in inventory["python"]),
    ]
    return _document(component, parts, _moment(inventory["created"]))


def of_wheels(name: str, content: str, wheels: Iterable[tuple[Path, str]]) -> str:
    """The document of a package of the runtime systemd, from its wheels and their SHA-256."""
    component = Component(
        type=ComponentType.APPLICATION,
        name=name,
        version=content,
        bom_ref=content,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=content)],
    )
    parts = []
    for path, sha256 in wheels:
        with zipfile.ZipFile(path) as wheel:
            metadata = next(entry for entry in wheel.namelist() if entry.endswith(".dist-info/METADATA"))
            found = distribution(wheel.read(metadata).decode(errors="replace"))
        parts.append(_python(found["name"], found["version"], found["licence"], sha256))
    return _document(component, parts, datetime.fromtimestamp(0, timezone.utc))


def _document(component: Component, parts: Iterable[Component], moment: datetime) -> str:
    bom = Bom(components=parts, serial_number=uuid5(_SPACE, str(component.version)))
    bom.metadata.component = component
    bom.metadata.timestamp = moment
    bom.register_dependency(component, bom.components)
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def _debian(package: Mapping[str, str], vendor: str, qualifiers: Mapping[str, str]) -> Component:
    purl = PackageURL(
        "deb", vendor, package["name"], package["version"], {"arch": package["architecture"], **qualifiers}
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=package["name"],
        version=package["version"],
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=_licences(package["licence"]),
        properties=[Property(name="slipway:source", value=f"{package['source']} {package['source_version']}")],
    )


def _python(name: str, version: str, licence: str, sha256: str = "") -> Component:
    purl = PackageURL("pypi", None, re.sub(r"[-_.]+", "-", name).lower(), version)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=version,
        bom_ref=purl.to_string(),
        purl=purl,
        licenses=_licences(licence),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else [],
    )


def _licences(text: str) -> list[Any]:
    """One licence: an identifier or an expression of SPDX where the text is one, else its name."""
    return [LicenseFactory().make_from_string(text)] if text else []


def _moment(text: str) -> datetime:
    """Docker writes nanoseconds, which datetime does not read. An image that was made without a time has the first."""
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*Z$|Z$", r"\1+00:00", text))
    except ValueError:
        return datetime.fromtimestamp(0, timezone.utc)
