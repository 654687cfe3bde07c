"""What an image is made of: Debian packages and Python distributions, read from its files. Nothing in it runs."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from email.parser import HeaderParser
from typing import IO, Any

from .local import ImageError, docker

_STATUS = re.compile(r"^var/lib/dpkg/status(\.d/[^/]+)?$")
_DISTRIBUTION = re.compile(r"/(?:[^/]+\.dist-info/METADATA|[^/]+\.egg-info/PKG-INFO)$")
_COPYRIGHT = re.compile(r"^usr/share/doc/([^/]+)/copyright$")
_SYSTEM = re.compile(r'^(ID|VERSION_ID|VERSION_CODENAME)="?([^"\n]*)', re.MULTILINE)
_LARGEST = 4 << 20  # bytes
_LIMIT = 600  # seconds


def take(reference: str) -> dict[str, Any]:
    """The inventory of an image that the Docker here has. Raises ImageError."""
    image = json.loads(docker("image", "inspect", reference))[0]
    container = docker("create", "--network", "none", image["Id"], "none").strip()
    try:
        with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            found = read(process.stdout)
            process.stdout.read()
        if process.returncode:
            raise ImageError(f"`docker export` of {reference} failed with exit code {process.returncode}")
    finally:
        docker("rm", "--force", "--volumes", container)
    return {
        "id": image["Id"],
        "created": image["Created"],
        "architecture": image["Architecture"],
        "base": (image.get("Config") or {}).get("Labels") or {},
        **found,
    }


def read(stream: IO[bytes]) -> dict[str, Any]:
    """The inventory of a root file system in a tar."""
    packages: list[dict[str, str]] = []
    distributions: list[dict[str, str]] = []
    licences: dict[str, list[str]] = {}
    system: dict[str, str] = {}
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for item in archive:
            name = item.name.lstrip("./")
            if not item.isfile() or item.size > _LARGEST:
                continue
            if _STATUS.match(name):
                packages += installed(_text(archive, item))
            elif found := _COPYRIGHT.match(name):
                licences[found.group(1)] = licences_of(_text(archive, item))
            elif _DISTRIBUTION.search(f"/{name}"):
                distributions.append(distribution(_text(archive, item)))
            elif name in ("usr/lib/os-release", "etc/os-release"):
                system |= dict(_SYSTEM.findall(_text(archive, item)))
    for package in packages:
        package["licence"] = " AND ".join(licences.get(package["name"], []))
    return {
        "system": system,
        "debian": sorted(packages, key=lambda each: (each["name"], each["architecture"])),
        "python": _unique(distributions),
    }


def _text(archive: tarfile.TarFile, item: tarfile.TarInfo) -> str:
    stream = archive.extractfile(item)
    return stream.read().decode(errors="replace") if stream else ""


def _unique(items: list[dict[str, str]]) -> list[dict[str, str]]:
    """Each version of each distribution once; the first that was found counts."""
    found = {(item["name"].lower(), item["version"]): item for item in reversed(items) if item["name"]}
    return [found[key] for key in sorted(found)]


def installed(status: str) -> list[dict[str, str]]:
    """The packages that dpkg's status says are installed. A package without a source of its own is its own source."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture|Source|Status): (.*)$", paragraph, re.MULTILINE))
        if "Package" not in fields or not fields.get("Status", "ok installed").endswith(" installed"):
            continue
        source, _, version = str(fields.get("Source") or fields["Package"]).partition(" ")
        found.append(
            {
                "name": fields["Package"],
                "version": fields["Version"],
                "architecture": fields["Architecture"],
                "source": source,
                "source_version": version.strip("()") or fields["Version"],
            }
        )
    return found


def licences_of(text: str) -> list[str]:
    """The short names of licences in a Debian copyright file that a machine can read; nothing of another one."""
    if not text.startswith("Format:"):
        return []
    return sorted({name.strip() for name in re.findall(r"^License: *([^\n]+)$", text, re.MULTILINE)})


def distribution(metadata: str) -> dict[str, str]:
    """Name, version and licence of a Python distribution, by its metadata (PEP 566, PEP 639)."""
    fields = HeaderParser().parsestr(metadata)
    expression = fields.get("License-Expression") or ""
    named = fields.get("License") or ""
    classified = [
        str(line).rpartition(" :: ")[2]
        for line in fields.get_all("Classifier") or []
        if str(line).startswith("License :: ")
    ]
    # Some give the whole text of the licence there.
    short = named if named and "\n" not in named and len(named) <= 60 else ""
    return {
        "name": fields.get("Name") or "",
        "version": fields.get("Version") or "",
        "licence": expression or " AND ".join(classified) or short,
    }
