"""Layers of images, apart from their images: what `docker save` wrote, and what `docker load` accepts of it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Optional

from ..host.reading import NO_ARCHIVE, json_of, object_of
from .local import ImageError, docker
from .storage import Storage

BLOCK = 1 << 20
_DIFF_ID = re.compile("sha256:[0-9a-f]{64}")
# A cut connection costs at most one of these again.
CHUNK = 8 << 20
# Of gzip: 6 makes layers a tenth smaller and takes three times as long, which pays below 20 Mbit/s alone.
LEVEL = 1


@dataclass(frozen=True)
class Saved:
    """One image: the exact text of its configuration, and the diff ids of its layers from the base up."""

    config: str
    layers: list[str]
    # Bytes unpacked, as Docker counts them.
    size: int = 0

    @classmethod
    def of(cls, config: str) -> Saved:
        """The image with this configuration. Raises ImageError where that is none."""
        try:
            layers = object_of(config)["rootfs"]["diff_ids"]
        except (KeyError, TypeError, ValueError):
            layers = None
        if not isinstance(layers, list) or not all(_DIFF_ID.fullmatch(str(layer)) for layer in layers):
            raise ImageError("the configuration of an image names no layers by SHA-256; save the image again")
        return cls(config, layers)

    @property
    def id(self) -> str:
        """What Docker's own image store names it by; the containerd store has another name."""
        return "sha256:" + hashlib.sha256(self.config.encode()).hexdigest()

    @property
    def architecture(self) -> str:
        return str(object_of(self.config).get("architecture"))

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Packed:
    """One compressed layer in a directory; `unpacked` is the length of its tar file in bytes."""

    diff_id: str
    path: Path
    unpacked: int

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    @property
    def name(self) -> str:
        return self.path.name


def packed_in(directory: Path) -> dict[str, Packed]:
    """The layers that a directory holds, by diff id. Their names tell what they are: <diff id>.<bytes unpacked>.gz."""
    found = {}
    for path in directory.glob("*.gz"):
        digest, _, unpacked = path.name[: -len(".gz")].partition(".")
        if unpacked.isdigit():
            found[f"sha256:{digest}"] = Packed(f"sha256:{digest}", path, int(unpacked))
    return found


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """A name for each layer together with all below it, as in the image specification of the OCI."""
    chains: list[str] = []
    for diff_id in diff_ids:
        below = chains[-1] if chains else ""
        chains.append("sha256:" + hashlib.sha256(f"{below} {diff_id}".encode()).hexdigest() if below else diff_id)
    return chains


def lacking(diff_ids: list[str], there: Iterable[str]) -> list[str]:
    """The layers above the highest one that is there, when `there` are chain ids."""
    known = set(there)
    above = next((i for i, chain in enumerate(chain_ids(diff_ids)) if chain not in known), len(diff_ids))
    return diff_ids[above:]


def repository_of(reference: str) -> str:
    """A name without tag and digest: registry:5000/app of registry:5000/app:1@sha256:..."""
    name = reference.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def place_of(reference: str) -> str:
    """A name of one directory for all images of a repository."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", repository_of(reference)).lstrip(".") or "_"


def unpack_save(archive: Path, into: Path, wanted: Optional[Iterable[str]] = None) -> Saved:
    """Put the wanted layers (None: all) of what `docker save` wrote into a directory, compressed.

    Raises:
        ImageError: the archive holds something else than it says.
    """
    try:
        with tarfile.open(archive) as tar:
            manifest = json_of(_member(tar, "manifest.json").read())[0]
            saved = Saved.of(_member(tar, manifest["Config"]).read().decode())
            there = packed_in(into)
            for diff_id, name in zip(saved.layers, manifest["Layers"]):
                if diff_id not in there and (wanted is None or diff_id in set(wanted)):
                    there[diff_id] = pack(_member(tar, name), diff_id, into)
    except (*NO_ARCHIVE, TypeError, AttributeError) as error:
        raise ImageError(f"the archive of a saved image cannot be read ({error}); save the image again") from error
    return saved


def save(image: str, into: Path, wanted: Optional[Iterable[str]] = None, size: int = 0) -> Saved:
    """The same of an image that the Docker here has, by its id: layer by layer where Docker's storage can be read."""
    saved = _taken(image, into, wanted)
    if saved is None:
        with tempfile.TemporaryDirectory(prefix=".save-", dir=into) as directory:
            archive = Path(directory) / "image.tar"
            docker("save", "--output", str(archive), image, timeout=1800)
            saved = unpack_save(archive, into, wanted)
    return replace(saved, size=size)


