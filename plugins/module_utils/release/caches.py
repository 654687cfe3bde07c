"""The caches of a host (roles/redis): whose each is, what it may forget, and what it takes of its memory now."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..host import command
from .neighbours import ONE_MORE, REDIS_UNIT, UNITS, services

PROCESSES = Path("/proc")
_APP = re.compile(r"^([a-z][a-z0-9-]*)$", re.MULTILINE)
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
# Seconds that Docker and systemd have to tell.
_PATIENCE = 30


@dataclass(frozen=True)
class Cache:
    """One of them. `mode` is `cache` or `store`, `provider` `compose` or `native`; sizes are in MiB.

    `app` is whose it is, empty for an app without a name; `used_mib` is None where its server does not run, and
    `unseen` says why nobody knows whether it does.
    """

    name: str
    app: str
    mode: str
    provider: str
    limit_mib: int
    used_mib: Optional[int]
    unseen: str = ""


def caches(apps: Path, units: Path = UNITS, processes: Path = PROCESSES) -> list[Cache]:
    """Those of a host, the first one first; `apps` is the directory of all apps, /opt/slipway. Raises OSError."""
    limits = services(apps, units)
    return [_cache(name, root, unit, limits.get(name, 0), processes) for name, root, unit in _places(apps, units)]


def _places(apps: Path, units: Path) -> Iterator[tuple[str, Path, Path]]:
    """Name, directory and file of the unit of each cache that was provisioned."""
    first = apps / "redis"
    more = sorted((first / "instances").glob("*"))
    every = [
        ("redis", first, units / REDIS_UNIT),
        *((f"redis-{root.name}", root, units / ONE_MORE.format(root.name)) for root in more),
    ]
    yield from (place for place in every if (place[1] / "config" / "app").is_file())


def _cache(name: str, root: Path, unit: Path, limit: int, processes: Path) -> Cache:
    native = unit.exists()
    used, unseen = None, ""
    try:
        process = _of_unit(unit.parent.name.removesuffix(".d")) if native else _of_container(name)
        used = _resident(processes / process) if process else None
    except command.CommandError as error:
        unseen = str(error)
    owner = _APP.search((root / "config" / "app").read_text(encoding="utf-8"))
    mode = "store" if (root / "config" / "store.json").exists() else "cache"
    return Cache(name, owner[1] if owner else "", mode, "native" if native else "compose", limit, used, unseen)


def _of_unit(unit: str) -> str:
    """The process of a unit's server; empty where it does not run. Raises CommandError."""
    said = _told("systemctl", "show", "--property=MainPID", "--value", unit)
    return said if said != "0" else ""


def _of_container(name: str) -> str:
    """The process of the server in a cache's container; empty where it does not run. Raises CommandError."""
    mine = (f"label=com.docker.compose.project=slipway-{name}", f"label=com.docker.compose.service={name}")
    found = _told("docker", "ps", "--quiet", "--filter", mine[0], "--filter", mine[1]).split()
    return _told("docker", "inspect", "--format", "{{.State.Pid}}", found[0]) if found else ""


def _told(*words: str) -> str:
    ran = command.run(words, _PATIENCE)
    if ran.returncode:
        raise command.CommandError(f"`{' '.join(words[:2])}` failed: {ran.said}")
    return ran.stdout.strip()


def _resident(process: Path) -> Optional[int]:
    """The memory that a process has, in MiB; None where it is gone."""
    try:
        found = _RESIDENT.search((process / "status").read_text(encoding="utf-8"))
    except OSError:
        return None
    return int(found[1]) // 1024 if found else None
