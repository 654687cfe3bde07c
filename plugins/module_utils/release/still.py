"""The files of an image, by a container that is never started: an image need not have a program that shows one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Optional

from ..host import command
from ..host.command import Ran
from .runtime import RuntimeFailed

# What Docker says of a file that is not there, and of one that is no directory.
MISSING, NO_DIRECTORY = ("No such", "Could not find", "not found"), ("not a directory",)
# Seconds for one file, and for whatever is in a directory.
LIMIT, COPY_LIMIT = 60.0, 600.0


class Still:
    """A container of `image` while the block runs; `docker` runs Docker's client. Everything raises RuntimeFailed."""

    def __init__(self, image: str, docker: Callable[..., str]) -> None:
        self.image = image
        self._docker = docker
        self._container = ""

    def __enter__(self) -> Still:
        self._container = self._docker("create", "--network", "none", self.image, "true").strip()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], where: Optional[TracebackType]
    ) -> None:
        self._docker("rm", "--force", "--volumes", self._container)

    def holds(self, path: str) -> bool:
        """Whether there is such a file."""
        ran = self._copy(path, "-", LIMIT)
        if ran.returncode and not any(words in ran.stderr for words in MISSING):
            raise RuntimeFailed(ran.said)
        return not ran.returncode

    def text(self, path: str) -> str:
        """What is in a file, empty where there is none."""
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory, "copy")
            ran = self._copy(path, str(copy), LIMIT)
            if ran.returncode and not any(words in ran.stderr for words in MISSING):
                raise RuntimeFailed(ran.said)
            return copy.read_text(encoding="utf-8", errors="replace") if copy.is_file() else ""

    def copy(self, path: str, to: Path) -> None:
        """Put what is in a directory into another one; nothing where there is none."""
        ran = self._copy(f"{path}/.", str(to), COPY_LIMIT)
        if ran.returncode and any(words in ran.stderr for words in NO_DIRECTORY):
            raise RuntimeFailed(f"{path} is a file in the image {self.image}, and a directory is wanted")
        if ran.returncode and not any(words in ran.stderr for words in MISSING):
            raise RuntimeFailed(f"what the image {self.image} has in {path} cannot be copied: {ran.said}")

    def _copy(self, path: str, to: str, limit: float) -> Ran:
        try:
            return command.run(["docker", "cp", "--follow-link", f"{self._container}:{path}", to], limit)
        except command.CommandError as error:
            raise RuntimeFailed(str(error)) from error
