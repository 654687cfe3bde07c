"""On a host: what it has of an image, and the image out of what the controller sent."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..host.durable import make_public
from .layers import Chunks, Saved, chain_ids, place_of, sha256_of, write_archive
from .local import Image, ImageError, docker, find, made_as

INCOMING = Path("/var/lib/slipway/incoming")
CONTAINERD = "io.containerd.snapshotter"


def look(reference: str, expected: str, check_mode: bool) -> dict[str, Any]:
    """The image as the host has it, and where it has not, all that a transfer has to know, in one call.

    `expected` is the id of the wanted image; empty where the reference alone names its content.
    """
    try:
        found = find(reference)
        if found and expected in ("", found.id):
            return {"changed": False, "image": found.as_dict()}
        store, root = _store()
        layers = _layers()
    except ImageError as error:
        if check_mode:  # the dry run of a play that would install Docker first
            return {"changed": False, "image": None, "without_docker": str(error)}
        raise
    return {
        "changed": False,
        "image": found.as_dict() if found else None,
        "machine": platform.machine(),
        "store": store,
        "chains": [] if store == "containerd" else sorted({chain for one in layers for chain in chain_ids(one)}),
        "disks": _disks(root),
        **({} if check_mode else open_spool(INCOMING / place_of(reference))),
    }


def _store() -> tuple[str, Path]:
    """Which kind of image store Docker has, and where. Only graph drivers find a layer by those below it."""
    told = json.loads(docker("info", "--format", "{{json .}}"))
    kinds = [value for row in told.get("DriverStatus") or [] for value in row]
    kind = "containerd" if any(CONTAINERD in value for value in kinds) else "graph"
    return kind, Path(told["DockerRootDir"])


def _layers() -> list[list[str]]:
    """The layers of every image here, also of those without a name."""
    ids = sorted(set(docker("image", "ls", "--all", "--quiet", "--no-trunc").split()))
    if not ids:
        return []
    # One that another process removes meanwhile must not fail this.
    lines = docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", *ids, accept="No such image").splitlines()
    return [json.loads(line) or [] for line in lines if line.startswith(("[", "null"))]


def _disks(docker_root: Path) -> dict[str, Any]:
    """Free bytes where chunks arrive and where Docker unpacks them, and whether that is one file system."""
    spool, root = _existing(INCOMING), _existing(docker_root)
    return {
        "root": str(docker_root),
        "root_free": shutil.disk_usage(root).free,
        "spool": str(INCOMING),
        "spool_free": shutil.disk_usage(spool).free,
        "one": spool.stat().st_dev == root.stat().st_dev,
    }


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def open_spool(directory: Path) -> dict[str, Any]:
    """A directory in which the connection's user may put files, and the whole chunks that a cut transfer left there."""
    try:
        make_public(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, connected_as(), -1)
    except PermissionError as error:
        raise ImageError(f"{error}: images are put on a host by root; set become: true") from error
    whole = []
    for path in directory.iterdir():
        if sha256_of(path) == path.name:
            whole.append(path.name)
        else:
            path.unlink()
    return {"incoming": str(directory), "chunks": sorted(whole)}


def keep(archive: Path, target: Path) -> dict[str, Any]:
    """Put a piece that came over another way among those of its image. Raises ImageError for another place."""
    if target.parent.parent != INCOMING or ".." in target.parts:
        raise ImageError(f"{target} is no place for a piece of an image, which goes below {INCOMING}")
    part = target.with_name(f".part-{target.name}")
    shutil.move(str(archive), str(part))
    part.replace(target)
    return {"changed": True}


def connected_as() -> int:
    """The user id of the connection: of the nearest process above this one that is not root's, else root's."""
    pid = os.getpid()
    while pid > 1:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        except OSError:
            break
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        if user := int(fields["Uid"].split()[0]):
            return user
        pid = int(fields["PPid"])
    return 0


def load(options: dict[str, Any]) -> dict[str, Any]:
    """Make the image of the chunks that arrived, tag it, and leave nothing of them.

    Raises:
        ImageError: a chunk is not what was sent, or Docker found another layer or image in them; nothing was tagged.
    """
    saved = Saved(options["saved"]["config"], list(options["saved"]["layers"]))
    reference, directory = options["name"], Path(options["incoming"])
    chunks = Chunks(directory, options["chunks"])
    if damaged := chunks.damaged():
        for path in damaged:
            path.unlink(missing_ok=True)
        raise ImageError(
            f"{len(damaged)} of {len(options['chunks'])} pieces of {reference} were changed on their way; nothing was "
            "loaded. Run it again: only these are sent again"
        )
    _load(saved, reference, {name: int(size) for name, size in options["packed"].items()}, chunks)
    loaded = find(reference)
    if loaded is None or not is_image(loaded, saved):
        raise ImageError(f"Docker took the layers, but {reference} is not the image that was sent ({saved.id})")
    shutil.rmtree(directory, ignore_errors=True)
    return {"changed": True, "image": loaded.as_dict()}


def _load(saved: Saved, reference: str, packed: dict[str, int], chunks: Chunks) -> None:
    """Let Docker unpack the layers, which it compares with their diff ids before it keeps any."""
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                ["docker", "load", "--quiet"], stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT
            )
        except FileNotFoundError:
            raise ImageError("there is no `docker` here; install it by slipway.fleet.provision") from None
        with process:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # Docker says why
                write_archive(process.stdin, saved, reference, packed, chunks)
            with suppress(BrokenPipeError):
                process.stdin.close()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()
    if process.returncode:
        raise ImageError(f"Docker did not take the layers of {reference}, nothing was tagged: {words}")


def is_image(there: Image, saved: Saved) -> bool:
    """Whether an image of a host is the saved one, whatever the host's store names it by."""
    if there.id == saved.id:
        return True
    told = json.loads(saved.config)
    return there.layers == saved.layers and there.made == made_as(told.get("created"), told.get("config"))
