"""A Docker build context on the controller: which files belong to it, and a key of their content."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Optional

from docker.utils.build import exclude_paths

CA_NAME = "build-ca.crt"


class ContextError(Exception):
    """The context cannot be built; the text names the path and the mend."""


class BuildContext:
    """The files of one build, as `.dockerignore` leaves them (Docker's own rules, from the Docker SDK)."""

    def __init__(
        self,
        root: Path,
        dockerfile: str,
        arguments: dict[str, str],
        ca_file: Optional[Path] = None,
    ) -> None:
        self.root = root.resolve()
        self.dockerfile = dockerfile
        self.arguments = dict(sorted(arguments.items()))
        self.ca_file = ca_file
        if not (self.root / dockerfile).is_file():
            raise ContextError(
                f"there is no {dockerfile} in the build context {self.root}; name the directory of the app's source "
                "with fastapi_image_context, and its Dockerfile with fastapi_image_dockerfile"
            )
        if ca_file and not ca_file.is_file():
            raise ContextError(f"the CA file {ca_file} does not exist; name a PEM bundle or nothing")

    def files(self) -> list[Path]:
        """Regular files of the context, relative to its root, sorted."""
        ignore = self.root / ".dockerignore"
        lines = ignore.read_text(encoding="utf-8").splitlines() if ignore.is_file() else []
        patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        kept = exclude_paths(str(self.root), patterns, dockerfile=self.dockerfile)
        return sorted(path for path in map(Path, kept) if (self.root / path).is_file() and path.name != CA_NAME)

    def key(self) -> str:
        """A hash of every name, mode bit for execution and byte that the image is made from, the CA file left out."""
        digest = hashlib.sha256(json.dumps([self.dockerfile, self.arguments]).encode())
        for path in self.files():
            full = self.root / path
            digest.update(f"\0{path.as_posix()}\0{full.stat().st_mode & 0o111:o}\0".encode())
            digest.update(hashlib.sha256(full.read_bytes()).digest())
        return digest.hexdigest()

    def write(self, archive: Path) -> None:
        """Write the context as a tar file, with equal times and owners so that equal content hits the build cache."""

        def plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
            item.uid = item.gid = item.mtime = 0
            item.uname = item.gname = ""
            item.mode = 0o755 if item.mode & 0o100 else 0o644
            return item

        with tarfile.open(archive, "w") as tar:
            for path in self.files():
                tar.add(self.root / path, arcname=path.as_posix(), filter=plain)
            if self.ca_file:
                tar.add(self.ca_file.resolve(), arcname=CA_NAME, filter=plain)
