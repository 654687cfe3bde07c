# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How the process of a host's agent is started, as the channel needs to know it; Ansible's ways are in ansible.py."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import clean

LONGEST = 400


def plain(said: bytes) -> str:
    """Text of a host as a message may show it: one line, without what a terminal would obey."""
    text = " ".join(clean(said.decode(errors="replace")).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."


def last_line(said: bytes) -> str:
    """The last line that says something."""
    return next((line for part in reversed(said.splitlines()) if (line := plain(part))), "")


class Become(Protocol):
    """Becoming root on the host, and what it says about passwords."""

    @property
    def name(self) -> str: ...

    @property
    def password(self) -> bytes: ...

    def asks(self, said: bytes) -> bool:
        """Whether a password is asked for."""
        ...

    def wrong(self, said: bytes) -> bool:
        """Whether the password was refused."""
        ...

    def missing(self, said: bytes) -> bool:
        """Whether there should have been one."""
        ...


@dataclass(frozen=True)
class Started:
    """A process whose stdin and stdout lead to the host."""

    process: subprocess.Popen[bytes]
    become: Become | None = None
    # Seconds that it may take to say its first word.
    patience: float = 30.0
    # To be called when it said its first word or is gone: what only the start needed can go.
    begun: Callable[[], None] = lambda: None


@runtime_checkable
class Way(Protocol):
    """The way to one host for a process that lives as long as the channel."""

    def start(self, command: str) -> Started:
        """Start a command of the host's shell as root. Raises Unreachable and Refused."""
        ...

    def forget(self) -> None:
        """Drop what a broken connection may have left and the next one would use. Blocks; raises nothing."""
        ...


class Errand(Protocol):
    """The way to one host for connections that only run a command to its end."""

    def run(self, command: str, given: bytes) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr of a command that runs as root. Blocks. Raises Unreachable and Refused."""
        ...