def _taken(image: str, into: Path, wanted: Optional[Iterable[str]]) -> Optional[Saved]:
    """The image with the wanted layers from Docker's storage, None where that does not have them as they should be."""
    storage = Storage.of(image)
    if storage is None:
        return None
    try:
        saved = Saved.of(storage.config(image))
        there = packed_in(into)
        for diff_id, chain_id in zip(saved.layers, chain_ids(saved.layers)):
            if diff_id not in there and (wanted is None or diff_id in set(wanted)):
                there[diff_id] = _pack(storage.layer(chain_id), diff_id, into)
    except (OSError, EOFError, ValueError, KeyError, ImageError):
        return None
    return saved


def _member(tar: tarfile.TarFile, name: str) -> Any:
    stream = tar.extractfile(name)  # follows the links by which Docker 20.10 writes a layer once
    if stream is None:
        raise ImageError(f"{name} of a saved image is not a file")
    return stream


def pack(stream: IO[bytes], diff_id: str, into: Path) -> Packed:
    """Compress one layer, which may be compressed already. Raises ImageError where it is not the one it should be."""
    head = stream.read(2)
    stream.seek(0)
    source: Any = gzip.GzipFile(fileobj=stream) if head == b"\x1f\x8b" else stream
    try:
        return _pack(iter(lambda: source.read(BLOCK), b""), diff_id, into)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ImageError(f"layer {diff_id} cannot be unpacked ({error}); save the image again") from error


def _pack(blocks: Iterable[bytes], diff_id: str, into: Path) -> Packed:
    digest, length = hashlib.sha256(), 0
    handle, part = tempfile.mkstemp(prefix=".part-", dir=into)
    try:
        # No time and no name in it: the same layer is the same bytes, and an interrupted transfer goes on with them.
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, 0) as out:
            for block in blocks:
                digest.update(block)
                length += len(block)
                out.write(block)
        found = f"sha256:{digest.hexdigest()}"
        layer = Packed(diff_id, into / f"{digest.hexdigest()}.{length}.gz", length)
        if found == diff_id:
            os.rename(part, layer.path)
    finally:
        Path(part).unlink(missing_ok=True)
    if found != diff_id:
        raise ImageError(f"a layer is {found} instead of {diff_id}; save the image again")
    return layer


def is_whole(layer: Packed) -> bool:
    """Whether a compressed layer unpacks to what its name says."""
    digest = hashlib.sha256()
    try:
        with gzip.open(layer.path, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    except (OSError, EOFError, zlib.error):
        return False
    return f"sha256:{digest.hexdigest()}" == layer.diff_id


def chunks_of(layers: Iterable[Packed]) -> Iterator[tuple[str, bytes]]:
    """Layers one after the other, cut into pieces of one size, each with the SHA-256 that is its name."""
    held = b""
    for layer in layers:
        with layer.path.open("rb") as stream:
            while block := stream.read(CHUNK - len(held)):
                held += block
                if len(held) == CHUNK:
                    yield hashlib.sha256(held).hexdigest(), held
                    held = b""
    if held:
        yield hashlib.sha256(held).hexdigest(), held


class Chunks:
    """The pieces that arrived, read as one stream."""

    def __init__(self, directory: Path, names: list[str]) -> None:
        self._paths = [directory / name for name in names]
        self._piece = io.BytesIO()

    def damaged(self) -> list[Path]:
        """Those that are missing or not what their name says."""
        return [path for path in self._paths if sha256_of(path) != path.name]

    def read(self, length: int) -> bytes:
        held = self._piece.read(length)
        while len(held) < length and self._paths:
            self._piece = io.BytesIO(self._paths.pop(0).read_bytes())
            held += self._piece.read(length - len(held))
        return held


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, empty where there is none. A link is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return ""
    digest = hashlib.sha256()
    with os.fdopen(handle, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_archive(stream: IO[bytes], saved: Saved, reference: str, packed: dict[str, int], layers: Chunks) -> None:
    """Write what `docker load` reads.

    `packed` are the bytes of the layers that `layers` brings, in its order; those that Docker has are left out.
    """
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        names = [_layer_name(diff_id) for diff_id in saved.layers]
        manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
        for name, text in (("config.json", saved.config), ("manifest.json", json.dumps(manifest))):
            content = text.encode()
            _add(tar, name, len(content), io.BytesIO(content))
        for diff_id, size in packed.items():
            _add(tar, _layer_name(diff_id), size, layers)


def _layer_name(diff_id: str) -> str:
    return f"{diff_id.rpartition(':')[2]}.tar.gz"


def _add(tar: tarfile.TarFile, name: str, size: int, content: Any) -> None:
    item = tarfile.TarInfo(name)
    item.size = size
    tar.addfile(item, content)
