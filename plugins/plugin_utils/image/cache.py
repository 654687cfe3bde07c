# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The controller's cache of what is made once for many hosts and later runs, and that it is made once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def directory(part: str = "") -> Path:
    """A directory of the cache."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    found = Path(home, "slipway", "images", part)
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    return found


@contextmanager
def once(name: str) -> Iterator[None]:
    """Let one process or thread do the work while the others wait for its result."""
    with open(directory() / f"{name}.lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
