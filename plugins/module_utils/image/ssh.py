"""How a build logs in at repositories (RUN --mount=type=ssh): by an SSH agent, or a key that no layer sees."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from .local import ImageError

SOCKET = "SSH_AUTH_SOCK"
PROCESSES = Path("/proc")
CONTROLLER = "the controller"


@dataclass(frozen=True)
class Ssh:
    """Whether a build gets the agent, or which private key as text; `where` it runs is for messages."""

    agent: bool = False
    key: str = field(default="", repr=False)
    where: str = CONTROLLER

    @property
    def wanted(self) -> bool:
        return self.agent or bool(self.key)

    @property
    def variable(self) -> str:
        """The role's variable that asks for it."""
        return "fastapi_image_build_ssh_key" if self.key else "fastapi_image_build_ssh"

    @contextmanager
    def options(self) -> Iterator[list[str]]:
        """Options of a build; a key is a file meanwhile. Raises ImageError where no agent is to be found."""
        if self.key:
            with in_memory() as directory:
                path = directory / "key"
                path.touch(0o600)
                path.write_text(self.key.rstrip() + "\n", encoding="utf-8")
                yield ["--ssh", f"default={path}"]
        else:
            yield ["--ssh", f"default={self._socket()}"] if self.agent else []

    def _socket(self) -> str:
        if found := agent_socket():
            return found
        way = "start one there (`eval $(ssh-agent)`, `ssh-add`)"
        if self.where != CONTROLLER:
            way = "have SSH forward the controller's (ansible_ssh_common_args: -o ForwardAgent=yes for this host)"
        raise ImageError(
            f"fastapi_image_build_ssh is true, and {self.where} has no SSH agent: {way}, or give the build a key of "
            "its own from the vault, fastapi_image_build_ssh_key"
        )


NO_SSH = Ssh()


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory for files of this user alone, in memory where the system has that."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own below it
    directory = Path(tempfile.mkdtemp(prefix="slipway-", dir=memory if memory.is_dir() else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def agent_socket(processes: Path = PROCESSES) -> Optional[str]:
    """The agent's socket that this process was told, or the nearest one above it: sudo does not hand it on."""
    told, process = os.environ.get(SOCKET, ""), "self"
    while not (told and _is_socket(told)):
        process = _parent(processes / process)
        if process in {"", "0"}:
            return None
        told = _told(processes / process)
    return told


def _told(process: Path) -> str:
    try:
        entries = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    begin = f"{SOCKET}=".encode()
    return next((os.fsdecode(entry[len(begin) :]) for entry in entries if entry.startswith(begin)), "")


def _parent(process: Path) -> str:
    with suppress(OSError):
        for line in (process / "status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("PPid:"):
                return line.split()[1]
    return ""


def _is_socket(path: str) -> bool:
    with suppress(OSError):
        return stat.S_ISSOCK(os.stat(path).st_mode)
    return False
