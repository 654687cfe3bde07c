"""asyncio on virtual time: the controller's program runs as it is, and can be paused and killed at any await."""

from __future__ import annotations

import asyncio
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from tests.simulation.kernel import Alarm, Kernel


class Timer(asyncio.TimerHandle):
    """A timer of a loop, with its entry in the kernel's queue."""

    alarm: Alarm

    def cancel(self) -> None:
        super().cancel()
        self.alarm.cancel()


class Loop(asyncio.BaseEventLoop):
    """The event loop of one controller. `turn` is called before each callback and may kill or pause the loop."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.dead = True
        self._runs = False
        super().__init__()
        self._runs = True
        self.kernel = kernel
        self.name = name
        self.turn: Callable[[], None] = lambda: None
        self.turns = 0
        self.dead = False
        self.paused_until = 0.0
        self.problems: list[dict[str, Any]] = []
        self._soon: deque[asyncio.Handle] = deque()
        self._waiting = False
        self._tasks: list[asyncio.Task[Any]] = []

    # What is used of a loop.
    def time(self) -> float:
        return self.kernel.now

    def call_soon(  # type: ignore[override]
        self, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, arguments, self, context)
        self._soon.append(handle)
        self._wake(0.0)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *arguments, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *arguments: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        timer = Timer(when, callback, arguments, self, context)

        def due() -> None:
            self._soon.append(timer)
            self._wake(0.0)

        timer.alarm = self.kernel.after(max(when - self.kernel.now, 0.0), due)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: Any = None
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """What would run in a thread runs at once: threads of a controller share nothing that they change."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits the future
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._runs

    def is_closed(self) -> bool:
        return self.dead

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.problems.append(context)

    # How it is driven.
    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.create_task(coroutine)

    def _wake(self, seconds: float) -> None:
        if not self._waiting and not self.dead:
            self._waiting = True
            self.kernel.after(seconds, self._run)

    def _run(self) -> None:
        self._waiting = False
        if self.dead:
            return
        if self.kernel.now < self.paused_until:
            self._wake(self.paused_until - self.kernel.now)
            return
        events._set_running_loop(self)
        try:
            while self._soon and not self._stops():
                handle = self._soon.popleft()
                if not handle.cancelled():
                    self.turns += 1
                    self.turn()
                    if self._stops():
                        self._soon.appendleft(handle)
                        break
                    handle._run()
        finally:
            events._set_running_loop(None)
        if self._soon:
            self._wake(max(self.paused_until - self.kernel.now, 0.0))

    def _stops(self) -> bool:
        """Whether a fault has just ended or paused it."""
        return self.dead or self.kernel.now < self.paused_until

    def kill(self) -> None:
        """The controller's process is gone; none of its code runs any more."""
        self.dead = True
        self._soon.clear()

    def tear_down(self) -> None:
        """Close what a killed controller left, so that Python does not complain of it."""
        self.kill()
        for task in self._tasks:
            if task.done():
                if not task.cancelled():
                    task.exception()
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # what it would have awaited next is not
                for _ in range(20):
                    with suppress(RuntimeError, Exception):
                        coroutine.close()
                        break
        self._tasks.clear()
