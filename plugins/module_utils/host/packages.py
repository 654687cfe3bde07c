"""Packages of a bundle on a host: a repository of their own, beside the host's sources and known to nobody else.

/var/lib/slipway/packages/apt.conf           what APT_CONFIG names: this repository and no other
/var/lib/slipway/packages/<release>-<arch>/  Packages, and the packages until they are installed
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any, Optional

from . import command, installed
from .errors import SlipwayError
from .reading import NO_ARCHIVE
from .shown import tail

PLACE = "/var/lib/slipway/packages"
# Seconds for one program of the package manager.
LIMIT = 900.0
# What Ansible's apt needs.
MODULE = "python3-apt"
# What the controller sends: a file of one repository.
_SENT = re.compile(r"(?!\.)[A-Za-z0-9._+~-]+/(?:Packages|(?!\.)[A-Za-z0-9._+~:@%=,-]+\.deb)")
_APT_CONF = """\
// Written by Slipway, for the packages of a bundle. Only an apt that is told so by APT_CONFIG reads it.
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{place}/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
"""
# `Inst haproxy (3.0.11-1 bundle [amd64])`, with the version that is there in brackets before it where there is one.
_INSTALLED = re.compile(r"^Inst (\S+) (?:\[[^\]]*\] )?\((\S+)", re.MULTILINE)


class PackagesError(SlipwayError):
    """The packages could not be put in place; the text says why and what to do."""


class HostPackages:
    """The repository of one host."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def look(self, indexes: dict[str, str], wanted: list[str]) -> dict[str, Any]:
        """Which list of packages this host needs and whether it has it, and the files that are to be sent."""
        name = f"{_release()}-{_run(['dpkg', '--print-architecture']).strip()}"
        index = self.place / name / "Packages"
        known = index.is_file() and hashlib.sha256(index.read_bytes()).hexdigest() == indexes.get(name)
        return {
            "repository": name,
            "known": known,
            "absent": self.absent(wanted),
            "missing": self.missing(wanted) if known else [],
        }

    def absent(self, wanted: list[str]) -> list[str]:
        """Those of the packages that are not installed, or not in the version that is named."""
        return installed.absent(wanted, installed.packages())

    def take_index(self, archive: Path) -> None:
        """Know the repository whose list of packages the controller sent; packages of an earlier one go."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        for directory in (self.place.parent, self.place):
            directory.chmod(0o755)
        names = self.take(archive)
        repository = self.place / Path(names[0]).parent
        (self.place / "lists").mkdir()
        _write(self.place / "sources.list", f"deb [trusted=yes] file:{repository} ./\n")
        _write(self.place / "apt.conf", _APT_CONF.format(place=self.place))
        self._apt("update", "-qq")

    def take(self, archive: Path) -> list[str]:
        """Put the files that the controller sent in place; returns their names."""
        names = []
        try:
            with tarfile.open(archive) as tar:
                for item in tar:
                    stream = tar.extractfile(item) if item.isreg() else None
                    if stream is None or not _SENT.fullmatch(item.name):
                        raise PackagesError(f"{item.name[:200]!r} is no package; copy the bundle again")
                    path = self.place / item.name
                    path.parent.mkdir(exist_ok=True)
                    path.parent.chmod(0o755)
                    with open(path, "wb") as target:
                        shutil.copyfileobj(stream, target)
                    path.chmod(0o644)
                    names.append(item.name)
        except NO_ARCHIVE as error:
            raise PackagesError(f"what was sent is no archive ({error}); run it again") from error
        if not names:
            raise PackagesError("nothing was sent; run it again")
        if any(name.endswith(".deb") for name in names) and self.absent([MODULE]):
            self._apt("install", "-qq", "-y", "--no-install-recommends", MODULE)
        return names

    def missing(self, wanted: list[str]) -> list[str]:
        """Files of the repository that an installation takes and that are not here yet. apt itself decides which."""
        absent = self.absent([*wanted, MODULE])
        if not absent:
            return []
        said = self._apt(
            "install",
            "-s",
            "-qq",
            "--no-install-recommends",
            "--allow-downgrades",
            "--allow-change-held-packages",
            *absent,
        )
        files = self._files()
        found = []
        for name, version in _INSTALLED.findall(said):
            file = files.get((name.partition(":")[0], version))
            if file and not file.is_file():
                found.append(str(file.relative_to(self.place)))
        return found

    def discard(self) -> int:
        """Remove the packages; what is installed stays, and so does the list. Returns how many there were."""
        files = list(self.place.glob("*/*.deb"))
        for path in files:
            path.unlink()
        return len(files)

    def _files(self) -> dict[tuple[str, str], Path]:
        found = {}
        for index in self.place.glob("*/Packages"):
            for paragraph in index.read_text(encoding="utf-8", errors="replace").split("\n\n"):
                fields = dict(re.findall(r"^(Package|Version|Filename): (.*)$", paragraph, re.MULTILINE))
                if not fields:
                    continue
                file = fields.get("Filename", "").removeprefix("./")
                if not {"Package", "Version"} <= fields.keys() or not _SENT.fullmatch(f"{index.parent.name}/{file}"):
                    raise PackagesError(f"{index} names a package {file[:200]!r}; make the bundle again")
                found[fields["Package"], fields["Version"]] = index.parent / file
        return found

    def _apt(self, *arguments: str) -> str:
        return _run(["apt-get", *arguments], {"APT_CONFIG": str(self.place / "apt.conf")})


def _release() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r'^VERSION_CODENAME="?(\w+)', text, re.MULTILINE)
    if not found:
        raise PackagesError("/etc/os-release names no VERSION_CODENAME; a bundle is for Debian and what is made of it")
    return found.group(1)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def _run(words: list[str], environment: Optional[dict[str, str]] = None) -> str:
    quiet = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ran = command.run(words, LIMIT, environment={**os.environ, **quiet, **(environment or {})})
    except command.CommandError as error:
        raise PackagesError(str(error)) from error
    if ran.returncode:
        raise PackagesError(f"`{' '.join(words[:6])}` failed: {tail(ran.said, 1500)}")
    return ran.stdout
