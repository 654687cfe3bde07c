# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Shows how a roll goes: a live line on a terminal, and a line for each host that has ended its part."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
short_description: Show how a roll over the fleet goes
description:
  - While M(slipway.fleet.rollout) takes hosts to a release, one line on the terminal names them with the seconds gone
    and the batch. Where the output is no terminal there is none.
  - Where the run is interrupted meanwhile, it says so, and goes on to show how the hosts are settled.
  - At the end of any run it names the hosts that could not be reached, and what to do about them.
  - It also loads what many tasks use, once for all of them.
requirements:
  - Enable it with C(callbacks_enabled = slipway.fleet.progress) in the section C(defaults) of C(ansible.cfg).
author: [Slipway contributors]
"""

import atexit
import multiprocessing
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Optional

from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import live
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.preload import preload
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import mend
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.events import Progress

ACTION = "slipway.fleet.rollout"
TICK = 1.0  # seconds
CLEAR = "\r\x1b[2K"
LOOK = 0.2  # seconds between two looks whether the workers of an interrupted run have ended
INTERRUPTED = (
    "The run is interrupted. No further host is begun, and those that were are settled before it ends, which is told "
    "here. Another Ctrl-C gives the terminal back at once; the hosts are settled all the same."
)
UNHEARD = "The roll ended without saying how; slipway.fleet.status tells what the hosts serve."


class Line:
    """One line at the bottom of a terminal that any other output first takes away.

    `see` is given what is displayed, and tells whether it was for the line alone. It writes under Display's own lock,
    which Ansible holds while it forks, so that no worker inherits it taken.
    """

    def __init__(self, display: Any, text: Callable[[], str], see: Callable[[Any], bool]) -> None:
        self._display = display
        self._text = text
        self._see = see
        self._there = False
        self._pid = os.getpid()
        self._original: Optional[Callable[..., Any]] = None
        self._ended = threading.Event()

    def start(self) -> None:
        self._original = self._display.display
        self._display.display = self._other
        self._ended = threading.Event()
        threading.Thread(target=self._tick, args=(self._ended,), daemon=True, name="slipway-progress").start()

    def stop(self) -> None:
        self._ended.set()
        with self._display._lock:
            self._clear()
            if self._original is not None:
                self._display.__dict__.pop("display", None)
                self._original = None

    def redraw(self) -> None:
        with self._display._lock:
            if not self._ended.is_set():
                self._write(CLEAR + self._text())
                self._there = True

    def _tick(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self.redraw()
            ended.wait(TICK)

    def _other(self, *args: Any, **options: Any) -> Any:
        """Display.display while the line is there. In a worker, which sends its output to the main process, as ever."""
        assert self._original is not None
        if os.getpid() != self._pid:
            return self._original(*args, **options)
        with self._display._lock:
            if args and self._see(args[0]):
                return None
            self._clear()
            return self._original(*args, **options)

    def _clear(self) -> None:
        if self._there:
            self._write(CLEAR)
        self._there = False

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except (OSError, ValueError):  # the terminal is gone
            self._ended.set()


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Reads what the roll tells; whatever goes wrong in here must not disturb it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "slipway.fleet.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shown = Display()
        self._progress = Progress()
        self._line = Line(self._shown, self._text, self._see)
        self._pid = os.getpid()
        # Ansible tells no callback of Ctrl-C. This comes before the exit handler that waits for the workers.
        atexit.register(lambda: self._quietly(self._settle))

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._quietly(preload)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._quietly(lambda: self._begin(task))

    def v2_runner_on_ok(self, result: Any) -> None:
        self._quietly(self._end)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._quietly(self._end)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._quietly(self._end)
        self._quietly(self._close)
        self._quietly(lambda: self._name_unreached(stats))

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a roll goes on whatever is wrong with its display
            self._shown.vvv(f"slipway.fleet.progress: {error!r}")

    def _name_unreached(self, stats: Any) -> None:
        hosts = sorted(set(stats.processed) - {"localhost"})
        if away := [host for host in hosts if stats.summarize(host)["unreachable"]]:
            told = mend(away, len(away) == len(hosts))
            # Not to the output, which a program may read.
            self._shown.display(f"{', '.join(away)} cannot be reached. {told}\n", color="red", stderr=True)

    def _begin(self, task: Any) -> None:
        self._end()
        self._close()
        if is_roll(task):
            live.pipe[:] = os.pipe()
            os.set_blocking(live.pipe[1], False)
        if is_roll(task) and sys.stdout.isatty():
            live.shown.append(True)
            self._progress = Progress()
            self._line.start()

    def _end(self) -> None:
        if live.shown:
            live.shown.clear()
            self._line.stop()

    def _close(self) -> None:
        while live.pipe:
            os.close(live.pipe.pop())

    def _settle(self) -> None:
        """Where the process ends in the middle of a roll: say so, and what the roll has to say until it has ended."""
        if os.getpid() != self._pid or not live.pipe:
            return
        self._end()
        if not multiprocessing.active_children():
            return
        self._shown.display(INTERRUPTED, color="bright purple", stderr=True)
        heard, rest = False, b""
        while True:
            ended = not multiprocessing.active_children()
            if select.select(live.pipe[:1], [], [], 0 if ended else LOOK)[0]:
                whole, _, rest = (rest + os.read(live.pipe[0], 1 << 16)).rpartition(b"\n")
                for text, color in live.said(whole):
                    heard = True
                    self._shown.display(text, color=color)
            elif ended:
                break
        if not heard:
            self._shown.display(UNHEARD, color="red", stderr=True)

    def _see(self, text: Any) -> bool:
        event = live.unpacked(text)
        if event is None:
            return False
        self._progress.lines(event)
        return True

    def _text(self) -> str:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except (OSError, ValueError):
            width = 80
        return self._progress.live(time.time(), width)


def is_roll(task: Any) -> bool:
    """Whether this task takes hosts to a release, however its action is spelled."""
    action = getattr(task, "_resolved_action", None) or task.action
    return action in {ACTION, "rollout"}
