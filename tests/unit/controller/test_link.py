"""A thread beside the coordinator's loop asks a host."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import FleetLink
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable


class Answering:
    """A host that repeats what it was asked."""

    name = "web1"

    async def call(self, verb: str, arguments: dict[str, Any], on_event: Any = None) -> dict[str, Any]:
        return {"verb": verb, **arguments}


async def test_a_thread_gets_the_answer() -> None:
    link = FleetLink(Answering(), "image", True, asyncio.get_running_loop())  # type: ignore[arg-type]
    answer = await asyncio.to_thread(link.call, "look", name="app")
    assert answer == {"verb": "image", "operation": "look", "check_mode": True, "name": "app"}


def test_a_thread_that_outlived_the_run_is_told_so() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    link = FleetLink(Answering(), "image", False, loop)  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="the run is over"):
        link.call("look")
