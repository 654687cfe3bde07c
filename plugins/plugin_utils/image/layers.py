# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The controller's cache of layers, and images on their way from it to hosts: only what a host lacks travels."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import (
    Packed,
    Saved,
    chunks_of,
    is_whole,
    lacking,
    pack,
    packed_in,
    save,
)
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import cache

# A layer that was used within so many seconds may be on its way to a host just now.
IN_USE = 3600
FORGOTTEN = 86400
MIB = 1 << 20
# What a host calls a layer that it exports: its SHA-256 and the bytes that it has unpacked.
_FILE = re.compile(r"[0-9a-f]{64}\.[0-9]{1,15}\.gz")


class LayerCache:
    """Compressed layers by diff id, and the configurations of images; each is made once for all hosts."""

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory or cache.directory("layers")
        self.directory.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with open(self.directory / "lock", "w", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def layers(self) -> dict[str, Packed]:
        return packed_in(self.directory)

    def saved(self, image: str) -> Saved | None:
        """An image by the id that a Docker gave it, if its configuration is here."""
        path = self._record(image)
        return Saved(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def keep(self, image: str, saved: Saved) -> None:
        path = self._record(image)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(saved.as_dict()), encoding="utf-8")
        part.rename(path)

    def _record(self, image: str) -> Path:
        return self.directory / f"{image.rpartition(':')[2]}.json"

    def take(self, image: Image, wanted: Iterable[str]) -> Saved:
        """Have the wanted layers of an image of the controller's Docker here."""
        with self._lock():
            missing = set(wanted) - set(self.layers())
            saved = self.saved(image.id)
            if saved is None or missing:
                saved = save(image.id, self.directory, missing, image.size)
                self.keep(image.id, saved)
        return saved

    def add(self, stream: IO[bytes], diff_id: str) -> None:
        """Have a layer here from its tar file, compressed or not. Raises ImageError where it is another one."""
        with self._lock():
            if diff_id not in self.layers():
                stream.seek(0)
                pack(stream, diff_id, self.directory)

    def packed(self, diff_ids: Iterable[str]) -> list[Packed]:
        """Layers, each once, in their order; they count as used now. Raises KeyError for one that is not here."""
        there = self.layers()
        found = [there[diff_id] for diff_id in dict.fromkeys(diff_ids)]
        for layer in found:
            os.utime(layer.path)
        return found

    def drop_damaged(self, layers: Iterable[Packed]) -> int:
        """Remove those that do not unpack to what they should be; returns how many."""
        damaged = [layer for layer in layers if not is_whole(layer)]
        for layer in damaged:
            layer.path.unlink(missing_ok=True)
        return len(damaged)

    def prune(self, limit: int) -> None:
        """Remove what was not used for longest, until at most `limit` bytes are left. What may be in use stays."""
        with self._lock():
            # Whole images, as they were kept once, and the locks of builds that ended long ago.
            for old in (*cache.directory().glob("*.tar.gz"), *cache.directory().glob("*.lock")):
                with suppress(FileNotFoundError):  # another run tidies up, too
                    if old.stat().st_mtime < time.time() - FORGOTTEN:
                        old.unlink()
            files = sorted(
                (path for path in self.directory.iterdir() if path.name != "lock" and path.is_file()),
                key=lambda path: path.stat().st_mtime,
                reverse=True,
            )
            total = 0
            for path in files:
                total += path.stat().st_size
                if total > limit and path.stat().st_mtime < time.time() - IN_USE:
                    path.unlink()


def lacks(seen: dict[str, Any], diff_ids: list[str]) -> list[str]:
    """The layers that a host needs, each once, from what it told about itself."""
    return list(dict.fromkeys(lacking(diff_ids, seen.get("chains", []))))


def room_problem(name: str, seen: dict[str, Any], layers: list[Packed], reserve: int) -> str:
    """Empty when a host has room for layers in transit and unpacked, else what is missing where.

    Docker copies what it is given before it unpacks it, so the compressed layers are there twice for a moment.
    """
    disks = seen["disks"]
    packed, unpacked = sum(layer.size for layer in layers), sum(layer.unpacked for layer in layers)
    root = packed + unpacked + reserve
    needs = [(disks["root"], disks["root_free"], root + packed if disks["one"] else root)]
    if not disks["one"]:
        needs.append((disks["spool"], disks["spool_free"], packed + reserve))
    return "; ".join(
        f"{name} has {free / MIB:.0f} MiB free in {place}, and the image needs {needed / MIB:.0f} "
        f"(reserve of {reserve / MIB:.0f} included)"
        for place, free, needed in needs
        if free < needed
    )


def require_room(problems: Iterable[str]) -> None:
    """Raise ImageError when any host has a problem."""
    if found := [problem for problem in problems if problem]:
        raise ImageError(
            f"nothing was sent to any host, the disk is too small: {'; '.join(found)}. Free some there "
            "(`docker system df` tells what Docker holds), enlarge the disk, or lower fastapi_image_disk_reserve"
        )


def send(host: Link, seen: dict[str, Any], saved: Saved, reference: str) -> tuple[dict[str, Any], int]:
    """Send what a host lacks of an image and have it loaded there; returns the image there and the bytes that moved."""
    layer_cache = LayerCache()
    layers = layer_cache.packed(lacks(seen, saved.layers))
    there, names, moved = set(seen["chunks"]), [], 0
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        for name, content in chunks_of(layers):
            names.append(name)
            if name in there:
                continue
            path = Path(directory) / name
            path.write_bytes(content)
            try:
                host.put(path, f"{seen['incoming']}/{name}")
            except Unreachable as error:
                raise Unreachable(
                    f"the transfer of {reference} broke off after {moved / MIB:.0f} MiB: {error}. Run it again: what "
                    "has arrived is not sent again"
                ) from error
            path.unlink()
            moved += len(content)
    try:
        result = host.call(
            "load",
            name=reference,
            saved=saved.as_dict(),
            incoming=seen["incoming"],
            chunks=names,
            packed={layer.diff_id: layer.size for layer in layers},
        )
    except Refused as error:
        if damaged := layer_cache.drop_damaged(layers):
            raise ImageError(
                f"{error}. The controller's copy of {damaged} layers was damaged and is removed; run it again"
            ) from error
        raise
    return result["image"], moved + len(saved.config)


def fetch(host: Link, reference: str, wanted: list[str]) -> Saved:
    """Have the wanted layers of an image of a build host in the controller's cache."""
    layer_cache = LayerCache()
    missing = sorted(set(wanted) - set(layer_cache.layers()))
    with cache.once("fetch"):
        result = host.call("export", name=reference, layers=missing)
        for name in result["files"]:
            if not _FILE.fullmatch(str(name)):
                raise ImageError(f"the build host names a layer {str(name)[:200]!r}, which no layer is called")
            part = layer_cache.directory / f".part-{name}"
            host.fetch(f"{result['outgoing']}/{name}", part)
            digest, _, unpacked = name.partition(".")
            layer = Packed(f"sha256:{digest}", part, int(unpacked.partition(".")[0]))
            if not is_whole(layer):
                part.unlink()
                raise ImageError(f"layer {digest} of {reference} was changed on its way from the build host")
            part.rename(layer_cache.directory / name)
        host.call("forget_export", name=reference)
    return Saved(**result["saved"])
