"""A run that is as simple as it can be: host after host, no plan, no way back. It shows what the host side alone holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.simulation.world import PLACE, ROOT, Controller, SimHost

if TYPE_CHECKING:
    from tests.simulation.play import Ended, Play, Run


async def naive(play: Play, controller: Controller, run: Run, name: str) -> Ended:
    """The verbs of a deploy, in their order, on each host."""
    from tests.simulation.play import Ended, Said

    who = {"id": f"{name}-{play.kernel.now:.0f}", "who": "ann", "from": "desk", "what": run.operation}
    ended = Ended(who["id"], "good", run.release)
    keeper = asyncio.ensure_future(keep(play, list(controller.hosts.values()), who["id"]))
    try:
        for host in controller.hosts.values():
            ended.says[host.name] = Said()
            try:
                await one(play, host, run, who, ended)
            except (Refused, Unreachable) as error:
                ended.word, ended.message = "failed", f"{host.name}: {error}"
                break
    finally:
        keeper.cancel()
    return ended


async def keep(play: Play, hosts: list[SimHost], run_id: str) -> None:
    while True:
        await asyncio.sleep(15.0)
        for host in hosts:
            try:
                await host.call("renew", {"place": PLACE, "run_id": run_id})
            except (Refused, Unreachable):
                continue


async def one(play: Play, host: SimHost, run: Run, who: dict[str, Any], ended: Ended) -> None:
    said = ended.says[host.name]
    base = {"place": PLACE, "run_id": who["id"]}
    release = run.release
    seen = await host.call("look", {**base, "purpose": run.operation, "release": release, "host": {}})
    said.was = (seen.get("state") or {}).get("release")
    release = ended.release = seen["release"]
    await host.call("hold", {**base, "run": who})
    if run.operation == "deploy":
        await host.call("image", {**base, "image": f"app:{release}"})
        await host.call("stage", {**base, "release": release, "files": [{"path": f"{ROOT}/releases/{release}/compose.yaml"}],
                                  "contents": {f"{ROOT}/releases/{release}/compose.yaml": f"image: app:{release}\n"}})  # fmt: skip
    await host.call(
        "activate",
        {**base, "release": release, "expects": None, "restart": run.operation == "restart", "drain": 10.0,
         "drain_websockets": 20.0, "soak": run.soak, "stop_grace": 10.0, "keep": 3, "log_lines": 20,
         "about": {"who": "ann", "operation": run.operation, "run": who["id"]}},
        lambda event: None,
    )  # fmt: skip
    now = (await host.call("let_go", base))["now"]
    said.now, said.looked = (now.get("state") or {}).get("release", ""), play.kernel.now
