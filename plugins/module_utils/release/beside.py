"""What runs beside the web process of a release: as its files declare it, and as a runtime has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Optional, Protocol

from ..host.durable import read_json
from ..host.errors import Damaged

# What a release declares; one without the file has its web process alone.
DECLARED = "processes.json"
# Seconds beyond the longest grace after which a process that was told to end is gone, whatever the host is busy with.
SLACK = 60.0


@dataclass(frozen=True)
class Process:
    """One process of a release. Times in seconds; `replicas` of it run on each host, a singleton on one of the fleet.

    After SIGTERM it has `stop_grace` to end what it has in hand.
    """

    command: list[str]
    replicas: int = 1
    singleton: bool = False
    stop_grace: float = 45.0
    memory_mib: int = 512
    cpus: float = 1.0
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """One process that a runtime has, whether it runs or not.

    `group` numbers those that were started together, so that a release can be there twice, ending and starting.
    `ending`: it was told to end, and does not come back. `gone`: nothing of it runs, and nothing will by itself.
    """

    id: str
    name: str
    slot: str
    release: str
    group: int
    running: bool = True
    ending: bool = False
    gone: bool = False
    restarts: int = 0
    exit_code: Optional[int] = None
    out_of_memory: bool = False


class Beside(Protocol):
    """The verbs of a runtime for processes; all may be called again after a crash.

    Everything may raise RuntimeFailed, Damaged where a release's declaration cannot be read, and OSError.
    """

    def instances(self) -> list[Instance]:
        """All that there are of the app, those included that have ended and were not forgotten."""

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        """Have so many of each named process in a group, now and at every boot. What runs of it already runs on."""

    def end(self, instances: Sequence[Instance]) -> None:
        """Send SIGTERM, and SIGKILL after the grace of each; nobody waits here, and none comes back at a boot."""

    def kill(self, instances: Sequence[Instance]) -> None:
        """Send SIGKILL to what was told to end; what has ended meanwhile is no trouble."""

    def forget(self, instances: Sequence[Instance]) -> None:
        """Remove what is left of those that are gone."""

    def logs(self, instance: Instance, lines: int) -> str:
        """What one of them printed last."""


def processes_of(releases: Path, release: str) -> dict[str, Process]:
    """What a staged release declares, by name; empty where it declares nothing. Raises Damaged."""
    path = releases / release / DECLARED
    content = read_json(path) or {}
    known = {field.name for field in fields(Process)}
    try:
        found = {
            str(name): Process(**{key: value for key, value in said.items() if key in known})
            for name, said in content.items()
        }
    except (TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged ({error}); stage the release again") from error
    if not all(isinstance(process.command, list) for process in found.values()):
        raise Damaged(f"{path} is damaged (a command is no list); stage the release again")
    return found
