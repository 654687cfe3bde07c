"""A thread beside the coordinator's loop asks a host."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import link as link_module
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


def test_a_thread_whose_work_was_not_begun_when_the_run_ended_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, said = asyncio.new_event_loop(), queue.Queue[str]()
    usual = loop.call_soon_threadsafe

    def last(*work: Any) -> None:
        usual(*work)
        loop.close()

    def ask() -> None:
        try:
            FleetLink(Answering(), "image", False, loop).call("look")  # type: ignore[arg-type]
        except Unreachable as error:
            said.put(str(error))

    monkeypatch.setattr(loop, "call_soon_threadsafe", last)
    monkeypatch.setattr(link_module, "LOOK", 0.01)
    threading.Thread(target=ask, daemon=True).start()
    assert said.get(timeout=60) == "the run is over"
