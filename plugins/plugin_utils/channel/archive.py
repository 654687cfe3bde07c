# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The agent as one file: everything below `module_utils`, the same bytes for the same sources."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older

ROOM = Path(__file__).resolve().parents[2] / "module_utils"
# Where it stands in the archive, so that imports read there as they do here.
PACKAGE = PurePosixPath("ansible_collections/slipway/fleet/plugins/module_utils")
BOOTSTRAP = "agent/bootstrap.py"
# The oldest date that an archive can have.
DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Agent:
    """What is sent to a host once, and the words that have it run there."""

    data: bytes
    digest: str
    bootstrap: str


def sources(room: Path = ROOM) -> dict[str, bytes]:
    """The sources by their names below the room."""
    return {path.relative_to(room).as_posix(): path.read_bytes() for path in sorted(room.rglob("*.py"))}


def build(texts: Mapping[str, bytes]) -> bytes:
    """The archive. Packages without a file of their own get an empty one, which zipimport needs."""
    files = {PACKAGE / name: text for name, text in texts.items() if name != BOOTSTRAP}
    for directory in {parent for path in files for parent in path.parents if parent.name}:
        files.setdefault(directory / "__init__.py", b"")
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(str(path), DATE), files[path], zipfile.ZIP_DEFLATED)
    return target.getvalue()


def words(text: bytes) -> str:
    """The bootstrap as it stands in a command: without comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.unparse(tree)


def cache() -> Path:
    """The controller's directory for agents that were built."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "slipway" / "agent"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


@functools.lru_cache(maxsize=1)
def agent() -> Agent:
    """The agent of this version, built when its sources were not seen before."""
    texts = sources()
    key = hashlib.sha256(b"".join(hashlib.sha256(name.encode() + b"\0" + texts[name]).digest() for name in texts))
    kept = cache() / f"{key.hexdigest()}.pyz"
    data = kept.read_bytes() if kept.exists() else b""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        data = build(texts)
        keep(kept, data)
    return Agent(data, hashlib.sha256(data).hexdigest(), words(texts[BOOTSTRAP]))


def keep(path: Path, data: bytes) -> None:
    """Put it there whole, and forget what was there for older sources."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
        stream.write(data)
    Path(stream.name).replace(path)
    for old in older(path.parent.glob("*.pyz"), 3):
        old.unlink(missing_ok=True)
