"""What every test of this directory has: an end to the memory that it may take."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

# Bytes that reading hostile input may take beside what is there.
MEMORY = 1 << 30


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    """Whoever takes more fails by MemoryError."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
