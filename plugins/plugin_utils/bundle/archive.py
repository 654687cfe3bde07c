# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A bundle: one file with everything that a deploy takes from elsewhere, to be read without unpacking it.

It is a plain tar, so `tar -xf` opens it and a part is read where it lies. Parts that compress are compressed already.

    layers/<diff id>.tar.gz      layers of the images, each once
    images/<id>.json             configuration of an image; its hash is the image's id
    sbom/<id>.cdx.json           what an image is made of
    debian/<release>-<architecture>/   an apt repository: Packages and the packages
    wheels/                      what the lock of the runtime systemd names
    collections/, project/       what a controller needs
    manifest.json                names, versions, and which part is for what
    SHA256SUMS                   of every other part; the last one, so a file that was cut off has none
    STATEMENT, STATEMENT.sig     who made it, for which fleet and when, over SHA256SUMS; where it is signed
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import NO_ARCHIVE, object_of

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
STATEMENT, SIGNATURE = "STATEMENT", "STATEMENT.sig"
# What stands in no list of parts, since it is about that list.
ABOUT = {SUMS, STATEMENT, SIGNATURE}
BLOCK = 1 << 20
# A file or directory in the name of a part: never one that leads out of where it is put.
_STEP = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._+~:@%=,-]+")


class BundleError(SlipwayError):
    """The bundle cannot be made or used; the text names the part and what to do."""


