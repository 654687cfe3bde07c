"""Tests of a minute in all: what starts a server or a program that has to be installed is below tests/integration."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import which  # as it is before a test puts something in its place
from typing import Any

import pytest

# fmt: off
ELSEWHERE = frozenset({
    "ansible", "ansible-galaxy", "ansible-playbook", "chromium", "debsecan", "docker-registry", "haproxy", "initdb",
    "nft", "pg_ctl", "poetry", "postgres", "psql", "redis-server", "restic", "sshd", "testssl", "uv",
})
# fmt: on


class Fence:
    """Refuses those programs while a test of this directory runs."""

    def __init__(self) -> None:
        self.closed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.closed and event == "subprocess.Popen":
            program = installed(*arguments)
            assert program not in ELSEWHERE, f"a test that starts {program} belongs below tests/integration"


def installed(
    executable: Any, words: Sequence[Any] | str, directory: Any, environment: Mapping[str, str] | None
) -> str:
    """The name of an installed program that is to be started; nothing for one that a test has written itself."""
    first = executable or (words.split()[0] if isinstance(words, str) else words[0])
    found = which(os.fsdecode(first), path=(environment or os.environ).get("PATH"))
    return "" if found is None or Path(found).is_relative_to(tempfile.gettempdir()) else Path(found).name


fence = Fence()
sys.addaudithook(fence)


@pytest.fixture(autouse=True)
def _starts_no_server() -> Iterator[None]:
    fence.closed = True
    yield
    fence.closed = False
