"""What an image is made of: Debian packages and Python distributions, read from its files. Nothing in it runs."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterable
from email.parser import HeaderParser
from lzma import LZMAError
from typing import IO, Any, Callable

from ..host.reading import NO_ARCHIVE
from .local import ImageError, docker

_STATUS = re.compile(r"^var/lib/dpkg/status(\.d/[^/]+)?$")
_DISTRIBUTION = re.compile(r"/(?:[^/]+\.dist-info/METADATA|[^/]+\.egg-info/PKG-INFO)$")
_COPYRIGHT = re.compile(r"^usr/share/doc/([^/]+)/copyright$")
_SYSTEM = re.compile(r'^(ID|VERSION_ID|VERSION_CODENAME)="?([^"\n]*)', re.MULTILINE)
# Bytes of one file that is read, and of all of a layer: a full Debian has 40 MiB of them.
_LARGEST, _MOST = 4 << 20, 128 << 20
# How a layer says that a file of a lower one is gone, and that nothing of lower ones is left in a directory (OCI).
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


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
    return _joined(read_layer(stream)["files"])


def of_layers(config: dict[str, Any], layers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The inventory of an image, from its configuration and what `read_layer` found in its layers from the base up."""
    files: dict[str, Any] = {}
    for layer in layers:
        if hidden := set(layer["gone"]):
            files = {path: found for path, found in files.items() if not hidden.intersection(_above(path))}
        files.update(layer["files"])
    own = config.get("config")
    labels = own.get("Labels") if isinstance(own, dict) else None
    return {
        "created": str(config.get("created") or ""),
        "architecture": str(config.get("architecture") or ""),
        "base": labels if isinstance(labels, dict) else {},
        **_joined(files),
    }


def _above(path: str) -> list[str]:
    """A path with all directories that it lies in; those end with a slash as well, as an emptied one is told."""
    parts = path.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts))]
    return [path, *above, *(f"{directory}/" for directory in above)]


def read_layer(stream: IO[bytes]) -> dict[str, Any]:
    """What one layer, packed or not, brings and takes away.

    Returns:
        `files`: what was found, by its path: [kind, content]. `gone`: paths that the layer removes with all below them;
        one with a slash at its end is a directory of which only what lower layers put there is gone.
    """
    try:
        return _layer(stream)
    except (*NO_ARCHIVE, LZMAError) as error:
        raise ImageError(f"a layer of the image cannot be read ({error}); build or pull it again") from error


def _layer(stream: IO[bytes]) -> dict[str, Any]:
    files: dict[str, Any] = {}
    gone: list[str] = []
    left = _MOST
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for item in archive:
            name = item.name.removeprefix("./").lstrip("/")
            directory, _, last = name.rpartition("/")
            if last == _OPAQUE:
                gone.append(f"{directory}/")
            elif last.startswith(_WHITEOUT):
                gone.append(f"{directory}/{last[len(_WHITEOUT) :]}".lstrip("/"))
            elif item.issym():
                gone.append(name)  # it may stand where a directory was
            elif item.isfile() and (kind := _kind(name)):
                if item.size > min(_LARGEST, left):
                    gone.append(name)
                else:
                    left -= item.size
                    files[name] = [kind, _READ[kind](name, _text(archive, item))]
    return {"files": files, "gone": gone}


def _kind(name: str) -> str:
    """What a file tells by its name; empty for nothing."""
    if _STATUS.match(name):
        return "status"
    if _COPYRIGHT.match(name):
        return "copyright"
    if _DISTRIBUTION.search(f"/{name}"):
        return "distribution"
    return "system" if name in ("usr/lib/os-release", "etc/os-release") else ""


def _joined(files: dict[str, Any]) -> dict[str, Any]:
    """The inventory of what was found by path."""
    found: dict[str, list[Any]] = {kind: [] for kind in _READ}
    for _path, (kind, content) in sorted(files.items()):
        found[kind].append(content)
    licences = {name: stated for copyright_ in found["copyright"] for name, stated in copyright_.items()}
    packages = [dict(package) for status in found["status"] for package in status]
    for package in packages:
        package["licence"] = " AND ".join(licences.get(package["name"], []))
    return {
        "system": {name: value for system in found["system"] for name, value in system.items()},
        "debian": sorted(packages, key=lambda each: (each["name"], each["architecture"])),
        "python": _unique(sorted(found["distribution"], key=lambda each: not each["licence"])),
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
        named = {"Package", "Version", "Architecture"} <= fields.keys()
        if not named or not fields.get("Status", "ok installed").endswith(" installed"):
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


def _copyright_of(name: str, text: str) -> dict[str, list[str]]:
    found = _COPYRIGHT.match(name)
    return {found.group(1): licences_of(text)} if found else {}


# What a file tells, by its kind.
_READ: dict[str, Callable[[str, str], Any]] = {
    "status": lambda _, text: installed(text),
    "copyright": _copyright_of,
    "distribution": lambda _, text: distribution(text),
    "system": lambda _, text: dict(_SYSTEM.findall(text)),
}