class Writer:
    """Writes a bundle part by part, in the order of the calls. Equal parts give equal bytes.

    The file appears under its name when it is whole. Use it as a context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums: dict[str, str] = {}

    def __enter__(self) -> Writer:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.NamedTemporaryFile(dir=self._path.parent, prefix=f".{self._path.name}.", delete=False)
        except OSError as error:
            raise BundleError(f"{self._path} cannot be written: {error.strerror}") from error
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)
        return self

    def __exit__(self, kind: Any, *rest: object) -> None:
        if kind is None:
            self._tar.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            os.fchmod(self._file.fileno(), 0o644)
            os.replace(self._file.name, self._path)
        else:
            os.unlink(self._file.name)
        self._file.close()

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def add(self, name: str, stream: IO[bytes], size: int) -> str:
        """Write one part and return its SHA-256."""
        if name in self._sums:
            raise BundleError(f"{name} would be in the bundle twice")
        item = tarfile.TarInfo(name)
        item.size = size
        item.mode = 0o644
        reader = _Hashing(stream)
        self._tar.addfile(item, reader)
        self._sums[name] = reader.digest.hexdigest()
        return self._sums[name]

    def add_bytes(self, name: str, data: bytes) -> str:
        return self.add(name, BytesIO(data), len(data))

    def add_file(self, name: str, path: Path) -> str:
        with open(path, "rb") as stream:
            return self.add(name, stream, path.stat().st_size)

    def add_compressed(self, name: str, stream: IO[bytes]) -> str:
        """Write one part through gzip, without a time in it. Returns the SHA-256 of what went in."""
        reader = _Hashing(stream)
        with tempfile.TemporaryFile() as spool:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=spool, mtime=0) as packed:
                shutil.copyfileobj(reader, packed, BLOCK)
            size = spool.tell()
            spool.seek(0)
            self.add(name, spool, size)
        return reader.digest.hexdigest()

    def finish(self, manifest: dict[str, Any], sign: Callable[[bytes], tuple[bytes, bytes]] | None = None) -> None:
        """Write the manifest and the sums, which end the bundle; `sign` gives statement and signature for the sums."""
        text = json.dumps({"format": FORMAT, **manifest}, indent=1, sort_keys=True) + "\n"
        self.add_bytes(MANIFEST, text.encode())
        sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._sums.items())).encode()
        self.add_bytes(SUMS, sums)
        for name, data in zip((STATEMENT, SIGNATURE), sign(sums) if sign else (), strict=False):
            self.add_bytes(name, data)


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.digest.update(data)
        return data


class Bundle:
    """A bundle that is there. Opening it reads its list of parts and its manifest; `check` reads it all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path, "r:") as tar:
                self._parts = _named(list(tar), path)
        except FileNotFoundError:
            raise BundleError(
                f"there is no bundle {path}; slipway_bundle names it, and `make bundle` makes it"
            ) from None
        except NO_ARCHIVE as error:
            raise BundleError(f"{path} is no bundle, or was cut off: {error}; copy it again") from None
        if SUMS not in self._parts:
            raise BundleError(f"{path} is no whole bundle: it has no {SUMS}; copy it again")
        self.listed = b"".join(self._blocks(SUMS))
        self.sums = _parse_sums(self.listed, path)
        try:
            self.manifest = object_of(self.read(MANIFEST))
        except ValueError as error:
            raise BundleError(f"{MANIFEST} of {path} is damaged: {error}; copy the bundle again") from None
        if self.manifest.get("format") != FORMAT:
            raise BundleError(
                f"{path} has format {self.manifest.get('format')!r}, and this version of Slipway reads {FORMAT}; "
                "make the bundle with the version that deploys it"
            )
        if wrong := _wrong(self.manifest):
            raise BundleError(f"{MANIFEST} of {path} has {wrong}, as no bundle has, so nothing was done; make it again")

    @property
    def name(self) -> str:
        """Names the content: two bundles with equal parts have the same."""
        return hashlib.sha256(json.dumps(self.sums, sort_keys=True).encode()).hexdigest()

    def check(self, told: Callable[[str], None] = lambda _: None) -> None:
        """Read every part. Raises BundleError that names those which are not what they must be."""
        stray = sorted(self._parts.keys() - self.sums.keys() - ABOUT)
        missing = sorted(self.sums.keys() - self._parts.keys())
        wrong = []
        for name in sorted(self.sums.keys() & self._parts.keys()):
            told(name)
            digest = hashlib.sha256()
            for data in self._blocks(name):
                digest.update(data)
            if digest.hexdigest() != self.sums[name]:
                wrong.append(name)
        found = [
            f"{what} {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}"
            for what, names in (
                ("another checksum than in SHA256SUMS has", wrong),
                ("not there is", missing),
                ("not in SHA256SUMS is", stray),
            )
            if names
        ]
        if found:
            raise BundleError(
                f"{self.path} is damaged or was changed, so nothing was done: {'; '.join(found)}; copy it again"
            )

    def about(self, name: str) -> bytes:
        """A part that stands in no list; empty where there is none. Larger ones than a signature is are cut."""
        return b"".join(self._blocks(name))[:BLOCK] if name in self._parts else b""

    def _blocks(self, name: str) -> Iterator[bytes]:
        """The content of a part. A file that became shorter meanwhile gives less, which its checksum shows."""
        item = self._parts.get(name)
        if item is None:
            raise BundleError(f"{self.path} has no part {name}; make it again with `make bundle`")
        with open(self.path, "rb") as stream:
            stream.seek(item.offset_data)
            left = item.size
            while left and (data := stream.read(min(left, BLOCK))):
                left -= len(data)
                yield data

    def size(self, name: str) -> int:
        """Bytes of a part."""
        return self._parts[name].size

    def copy(self, name: str, target: IO[bytes]) -> None:
        """Copy a part, checked. Raises BundleError where it is not what it must be."""
        digest = hashlib.sha256()
        for data in self._blocks(name):
            digest.update(data)
            target.write(data)
        if digest.hexdigest() != self.sums.get(name):
            raise BundleError(f"{name} in {self.path} has another checksum than in {SUMS}; copy the bundle again")

    def read(self, name: str) -> bytes:
        """A small part, checked."""
        target = BytesIO()
        self.copy(name, target)
        return target.getvalue()

    def image(self, name: str) -> dict[str, Any]:
        """What the manifest says of an image. Raises BundleError that names those that are there."""
        images: list[dict[str, Any]] = self.manifest["images"]
        for image in images:
            if image["name"] == name:
                return image
        there = ", ".join(image["name"] for image in images) or "none"
        raise BundleError(
            f"{self.path} has no image {name}; it has {there}. Make it again with `make bundle` and this inventory"
        )

    def repository(self, release: str, architecture: str) -> dict[str, Any]:
        """What the manifest says of the packages for a Debian release. Raises BundleError that names those there."""
        repositories: list[dict[str, Any]] = self.manifest["debian"]
        for repository in repositories:
            if (repository["release"], repository["architecture"]) == (release, architecture):
                return repository
        there = ", ".join(f"{item['release']} ({item['architecture']})" for item in repositories) or "none"
        raise BundleError(
            f"{self.path} has no packages for {release} ({architecture}), it has those for {there}; make it again with "
            f"{release} in slipway_bundle_releases"
        )


