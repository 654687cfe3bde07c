# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""One host as images and packages see it, whose code waits for programs and files and knows no coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Host, Result, Unreachable

T = TypeVar("T")
# What an operation of a host is called, and its options.
Question = tuple[str, dict[str, Any]]
# Seconds between two looks whether the coordinator is there.
LOOK = 1.0
# Threads wait for hosts, of which a batch may have many; asyncio's own are as many as there are processors, and four.
_THREADS = ThreadPoolExecutor(max_workers=64, thread_name_prefix="slipway-link")


async def in_thread(work: Callable[[], T]) -> T:
    """What work returns that waits for hosts, programs and files."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


class Once:
    """Work that is done in a thread once for all that ask for its result, a refusal too."""

    def __init__(self, work: Callable[[], Question]) -> None:
        self._work = work
        self._task: asyncio.Task[Question] | None = None

    async def result(self) -> Question:
        self._task = self._task or asyncio.ensure_future(in_thread(self._work))
        return await asyncio.shield(self._task)


class Link(Protocol):
    """A host that does one verb's operations. Everything raises Unreachable, and Refused where it did not do it."""

    name: str

    def call(self, operation: str, **options: Any) -> Result:
        """The result of an operation."""
        ...

    def call_with(self, archive: Path, operation: str, **options: Any) -> Result:
        """Send a file and have the operation done with it as its `archive`; nothing of it is left there."""
        ...

    def put(self, file: Path, remote: str) -> None:
        """Send a file to a place that an earlier operation named."""
        ...

    def fetch(self, remote: str, local: Path) -> None:
        """Get a file."""
        ...


class FleetLink:
    """A host of the coordinator, from a thread beside its loop.

    Args:
        host: the host
        verb: image or package
        check_mode: operations change nothing and tell whether they would
        loop: the coordinator's
    """

    def __init__(self, host: Host, verb: str, check_mode: bool, loop: asyncio.AbstractEventLoop) -> None:
        self.name = host.name
        self._host = host
        self._verb = verb
        self._always = {"check_mode": True} if check_mode else {}
        self._loop = loop

    def call(self, operation: str, **options: Any) -> Result:
        return self._wait(self._host.call(self._verb, {"operation": operation, **self._always, **options}))

    def call_with(self, archive: Path, operation: str, **options: Any) -> Result:
        return self.call(operation, archive=self._wait(self._host.send(archive)), **options)

    def put(self, file: Path, remote: str) -> None:
        self.call_with(file, "keep", target=remote)

    def fetch(self, remote: str, local: Path) -> None:
        self._wait(self._host.fetch(remote, local))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises Unreachable, too, for a thread that outlived the run: another host's trouble ended it."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            raise Unreachable("the run is over") from None
        while not wait([future], LOOK).done:
            if self._loop.is_closed():  # before it began with the work, and nobody will
                work.close()
                raise Unreachable("the run is over")
        return future.result()
