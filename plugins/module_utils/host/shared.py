"""What apps from inventories of their own share on a host: one run at a time, and one app's settings."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# What happens where another app was there first, with other settings: haproxy_ and postgres_shared_settings.
REFUSE, KEEP, REPLACE = SHARED_SETTINGS = ("refuse", "keep", "replace")


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """One run at a time reads and changes what is shared there. A fresh host has nothing to lock."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def differing(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Names of settings that both have and not the same."""
    return sorted(name for name in set(known) & set(wanted) if _comparable(known[name]) != _comparable(wanted[name]))


def _comparable(value: Any) -> str:
    """A controller may send a number as text."""
    return json.dumps(value, sort_keys=True).replace('"', "")
