"""A coroutine in a worker of Ansible is told that the run has to end, and may take its time for that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import awaiting
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.client import started

ME = (os.getpid(), started(os.getpid()))


async def settles() -> str:
    """Work that takes a moment to come to an end when it is cancelled."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
        return "settled"
    return "ended"


def test_the_answer_is_that_of_the_coroutine() -> None:
    async def answer() -> int:
        return 7

    assert awaiting.wait_for(answer(), ME) == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_it_settle_and_a_second_one_changes_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)

    async def told_twice() -> str:
        loop = asyncio.get_running_loop()
        for after in (0.02, 0.04):
            loop.call_later(after, os.kill, os.getpid(), number)
        return await settles()

    told: list[bool] = []
    assert awaiting.wait_for(told_twice(), ME, lambda: told.append(True)) == "settled"
    assert told == [True]
    assert signal.getsignal(number) == before


def test_it_settles_when_ansible_playbook_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaiting, "LOOK", 0.02)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as main:
        since = started(main.pid)

        async def watched() -> str:
            asyncio.get_running_loop().call_later(0.05, main.kill)
            asyncio.get_running_loop().call_later(0.1, main.wait)
            return await settles()

        assert awaiting.wait_for(watched(), (main.pid, since)) == "settled"
