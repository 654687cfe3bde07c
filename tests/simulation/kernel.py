"""Virtual time, and the one place where it is decided what happens next.

Everything that goes on in a simulated world is an entry of one queue. Host code is synchronous, so each of its
processes is a greenlet that hands over at every effect and every sleep; between two of them nothing else happens. The
order comes from delays that a seeded generator draws, so the same scenario is always the same story.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet


class Killed(BaseException):
    """The process was killed here; nothing that it still tries happens."""


class Alarm:
    """Something that will happen, unless it is cancelled."""

    __slots__ = ("cancelled", "do")

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Kernel:
    """Virtual time in seconds from 0. `calm` makes every delay its shortest, for stories that are easier to read."""

    def __init__(self, seed: int, calm: bool = False) -> None:
        self.random = random.Random(seed)  # noqa: S311 - it shall be the same each time
        self.calm = calm
        self.now = 0.0
        self.steps = 0
        self.current: Process | None = None
        self._queue: list[tuple[float, int, Alarm]] = []
        self._number = 0
        self._hub = getcurrent()

    def after(self, seconds: float, do: Callable[[], None]) -> Alarm:
        """Let something happen in `seconds`."""
        self._number += 1
        alarm = Alarm(do)
        heapq.heappush(self._queue, (self.now + seconds, self._number, alarm))
        return alarm

    def delay(self, low: float, high: float) -> float:
        """How long something takes this time, in seconds."""
        return low if self.calm else low + (high - low) * self.random.random()

    def step(self) -> bool:
        """Let the next thing happen; tells whether there was one."""
        while self._queue:
            when, _, alarm = heapq.heappop(self._queue)
            if alarm.cancelled:
                continue
            self.now = when
            self.steps += 1
            alarm.do()
            return True
        return False

    def run(self, until: Callable[[], bool], limit: float) -> bool:
        """Let things happen until `until` holds; tells whether it did so before `limit` (a time)."""
        while not until():
            if not self._queue or self.now >= limit or not self.step():
                return until()
        return True

    def pass_on(self) -> None:
        """From a process to the queue, until it is switched to again."""
        self._hub.switch()


class Process:
    """One process of a host: synchronous code that can be killed wherever it hands over."""

    def __init__(self, kernel: Kernel, name: str, work: Callable[[], Any], ended: Callable[[Process], None]) -> None:
        self.kernel = kernel
        self.name = name
        self.result: Any = None
        self.error: Exception | None = None
        self.killed = False
        self.over = False
        self.owner = ""
        self.host: Any = None
        self.started = kernel.now
        self.arguments: dict[str, Any] = {}
        self._blocked = False
        self._active = False
        self._work = work
        self._ended = ended
        self._greenlet = greenlet(self._main)
        self._alarm = kernel.after(kernel.delay(0.001, 0.02), self._resume)

    def sleep(self, seconds: float) -> None:
        """Called inside the process: others go on for `seconds`."""
        if self.killed:
            raise Killed
        self._alarm = self.kernel.after(seconds, self._resume)
        self.kernel.pass_on()
        if self.killed:
            raise Killed

    def wait(self, until: Callable[[], bool]) -> None:
        """Called inside the process: others go on until somebody calls `wake` and `until` holds."""
        while not until():
            self._blocked = True
            self.kernel.pass_on()
            if self.killed:
                raise Killed

    def wake(self) -> None:
        """Let it look again whether what it waits for has come."""
        if self._blocked and not self.over and not self.killed:
            self._blocked = False
            self._alarm = self.kernel.after(0.0, self._resume)

    def kill(self) -> None:
        """End it where it is; the one that runs now ends with its next step. `ended` frees what it holds."""
        if self.over or self.killed:
            return
        self.killed = True
        if self._active:  # it is the one that kills, or waits for that one
            return
        self._alarm.cancel()
        self._resume()

    def _resume(self) -> None:
        before, self.kernel.current = self.kernel.current, self
        self._greenlet.parent = here = getcurrent()
        hub, self.kernel._hub = self.kernel._hub, here
        self._active = True
        try:
            self._greenlet.switch()
        finally:
            self._active = False
            self.kernel.current = before
            self.kernel._hub = hub

    def _main(self) -> None:
        try:
            if not self.killed:
                self.result = self._work()
        except Killed:
            pass
        except Exception as error:  # noqa: BLE001 - whoever waits for the process judges what ended it
            self.error = error
        finally:
            self.over = True
            self._ended(self)