# What the manifest says of an image and of the packages for a Debian release.
_IMAGE = {"name": str, "reference": str, "content": str, "architecture": str, "config": str, "layers": list}
_REPOSITORY = {"release": str, "architecture": str, "directory": str}


def _wrong(manifest: dict[str, Any]) -> str:
    """Where the manifest is none that a bundle has; empty where it is one."""
    for name, keys in (("images", _IMAGE), ("debian", _REPOSITORY)):
        items = manifest.get(name)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            return f"no list of {name}"
        for item in items:
            if wrong := [key for key, kind in keys.items() if not isinstance(item.get(key), kind)]:
                return f"one of {name} without {', '.join(wrong)}"
            if not all(isinstance(part, str) for part in (*item.get("layers", []), item.get("sbom") or "")):
                return f"one of {name} with a part that has no name"
    wheels = manifest.get("wheels")
    return "" if isinstance(wheels, list) and all(isinstance(wheel, str) for wheel in wheels) else "no list of wheels"


def _named(items: list[tarfile.TarInfo], path: Path) -> dict[str, tarfile.TarInfo]:
    """The parts by name. Raises BundleError where one is no file, is there twice, or is named as no part is."""
    found: dict[str, tarfile.TarInfo] = {}
    for item in items:
        steps = item.name.split("/")
        if not item.isreg() or not all(_STEP.fullmatch(step) for step in steps) or item.name in found:
            raise BundleError(f"{path} has a part {item.name[:200]!r}, which no bundle has, so nothing was done")
        found[item.name] = item
    return found


def _parse_sums(text: bytes, path: Path) -> dict[str, str]:
    sums = {}
    for line in text.decode(errors="replace").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64 or name in sums or name in ABOUT:
            raise BundleError(f"{SUMS} of {path} is damaged: {line[:80]!r}; copy the bundle again")
        sums[name] = digest
    return sums


def cache(name: str) -> Path:
    """A directory of the controller for what is taken out of bundles."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "slipway" / name
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def note_checked(bundle: Bundle, run: str) -> None:
    """Remember that all of a bundle was read, and is one that may be used."""
    _mark(bundle.path).write_text(_checked(bundle, run), encoding="utf-8")


def is_checked(bundle: Bundle, run: str) -> bool:
    """Whether this run has read all of it."""
    mark = _mark(bundle.path)
    return mark.is_file() and mark.read_text(encoding="utf-8") == _checked(bundle, run)


def opened(path: Path) -> Bundle:
    """A bundle that was checked before. Raises BundleError where it is another one since then."""
    bundle, mark = Bundle(path), _mark(path)
    if mark.is_file() and mark.read_text(encoding="utf-8").rpartition(" ")[2] != bundle.name:
        raise BundleError(f"{path} was changed since it was checked; copy it again, and run this again")
    return bundle


def _mark(path: Path) -> Path:
    return cache("bundles") / f"checked-{hashlib.sha256(bytes(path.resolve())).hexdigest()[:24]}"


def _checked(bundle: Bundle, run: str) -> str:
    return f"{run} {bundle.path.stat().st_mtime_ns} {bundle.name}"


def wheels_of(path: Path) -> Path:
    """A directory with the wheels of a bundle, taken out once for each content."""
    bundle = opened(path)
    place = cache("bundles") / f"wheels-{bundle.name[:24]}"
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".part-") as directory:
            taken = Path(directory) / "wheels"
            taken.mkdir()
            for name in bundle.manifest["wheels"]:
                if not all(_STEP.fullmatch(step) for step in str(name).split("/")):
                    raise BundleError(f"the manifest of {path} names a wheel {str(name)[:200]!r}, so nothing was done")
                (taken / name).parent.mkdir(exist_ok=True)
                with open(taken / name, "wb") as target:
                    bundle.copy(f"wheels/{name}", target)
            taken.rename(place)
    return place
