"""Which cluster of the distribution's package is the server of a host: the one with a link to the role's settings."""

from __future__ import annotations

from pathlib import Path

CLUSTERS = Path("/etc/postgresql")
LINK = "main/conf.d/slipway.conf"


def in_place(clusters: Path = CLUSTERS) -> list[int]:
    """The versions whose cluster has the role's settings, the oldest first: two while one takes another's place."""
    return sorted(int(path.parts[-4]) for path in clusters.glob(f"*/{LINK}") if path.parts[-4].isdigit())
