# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a controller without the internet needs: this project, and the collections that it names."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import WHOLE, CommandError, run
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, Writer


def add_collections(writer: Writer, names: Iterable[str]) -> list[dict[str, str]]:
    """Write installed collections, such as `community.docker`, as archives for `ansible-galaxy collection install`."""
    found = []
    for name in names:
        place = _find(name)
        version = json.loads((place / "MANIFEST.json").read_text(encoding="utf-8"))["collection_info"]["version"]
        part = f"collections/{name.replace('.', '-')}-{version}.tar.gz"
        writer.add_bytes(part, collection(place))
        found.append({"name": name, "version": version, "part": part})
    return found


def _find(name: str) -> Path:
    """Where Ansible finds a collection."""
    try:
        place = Path(next(iter(import_module(f"ansible_collections.{name}").__path__)))
    except ImportError:
        place = Path()
    if not (place / "MANIFEST.json").is_file():
        raise BundleError(
            f"the collection {name} is not installed here; install it with `make setup`, or with "
            "`ansible-galaxy collection install -r requirements.yml`"
        )
    return place


def collection(place: Path) -> bytes:
    """An installed collection as an archive. What was left out of the installation is left out of its list as well."""
    manifest = json.loads((place / "MANIFEST.json").read_text(encoding="utf-8"))
    contents: dict[str, bytes] = {}
    entries: list[dict[str, Any]] = []
    for entry in json.loads((place / "FILES.json").read_text(encoding="utf-8"))["files"]:
        path = place / entry["name"]
        if entry["ftype"] == "dir" and path.is_dir():
            entries.append(entry)
        elif entry["ftype"] == "file" and path.is_file():
            contents[entry["name"]] = path.read_bytes()
            digest = hashlib.sha256(contents[entry["name"]]).hexdigest()
            entries.append({**entry, "chksum_sha256": digest})
    listed = json.dumps({"files": entries, "format": 1}, indent=1).encode()
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listed).hexdigest()
    directories = [entry["name"] for entry in entries if entry["ftype"] == "dir" and entry["name"] != "."]
    return packed(
        {"MANIFEST.json": json.dumps(manifest, indent=1).encode(), "FILES.json": listed, **contents}, directories
    )


def add_project(writer: Writer, root: Path, version: str) -> dict[str, str]:
    """Write the checkout as Git has it, or the installed collection where there is no checkout."""
    top = f"slipway-{version}"
    contents = {f"{top}/{name}": data for name, data in _files(root)}
    part = f"project/{top}.tar.gz"
    links = {f"{top}/{name}": target for name, target in _links(root)}
    writer.add_bytes(part, packed(contents, [], links, executable=_executables(root, top)))
    return {"version": version, "part": part}


# Seconds for Git to list its files.
LIMIT = 60.0


def _listed(root: Path) -> list[str]:
    command = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z"]
    with suppress(CommandError):  # no Git, or no checkout: an installed collection has a list of its own
        ran = run(command, LIMIT, limit=WHOLE)
        if ran.returncode == 0:
            return sorted(name for name in ran.stdout.split("\0") if name)
    if not (root / "FILES.json").is_file():
        raise BundleError(f"{root} is neither a checkout of Slipway nor its installed collection")
    listed = json.loads((root / "FILES.json").read_text(encoding="utf-8"))["files"]
    return sorted([*(entry["name"] for entry in listed if entry["ftype"] == "file"), "FILES.json", "MANIFEST.json"])


def _files(root: Path) -> list[tuple[str, bytes]]:
    paths = ((name, root / name) for name in _listed(root))
    return [(name, path.read_bytes()) for name, path in paths if path.is_file() and not path.is_symlink()]


def _links(root: Path) -> list[tuple[str, str]]:
    paths = ((name, root / name) for name in _listed(root))
    return [(name, str(path.readlink())) for name, path in paths if path.is_symlink()]


def _executables(root: Path, top: str) -> set[str]:
    return {
        f"{top}/{name}" for name in _listed(root) if (root / name).is_file() and (root / name).stat().st_mode & 0o100
    }


def packed(
    contents: dict[str, bytes],
    directories: Iterable[str],
    links: dict[str, str] | None = None,
    executable: Iterable[str] = (),
) -> bytes:
    """A compressed tar whose bytes depend on names and contents alone."""
    target = BytesIO()
    scripts = set(executable)
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in directories:
            item = tarfile.TarInfo(name)
            item.type, item.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(item)
        for name, data in contents.items():
            item = tarfile.TarInfo(name)
            item.size, item.mode = len(data), 0o755 if name in scripts else 0o644
            archive.addfile(item, BytesIO(data))
        for name, link in (links or {}).items():
            item = tarfile.TarInfo(name)
            item.type, item.linkname = tarfile.SYMTYPE, link
            archive.addfile(item)
    return target.getvalue()
