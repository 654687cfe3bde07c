# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Runs a coroutine in one of Ansible's workers, which is told when the operator interrupts the run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.client import alive

Answer = TypeVar("Answer")
# Seconds between two looks whether ansible-playbook lives.
LOOK = 0.5


def wait_for(
    work: Coroutine[Any, Any, Answer], main: tuple[int, str], interrupted: Callable[[], None] = lambda: None
) -> Answer:
    """The result of the coroutine, which is cancelled once when it has to end, and may take its time for that.

    `interrupted` is called then.

    Ansible sends its workers SIGINT or SIGTERM when it gets one, and ends; a SIGKILL it cannot pass on, so its process
    (`main`: id and start) is looked at.
    """
    return asyncio.run(_watched(work, main, interrupted))


async def _watched(work: Coroutine[Any, Any, Answer], main: tuple[int, str], interrupted: Callable[[], None]) -> Answer:
    task = asyncio.ensure_future(work)
    told = False

    def end() -> None:
        nonlocal told
        if not told:
            told = True
            task.cancel()
            interrupted()

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, end)
    watch = asyncio.ensure_future(_until_gone(main))
    watch.add_done_callback(lambda done: None if done.cancelled() else end())
    try:
        return await task
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _until_gone(main: tuple[int, str]) -> None:
    while alive(*main):  # noqa: ASYNC110 - nothing tells when a process that is not our child ends
        await asyncio.sleep(LOOK)
