# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Makes a bundle of what the roles of all hosts need."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.image.inventory import take
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, find
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BLOCK, BundleError, Writer
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    debian as bundle_debian,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    images as bundle_images,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    project as bundle_project,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.build import FromContext
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.pull import take_here
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import (
    PackageSource,
    cached_wheels,
    project_directory,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom

ROOT = Path(__file__).resolve().parents[3]
Told = Callable[[str], None]
Sign = Callable[[bytes], tuple[bytes, bytes]]
# Debian's names of processors and those of wheels.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def make(
    file: Path,
    needs: list[dict[str, Any]],
    releases: Mapping[str, str],
    collections: Iterable[str],
    told: Told,
    sign: Sign | None = None,
) -> dict[str, Any]:
    """Write the bundle.

    Args:
        file: Where to; it appears there when it is whole.
        needs: What the roles told, of all hosts.
        releases: Image of a container for each Debian release of the hosts.
        collections: To take from where Ansible finds them here.
        told: Is called with a line for each step.
        sign: Gives statement and signature for the sums of all parts; without it the bundle has none.

    Returns:
        What was made, for the result of the task.
    """
    groups = _groups(needs)
    images = _distinct(image for need in needs for image in need["images"])
    packages = _distinct(need["package"] for need in needs if need["package"])
    if not releases:
        raise BundleError("slipway_bundle_releases is empty; name the Debian release of the hosts and an image of it")
    with Writer(file) as writer, tempfile.TemporaryDirectory(prefix="slipway-", dir=file.parent) as scratch:
        manifest: dict[str, Any] = {"images": [], "debian": [], "wheels": []}
        for options in images:
            manifest["images"].append(_image(writer, options, told))
        for release, container in sorted(releases.items()):
            place = Path(scratch) / release
            place.mkdir()
            repository, targets = _packages(writer, release, container, groups, place, told)
            manifest["debian"].append(repository)
            if packages:
                manifest["wheels"] += _wheels(writer, packages, targets, told)
        told("this project and its collections")
        version = str(yaml.safe_load(_metadata(ROOT))["version"])
        manifest["project"] = bundle_project.add_project(writer, ROOT, version)
        manifest["collections"] = bundle_project.add_collections(writer, collections)
        writer.finish(manifest, sign)
        parts = (
            len(manifest["images"]),
            sum(len(item["packages"]) for item in manifest["debian"]),
            len(manifest["wheels"]),
        )
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while data := stream.read(BLOCK):
            digest.update(data)
    size = file.stat().st_size
    told(f"{file}: {size / 1e6:.0f} MB, {parts[0]} images, {parts[1]} packages, {parts[2]} wheels")
    told(f"sha256 {digest.hexdigest()}")
    return {"file": str(file), "sha256": digest.hexdigest(), "size": size}


def _metadata(root: Path) -> str:
    """The collection's metadata, of a checkout or of an installed one."""
    source = root / "galaxy.yml"
    if source.is_file():
        return source.read_text(encoding="utf-8")
    return json.dumps(json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"])


def _groups(needs: Iterable[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {"ansible": {bundle_debian.ANSIBLE}}
    for need in needs:
        for group, names in need["needed"].items():
            found.setdefault(group, set()).update(names)
    return {group: sorted(names) for group, names in sorted(found.items())}


def _distinct(items: Iterable[Any]) -> list[Any]:
    """Each once, in an order that does not depend on that of the hosts."""
    return [json.loads(text) for text in sorted({json.dumps(item, sort_keys=True) for item in items})]


def _image(writer: Writer, options: dict[str, Any], told: Told) -> dict[str, Any]:
    request = ImageRequest.of(options)
    name = request.name
    told(f"image {name}")
    if request.source == "build":
        image, wanted = FromContext(request).take_here()
        reference, content = wanted.reference, wanted.content
    elif "@" in name:
        raise BundleError(
            f"{name} is named by digest, which `docker load` cannot give an image; name it by an exact tag"
        )
    elif request.source == "pull":
        reference, (image, content) = name, take_here(request)
    else:
        image, reference = _present(name), name
        content = image.id
    added = bundle_images.add(writer, image)
    document = sbom.cached(image.id)
    if not document.exists():
        document = sbom.keep(image.id, sbom.of_image(name, take(image.id)))
    added["sbom"] = f"sbom/{image.id.partition(':')[2]}.cdx.json"
    if added["sbom"] not in writer:
        writer.add_file(added["sbom"], document)
    return {"name": name, "reference": reference, "content": content, **added}


def _present(name: str) -> Image:
    found = find(name)
    if found is None:
        raise BundleError(
            f"this machine's Docker has no image {name}; build or pull it, or set fastapi_image_source to pull"
        )
    return found


def _packages(
    writer: Writer, release: str, container: str, groups: dict[str, list[str]], place: Path, told: Told
) -> tuple[dict[str, Any], Target]:
    wanted = sorted({name for names in groups.values() for name in names})
    told(f"packages for {release}, fetched in a container of {container}")
    fetched = bundle_debian.fetch(container, wanted, place)
    if fetched["release"] != release:
        raise BundleError(f"slipway_bundle_releases: {container} is {fetched['release']} and not {release}")
    return bundle_debian.add(writer, fetched, place, groups), _target(fetched)


def _target(fetched: dict[str, Any]) -> Target:
    """Python, processor and C library of a host of that release."""
    versions = {item.name: item.version.partition("-")[0] for item in fetched["packages"]}
    machine = _MACHINES.get(fetched["architecture"], fetched["architecture"])
    return Target(versions.get("python3", ""), machine, versions.get("libc6", ""))


def _wheels(writer: Writer, packages: list[dict[str, Any]], target: Target, told: Told) -> list[str]:
    names = []
    for options in packages:
        told(f"wheels for Python {target.short} on {target.machine}")
        source = PackageSource(
            Path(options["source"]), options["files"], options["lock"], options["project"], options["extras"]
        )
        own, ca_file = (Path(options[name]) if options.get(name) else None for name in ("wheels", "ca_file"))
        if not source.takes(target):
            raise BundleError(
                f"{source.project.path} asks for Python {source.project.requires_python}, and a bundle has wheels for "
                f"that of the distribution alone, which is {target.version}; take a release of the distribution that "
                "has such a Python for the hosts and in slipway_bundle_releases, or deploy this app without a bundle"
            )
        if project := source.wheel(own, ca_file):
            name = f"{project_directory(source.key())}/{project.path.name}"
            if f"wheels/{name}" not in writer:
                writer.add_file(f"wheels/{name}", project.path)
                names.append(name)
        for wheel in cached_wheels(source.requirements(target), target, own, ca_file):
            part = f"wheels/{wheel.path.name}"
            if part not in writer:
                writer.add_file(part, wheel.path)
                names.append(wheel.path.name)
    return names
