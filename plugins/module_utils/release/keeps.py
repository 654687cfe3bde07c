"""What outlives a release and what may not run beside it, as its own files say: a rollback comes with its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..host.durable import read_json
from ..host.errors import Damaged

# A file of each release: {"volumes": {NAME: PATH IN THE APP}, "overlap": whether it may run beside another release,
# "assets": [PATH IN THE APP]}.
KEEPS = "keeps.json"


@dataclass(frozen=True)
class Keeps:
    """What a release says of itself; one from before there was such a file says this."""

    volumes: Mapping[str, str] = field(default_factory=dict)
    overlap: bool = True
    assets: tuple[str, ...] = ()


def keeps_of(releases: Path, release: str) -> Keeps:
    """What a staged release says. Raises Damaged and OSError where it says something that cannot be read."""
    path = releases / release / KEEPS
    found = read_json(path)
    if found is None:
        return Keeps()
    volumes = found.get("volumes") or {}
    if not isinstance(volumes, dict):
        raise Damaged(f"{path} is damaged (no volumes); deploy again")
    assets = tuple(map(str, found.get("assets") or ()))
    return Keeps({str(name): str(at) for name, at in volumes.items()}, found.get("overlap") is not False, assets)
