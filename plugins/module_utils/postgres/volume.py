"""The volume of a server in a container: compose.yaml on the host says which one, since an upgrade has put it there."""

from __future__ import annotations

import re

_VOLUME = re.compile(r"^  data: \{name: ([a-zA-Z0-9][a-zA-Z0-9_.-]*)\}$", re.MULTILINE)
# Of a server that never was upgraded.
FIRST = "slipway-postgres-data"


def volume_of(compose: str) -> str:
    """The volume that a compose.yaml names."""
    found = _VOLUME.search(compose)
    return found[1] if found else FIRST


def with_volume(compose: str, name: str) -> str:
    """The same compose.yaml with another volume. Raises ValueError for one that names none."""
    changed, found = _VOLUME.subn(f"  data: {{name: {name}}}", compose)
    if found != 1:
        raise ValueError("a compose.yaml that names no volume of the data")
    return changed
