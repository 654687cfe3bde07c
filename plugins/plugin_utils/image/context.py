# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A Docker build context on the controller: which files belong to it, and a key of their content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.cache import directory

CA_NAME = "build-ca.crt"
# What Ansible keeps the variables of hosts in, secrets among them. Wherever one lies, an inventory lies beside it.
_VARIABLES = ("group_vars", "host_vars")
# What a deployment brings and writes, at the root of a context. One with code in it is a part of the app.
_OF_DEPLOYMENTS = ("inventories", "inventory", "reports")
_INVENTORY_FILES = ("hosts", "inventory", ".vault_pass", ".vault_password")
# A file may be written twice within one tick of the file system's clock (10 ms at most on Linux; others have a second).
_SETTLED = 2 * 10**9  # ns
_CONTEXTS_KEPT = 20


class ContextError(Exception):
    """The context cannot be built; the text names the path and the mend."""


class BuildContext:
    """The files of one build, as the ignore file leaves them (Docker's own rules, from the Docker SDK).

    What belongs to the deployment is never part of it, whatever an ignore file says: `.git`, inventories, `reports`.
    """

    def __init__(
        self,
        root: Path,
        dockerfile: str,
        arguments: dict[str, str],
        ca_file: Path | None = None,
        target: str = "",
    ) -> None:
        self.root = root.resolve()
        self.dockerfile = dockerfile
        self.arguments = dict(sorted(arguments.items()))
        self.ca_file = ca_file
        self.target = target
        if not (self.root / dockerfile).is_file():
            raise ContextError(
                f"there is no {dockerfile} in the build context {self.root}; name the directory of the app's source "
                "with fastapi_image_context, and its Dockerfile with fastapi_image_dockerfile"
            )
        if ca_file and not ca_file.is_file():
            raise ContextError(f"the CA file {ca_file} does not exist; name a PEM bundle or nothing")

    @cached_property
    def files(self) -> list[Path]:
        """Regular files and links of the context, relative to its root, sorted. Raises ContextError without the SDK."""
        kept = _docker_rules()(str(self.root), [*self._ignored(), *self._never()], dockerfile=self.dockerfile)
        has_inventory: dict[Path, bool] = {}
        return sorted(
            path
            for path in map(Path, kept)
            if path.name != CA_NAME and _is_content(self.root / path) and not self._is_of_inventory(path, has_inventory)
        )

    def _ignored(self) -> list[str]:
        """The patterns of the Dockerfile's own ignore file, where it has one, else of the context's."""
        for name in (f"{self.dockerfile}.dockerignore", ".dockerignore"):
            if (self.root / name).is_file():
                lines = (self.root / name).read_text(encoding="utf-8").splitlines()
                return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        return []

    def _never(self) -> list[str]:
        """Patterns of what is left out in any case; as the last ones they hold against what an ignore file lets in."""
        deployment = [name for name in _OF_DEPLOYMENTS if not any((self.root / name).glob("*.py"))]
        return [*deployment, ".git", "**/.git", *(f"**/{name}" for name in _VARIABLES), *_VARIABLES]

    def _is_of_inventory(self, path: Path, known: dict[Path, bool]) -> bool:
        """Whether a file lies in an inventory: a directory with variables of hosts, or beside them at the root."""
        for parent in path.parents:
            if parent not in known:
                known[parent] = any((self.root / parent / name).is_dir() for name in _VARIABLES)
            if known[parent] and (parent != Path() or path.name.partition(".")[0] in _INVENTORY_FILES[:2]):
                return True
        return path.name in _INVENTORY_FILES[2:]

    @cached_property
    def key(self) -> str:
        """A hash of every name, mode bit for execution and byte that the image is made from, the CA file left out."""
        # Without a target it is named as it was before there was such a variable.
        named_by = [self.dockerfile, self.arguments, *filter(None, [self.target])]
        digest = hashlib.sha256(json.dumps(named_by).encode())
        known = Digests.of(self.root)
        for path in self.files:
            full = self.root / path
            found = full.lstat()
            if stat.S_ISLNK(found.st_mode):
                digest.update(f"\0{path.as_posix()}\0link\0{os.readlink(full)}".encode())
                continue
            digest.update(f"\0{path.as_posix()}\0{found.st_mode & 0o111:o}\0".encode())
            digest.update(known.of_file(path.as_posix(), full, found))
        known.keep()
        return digest.hexdigest()

    def write(self, archive: Path) -> None:
        """Write the context as a tar file, with equal times and owners so that equal content hits the build cache."""

        def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
            item.uid = item.gid = item.mtime = 0
            item.uname = item.gname = ""
            if not item.issym():
                item.mode = 0o755 if item.mode & 0o100 else 0o644
            return item

        with tarfile.open(archive, "w") as tar:
            for path in self.files:
                tar.add(self.root / path, arcname=path.as_posix(), filter=plain, recursive=False)
            if self.ca_file:
                tar.add(self.ca_file.resolve(), arcname=CA_NAME, filter=plain)


class Digests:
    """SHA-256 of the files of one tree, kept from run to run for those whose size, times and inode are as they were.

    A file that was written just before it was hashed is hashed again the next time, since a second write in the same
    tick of the clock would not show.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._before: dict[str, list[Any]] = {}
        self._now: dict[str, list[Any]] = {}
        with suppress(OSError, ValueError):  # then all are hashed anew
            self._before = dict(json.loads(file.read_text(encoding="utf-8")))

    @classmethod
    def of(cls, root: Path) -> Digests:
        return cls(directory("contexts") / f"{hashlib.sha256(os.fsencode(root)).hexdigest()[:24]}.json")

    def of_file(self, name: str, path: Path, found: os.stat_result) -> bytes:
        """The digest of a file that `found` describes."""
        state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
        kept = self._before.get(name)
        if kept and kept[:-1] == state:
            self._now[name] = kept
            return bytes.fromhex(kept[-1])
        begun = time.time_ns()
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256")
        if max(found.st_mtime_ns, found.st_ctime_ns) < begun - _SETTLED:
            self._now[name] = [*state, digest.hexdigest()]
        return digest.digest()

    def keep(self) -> None:
        """Write them down for the next run, where there is something new."""
        if self._now == self._before:
            return
        part = self._file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(self._now), encoding="utf-8")
        part.replace(self._file)
        for old in older(self._file.parent.glob("*.json"), _CONTEXTS_KEPT):
            old.unlink(missing_ok=True)


def _is_content(path: Path) -> bool:
    """Whether Docker would send it for itself: a regular file, or a link whatever it points to."""
    return path.is_symlink() or path.is_file()


def _docker_rules() -> Any:
    """What the Docker SDK finds by the patterns of an ignore file. Raises ContextError where it is not installed."""
    try:
        from docker.utils.build import exclude_paths  # noqa: PLC0415 - nothing but a build needs the SDK
    except ImportError as error:
        raise ContextError(
            "building needs the Python package docker on the controller, which reads .dockerignore as Docker does, and "
            f"it cannot be imported ({error}); install it where ansible-playbook runs (pip install docker), or set "
            "fastapi_image_source to pull"
        ) from error
    return exclude_paths
