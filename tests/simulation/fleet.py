"""The real coordinator, taking the fleet of a story to a release."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import coordinator
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    FleetReport,
    Host,
    Identity,
    Policy,
    Result,
    Target,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.target import CONTENT, RELEASE

from tests.simulation.shims import EPOCH
from tests.simulation.story import ALONE, Ended, Run, Said, path_of
from tests.simulation.world import PLACE, ROOT, Controller

if TYPE_CHECKING:
    from tests.simulation.play import Play

KEEP = 3
NOT_SERVING = ("refused", "planned")


class ControllerClock:
    """The clock of a controller."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SimContent:
    """An image with the release's name."""

    def __init__(self, release: str) -> None:
        self.identity = Identity(f"app:{release}", release, ("amd64",))

    async def identify(self) -> Identity:
        return self.identity

    async def look(self, host: Host) -> Result:
        return {}

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        await asyncio.sleep(0.5)
        return True

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        answer = await host.call("image", {"place": PLACE, "image": self.identity.reference})
        return self.identity, bool(answer["changed"])

    async def bill(self) -> Path | None:
        return None


def target(host: str, run: Run, moving: bool, alone: bool = False) -> Target:
    """What one host is to serve, as inventory and templates would say."""
    texts = {"gate.json": "", **({"keeps.json": ALONE} if alone else {}), "compose.yaml": f"image: app:{CONTENT}\n"}
    gate = {**PLACE["gate"], "path": path_of(run.release, moving)}
    texts["gate.json"] = json.dumps({"path": gate["path"]})
    return Target(
        host=host,
        place={**PLACE, "gate": gate},
        look={"runtime": "compose", "image": ""},
        activate={"drain": 10.0, "drain_websockets": 20.0, "soak": run.soak, "canary": {"judged": False},
                  "stop_grace": 10.0, "keep": KEEP, "log_lines": 20, "about": {}},
        files=[{"dest": f"{ROOT}/releases/{RELEASE}/{name}", "mode": "0644"} for name in texts],
        contents={str(number): text for number, text in enumerate(texts.values())},
        config="",
        release=run.release if run.operation == "rollback" else "",
        migrate=["migrate"] if run.migrates else [],
        migrate_timeout=200.0,
    )  # fmt: skip


async def fleet(play: Play, controller: Controller, run: Run, name: str) -> Ended:
    """One run of the coordinator; how it ended."""
    identity = {"id": name, "who": "ann", "from": "desk", "what": run.operation}
    hosts: dict[str, Host] = dict(controller.hosts)
    content = SimContent(run.release)
    report = await coordinator.run(
        Policy(run.operation, identity, list(run.batches), run.on_failure),
        [target(host, run, play.scenario.moving, play.scenario.alone) for host in hosts],
        hosts,
        dict.fromkeys(hosts, content) if run.operation == "deploy" else {},
        lambda content, config: content,
        lambda event: play.world.tell(controller.name, f"{event.kind} {event.host} {told(event.about)}"),
        ControllerClock(),
    )
    for host in hosts.values():
        await host.close()
    return ended(play, report, name)


def told(about: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in about.items() if value not in (None, "", []))[:300]


def ended(play: Play, report: FleetReport, name: str) -> Ended:
    """What the report says of each host."""
    found = Ended(name, report.word, report.release, report.message, changed=report.changed)
    for row in report.rows:
        looked = play.looked.get((name, row["host"]))
        known = looked is not None and report.word not in NOT_SERVING and row["outcome"] != "unreachable"
        # A row without a release is of a host that serves nothing, where it says so, else of one that is not known.
        now = row["now"] or ("" if "serves nothing" in row["cause"] else None) if known else None
        found.says[row["host"]] = Said(row["was"], now, looked or 0.0, row["outcome"], row["tried"])
    return found
