"""A Docker Engine that is on a host before the role docker_engine is: what the role would take from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from . import command
from .reading import object_of

DAEMON = Path("/etc/docker/daemon.json")
# What the role writes beside it: where that is, the file is the role's.
OURS = Path("/etc/systemd/system/docker.service.d/slipway.conf")
SNAP = Path("/snap/bin/docker")
SWARM = Path("/var/lib/docker/swarm/docker-state.json")
TIMEOUT = 60.0  # seconds
# The engine of each source, and what else provides `docker`: apt removes the one for the other.
ENGINES = {"distribution": "docker.io", "docker": "docker-ce"}
OTHERS = ("moby-engine", "docker-ee", "docker-engine", "podman-docker")


@dataclass(frozen=True)
class There:
    """What was found. `daemon` is None where there is no file or it is the role's own."""

    packages: Mapping[str, str] = field(default_factory=dict)  # name: version
    snap: bool = False
    daemon: Optional[Mapping[str, Any]] = None
    unreadable: str = ""
    swarm: bool = False


def look(root: Path = Path("/")) -> There:
    """What is on this host, below `root`. Raises CommandError where dpkg cannot be asked."""

    def at(path: Path) -> Path:
        return root / path.relative_to("/")

    daemon, unreadable = None, ""
    if at(DAEMON).is_file() and not at(OURS).is_file():
        try:
            daemon = object_of(at(DAEMON).read_text(encoding="utf-8") or "{}")
        except ValueError as error:
            unreadable = str(error)
    return There(_packages(), at(SNAP).exists(), daemon, unreadable, at(SWARM).is_file())


def _packages() -> dict[str, str]:
    asked = command.run(
        [
            "dpkg-query",
            "--show",
            "--showformat=${db:Status-Status} ${Package} ${Version}\n",
            *ENGINES.values(),
            *OTHERS,
        ],
        TIMEOUT,
    )
    rows = [line.split() for line in asked.stdout.splitlines()]
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}


def problems(there: There, source: str, wanted: Mapping[str, Any], named: Collection[str]) -> list[str]:
    """What would be lost, a sentence each with what to write.

    Args:
        there: what was found
        source: docker_engine_source
        wanted: daemon.json as the role would write it
        named: its settings that the inventory names, null for one that may go
    """
    said = (_other_engine(there, source), _other_settings(there, wanted, named), _swarm(there, wanted))
    return [sentence for sentence in said if sentence]


def _other_engine(there: There, source: str) -> str:
    mine = ENGINES[source]
    if there.snap:
        return "Docker was installed as a snap; remove it with its containers first: snap remove docker"
    found = {name: version for name, version in there.packages.items() if name != mine}
    if not found:
        return ""
    name, version = next(iter(found.items()))
    other = next((key for key, engine in ENGINES.items() if engine == name), "")
    keep = f"write docker_engine_source: {other} to go on with it, or " if other else ""
    return (
        f"{name} {version} is installed here, and {mine} (docker_engine_source: {source}) would take its place with "
        f"what runs on it; {keep}remove it first: apt-get remove {name}"
    )


def _other_settings(there: There, wanted: Mapping[str, Any], named: Collection[str]) -> str:
    if there.unreadable:
        return f"{DAEMON} cannot be read ({there.unreadable}); mend it, or move it away"
    settings = there.daemon or {}
    lost = {key: value for key, value in settings.items() if key not in named and wanted.get(key) != value}
    if not lost:
        return ""
    return (
        f"{DAEMON} has settings that the inventory does not name; write docker_engine_daemon: "
        f"{json.dumps(lost, sort_keys=True)} to keep them, with null for each that may go"
    )


def _swarm(there: There, wanted: Mapping[str, Any]) -> str:
    if not there.swarm or not wanted.get("live-restore"):
        return ""
    return (
        "this host is part of a swarm, with which live-restore does not go; leave the swarm (docker swarm leave), or "
        "write docker_engine_daemon: {live-restore: null}"
    )
