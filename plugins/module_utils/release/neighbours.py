"""What else may take memory and database connections on a host: services, and other apps by the releases that serve."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..host.durable import read_json
from ..host.errors import SlipwayError
from .beside import processes_of
from .processors import processors

# The limits that the roles' templates write, in MiB, and how many workers an app's server is told to have. The first
# one of a file is that of its web process.
_LIMIT = re.compile(r"^\s*(?:mem_limit: (\d+)m|MemoryMax=(\d+)M)\s*$", re.MULTILINE)
_QUOTA = re.compile(r"^\s*(?:cpu_quota: (\d+)|CPUQuota=(\d+)%)\s*$", re.MULTILINE)
_WORKERS = re.compile(r"\bWEB_CONCURRENCY\"?[:=]\s*\"?(\d+)")
# A quarter of what the packaged PostgreSQL may take, which has no limit of its own (roles/postgres).
_BUFFERS = re.compile(r"^shared_buffers = '(\d+)MB'$", re.MULTILINE)
# Where the packaged Redis has its limit, and one beside the first its own (roles/redis).
UNITS = Path("/etc/systemd/system")
REDIS_UNIT, ONE_MORE = "redis-server.service.d/slipway.conf", "redis-server@{}.service.d/slipway.conf"


@dataclass(frozen=True)
class App:
    """What an app may take while one slot of it runs: memory in MiB, workers with the processes beside them.

    And processors, of which none of its limits counts for more than the host has.
    """

    memory_mib: int
    workers: int
    cpus: float = 0.0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _limit(text: str) -> int:
    found = _LIMIT.search(text)
    return int(found[1] or found[2]) if found else 0


def _quota(text: str) -> float:
    """Processors: Compose has microseconds of a period of 100 ms, systemd percents of one."""
    found = _QUOTA.search(text)
    if not found:
        return 0.0
    return int(found[1]) / 100_000 if found[1] else int(found[2]) / 100


def runs_natively(postgres: Path) -> bool:
    """Whether the database server of a directory is the distribution's; a container's it is else."""
    with suppress(SlipwayError, OSError):
        settings = (read_json(postgres / "server.json") or {}).get("settings") or {}
        if "postgres_provider" in settings:
            return bool(settings["postgres_provider"] == "native")
    return not (postgres / "compose.yaml").exists()


def services(apps: Path, units: Path = UNITS) -> dict[str, int]:
    """The memory that database and caches of a host may take, in MiB; none where the host has none.

    `apps` is the directory of all apps, /opt/slipway.
    """
    postgres = apps / "postgres"
    if runs_natively(postgres):
        buffers = _BUFFERS.search(_text(postgres / "config" / "postgresql.conf"))
        database = 4 * int(buffers[1]) if buffers else 0
    else:
        database = _limit(_text(postgres / "compose.yaml"))
    found = {"postgres": database, "redis": _cache(units / REDIS_UNIT, apps / "redis")}
    for one in sorted((apps / "redis" / "instances").glob("*")):
        found[f"redis-{one.name}"] = _cache(units / ONE_MORE.format(one.name), one)
    return {name: mib for name, mib in found.items() if mib}


def _cache(unit: Path, directory: Path) -> int:
    return _limit(_text(unit)) or _limit(_text(directory / "compose.yaml"))


def others(apps: Path, app: str, units: Path = UNITS) -> dict[str, App]:
    """The other apps of a host that serve, by name. One whose records cannot be read counts for nothing.

    Where timers of a host start jobs of an app, one of them may run in what a slot has.
    """
    found = {}
    for state in sorted(apps.glob("*/state.json")):
        root = state.parent
        if root.name == app:
            continue
        with suppress(SlipwayError, OSError):
            release = str((read_json(state) or {}).get("release") or "")
            if release:
                timed = any(units.glob(f"slipway-{root.name}@job-*.timer"))
                found[root.name] = _app(root / "releases", release, timed)
    return found


def _app(releases: Path, release: str, timed: bool) -> App:
    text = _text(releases / release / "compose.yaml") or _text(releases / release / "unit.service")
    beside = processes_of(releases, release).values()
    workers, total = _WORKERS.search(text), processors()
    return App(
        (2 if timed else 1) * _limit(text) + sum(one.replicas * one.memory_mib for one in beside),
        (int(workers[1]) if workers else 1) + sum(one.replicas for one in beside),
        min(_quota(text), total) + sum(one.replicas * min(one.cpus, total) for one in beside),
    )
