# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Debian packages for hosts that reach no mirror: fetched in a container of their release, as an apt repository."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, Writer

# Every package with all that it needs, whatever a host has already: apt is told that nothing is installed. What is
# printed for each is its own control paragraph, which is what an apt repository lists.
_FETCH = r"""
set -eu
mkdir -p /bundle/partial
exec 3>&1 1>&2
apt-get update -qq
apt-get -qq -y -o Dir::State::status=/dev/null -o Dir::Cache::archives=/bundle -o APT::Sandbox::User=root \
  -o APT::Install-Recommends=false --download-only install "$@"
cd /bundle
for file in *.deb; do dpkg-deb --field "$file" > "$file.control"; done
dpkg --print-architecture > architecture
. /etc/os-release && echo "$VERSION_CODENAME" > release
tar -cf - --exclude=partial --exclude=lock . >&3
"""
LIMIT = 1800  # seconds
# What Ansible's own module for packages needs on a host.
ANSIBLE = "python3-apt"


@dataclass(frozen=True)
class Package:
    """One package of a repository."""

    name: str
    version: str
    architecture: str
    file: str
    size: int
    sha256: str
    control: str

    def paragraph(self) -> str:
        """What the repository's list says of it."""
        return f"{self.control.strip()}\nFilename: ./{self.file}\nSize: {self.size}\nSHA256: {self.sha256}\n"


def fetch(container: str, wanted: list[str], place: Path) -> dict[str, Any]:
    """Fetch packages with all that they need into a directory.

    Args:
        container: Image of the Debian release, with sources of its own.
        wanted: Packages as apt-get takes them, with `=version` where one is wanted.
        place: Directory for the packages.

    Returns:
        `release`, `architecture` and `packages`, a list of Package.
    """
    command = ["docker", "run", "--rm", "--interactive", "--pull", "missing", container, "sh", "-s", "--", *wanted]
    with tempfile.TemporaryFile() as fetched, tempfile.TemporaryFile() as said:
        try:
            result = subprocess.run(
                command, input=_FETCH.encode(), stdout=fetched, stderr=said, timeout=LIMIT, check=False
            )
        except FileNotFoundError:
            raise BundleError("there is no `docker` here; a bundle is made on a machine that has it") from None
        except subprocess.TimeoutExpired:
            raise BundleError(f"the packages were not fetched in {container} within {LIMIT} s") from None
        if result.returncode:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()[-1500:]
            raise BundleError(
                f"{' '.join(wanted)} could not be fetched in a container of {container}, which slipway_bundle_releases "
                f"names: {words}"
            )
        fetched.seek(0)
        with tarfile.open(fileobj=fetched) as archive:
            for item in archive:  # all of them beside each other; Debian 12's tarfile has no filters
                if item.isfile() and (stream := archive.extractfile(item)):
                    with open(place / Path(item.name).name, "wb") as file:
                        shutil.copyfileobj(stream, file)
    return {
        "release": (place / "release").read_text().strip(),
        "architecture": (place / "architecture").read_text().strip(),
        "packages": [_package(path) for path in sorted(place.glob("*.deb"))],
    }


def _package(path: Path) -> Package:
    control = (path.parent / f"{path.name}.control").read_text(encoding="utf-8")
    fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and not line.startswith(" "))
    data = path.read_bytes()
    # apt's names of files have an epoch as %3a, which an address would decode.
    return Package(
        fields["Package"],
        fields["Version"],
        fields["Architecture"],
        path.name.replace("%3a", "+"),
        len(data),
        hashlib.sha256(data).hexdigest(),
        control,
    )


def add(writer: Writer, fetched: dict[str, Any], place: Path, groups: dict[str, list[str]]) -> dict[str, Any]:
    """Write a repository into a bundle; returns what the manifest says of it."""
    directory = f"debian/{fetched['release']}-{fetched['architecture']}"
    packages: list[Package] = fetched["packages"]
    files = {path.name.replace("%3a", "+"): path for path in place.glob("*.deb")}
    for package in packages:
        writer.add_file(f"{directory}/{package.file}", files[package.file])
    writer.add_bytes(f"{directory}/Packages", "\n".join(package.paragraph() for package in packages).encode())
    return {
        "release": fetched["release"],
        "architecture": fetched["architecture"],
        "directory": directory,
        "groups": groups,
        "packages": [
            {"name": item.name, "version": item.version, "file": item.file, "sha256": item.sha256} for item in packages
        ],
    }
