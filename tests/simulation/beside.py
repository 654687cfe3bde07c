"""What runs beside the slots of a host: each boots, may take long to end, and comes back after a power cut. Seconds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance

if TYPE_CHECKING:
    from tests.simulation.slots import Docker

# What every release of a story with processes declares: the second one is for one host of the fleet.
GRACE = {"worker": 90.0, "beat": 9.0}
DECLARED = json.dumps(
    {
        "worker": {"command": ["work"], "stop_grace": GRACE["worker"]},
        "beat": {"command": ["beat"], "stop_grace": GRACE["beat"], "singleton": True},
    }
)


class Beside:
    """The verbs of `release/beside.py`, and what happens to the processes."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.used = False  # whether the releases of this story declare any
        self.there: dict[str, Instance] = {}
        self.of_fleet: list[Beside] = [self]  # those of all hosts
        self.twice: list[str] = []  # singletons that ran beside another one of the fleet, as sentences
        self._numbers = itertools.count(1)

    def running(self, name: str) -> list[Instance]:
        return [one for one in self.there.values() if one.name == name and one.running]

    def instances(self) -> list[Instance]:
        if not self.used:
            return []
        self.docker._call("processes")
        return list(self.there.values())

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        for name in replicas:
            self.docker._call(f"start {name} of {release}", changes=True)
            mine = [one for one in self.there.values() if (one.group, one.name) == (group, name)]
            if any(one.running for one in mine):
                continue
            key = mine[0].id if mine else str(next(self._numbers))
            self._runs(Instance(key, name, slot, release, group))

    def _runs(self, one: Instance) -> None:
        if one.name == "beat" and (others := [found for each in self.of_fleet for found in each.running("beat")]):
            self.twice.append(f"beat of {one.release} beside that of {others[0].release}")
        self.there[one.id] = replace(one, running=True, gone=False)
        if self.docker.health.get(one.release) == "ends":
            self.docker.kernel.after(self.docker.kernel.delay(0.1, 2.0), lambda: self._dies(one.id))

    def _dies(self, key: str) -> None:
        """It ends, and Docker starts it again."""
        if (one := self.there.get(key)) and one.running:
            self.there[key] = replace(one, restarts=one.restarts + 1)

    def end(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.docker._call(f"end {one.name} of {one.release}", changes=True)
            if one.id in self.there:
                self.there[one.id] = replace(self.there[one.id], ending=True)
                lasting = self.docker.kernel.delay(0.05, GRACE[one.name])
                self.docker.kernel.after(lasting, lambda key=one.id: self._ended(key))  # type: ignore[misc]

    def kill(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.docker._call(f"kill {one.name} of {one.release}", changes=True)
            self._ended(one.id)

    def _ended(self, key: str) -> None:
        if (one := self.there.get(key)) and one.ending:
            self.there[key] = replace(one, running=False, gone=True)

    def forget(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.docker._call(f"forget {one.name} of {one.release}", changes=True)
            self.there.pop(one.id, None)

    def logs(self, instance: Instance, lines: int) -> str:
        self.docker._call(f"logs of {instance.name}")
        return "hello\n"

    def power_cut(self) -> None:
        self.there = {key: replace(one, running=False, gone=True) for key, one in self.there.items()}

    def power_on(self) -> None:
        """Docker starts what was not told to end."""
        for one in list(self.there.values()):
            if not one.ending:
                self._runs(replace(one, restarts=0))
