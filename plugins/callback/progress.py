# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Shows how a roll goes: a live line on a terminal, and a line for each host that has ended its part."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: notification
short_description: Show how a roll over the fleet goes
description:
  - While hosts are taken to a release, one line on the terminal names them with the seconds gone and the batch. When a
    host is done, a plain line tells from which release to which it went and how long each phase took.
  - Where the output is no terminal there are only the plain lines. It shows nothing else, beside the usual output.
  - It also notes when each play began, which the report of a run tells, and loads what many tasks use, once for all.
requirements:
  - Enable it with C(callbacks_enabled = slipway.fleet.progress) in the section C(defaults) of C(ansible.cfg).
author: [Slipway contributors]
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Optional

from ansible.plugins.callback import CallbackBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import plays
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.preload import preload
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.batches import batch_of

ACTION = "slipway.fleet.release"
SHOWN = ("activate", "settle")  # operations that take time; the others only tell
COLORS = {"good": "green", "reverted": "yellow", "held": "yellow", "failed": "red", "unreachable": "red"}
TICK = 1.0  # seconds
CLEAR = "\r\x1b[2K"


def short(release: Any) -> str:
    """As much of an id as people read."""
    return str(release)[:8] if release else "none"


def seconds(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else "?"


def finished(host: str, result: dict[str, Any]) -> str:
    """The line for a host that has ended its part; empty where there is nothing to say."""
    outcome = str(result.get("outcome") or "")
    if not outcome:
        return ""
    was, release = result.get("was"), result.get("release") or result.get("was")
    change = short(was) if was == release else f"{short(was)} -> {short(release)}"
    known = change if release else ""
    phases = [phase for phase in result.get("phases") or () if isinstance(phase, dict)]
    told = " ".join(f"{phase.get('phase')} {seconds(phase.get('seconds'))}" for phase in phases)
    cause = " ".join(str(result.get("cause") or "").split())
    return "  ".join(part for part in (host, known, outcome, f"{told} s" if told else "", cause) if part)


def live(hosts: Sequence[str], elapsed: float, batch: str, width: int) -> str:
    """The line for hosts that are under way, short enough not to wrap."""
    rest = f"  {elapsed:.0f} s{f'  {batch}' if batch else ''}"
    room = max(width - len(rest) - 3, 8)
    names = ", ".join(hosts)
    if len(names) > room:
        more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
        names = hosts[0][: max(room - len(more), 4)] + more
    return f"  {names}{rest}"[: max(width - 1, 0)]


class Line:
    """One line at the bottom of a terminal that any other output first takes away.

    It writes under Display's own lock, which Ansible holds while it forks, so that no worker inherits it taken.
    """

    def __init__(self, display: Any, text: Callable[[], str]) -> None:
        self._display = display
        self._text = text
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
    """Reads what the roll's own task reports; whatever goes wrong in here must not disturb the roll."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "slipway.fleet.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._shown = Display()
        self._running: dict[str, float] = {}
        self._batch = ""
        self._line = Line(self._shown, self._text)
        self._live = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._quietly(preload)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._quietly(lambda: self._new_play(play))

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._quietly(lambda: self._begin(host.get_name(), task))

    def v2_runner_on_ok(self, result: Any) -> None:
        self._quietly(lambda: self._done(result))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._quietly(lambda: self._done(result, "failed"))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._quietly(lambda: self._done(result, "unreachable"))

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._quietly(lambda: self._forget(result.host.get_name()))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        self._quietly(self._end_line)

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a roll goes on whatever is wrong with its display
            self._shown.vvv(f"slipway.fleet.progress: {error!r}")

    def _text(self) -> str:
        try:
            width = os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except (OSError, ValueError):
            width = 80
        running = dict(self._running)
        elapsed = time.monotonic() - min(running.values(), default=time.monotonic())
        return live(sorted(running), elapsed, self._batch, width)

    def _new_play(self, play: Any) -> None:
        """Which of how many batches this is: Ansible starts the play anew for each."""
        plays.begun.append((play.get_name(), time.time()))
        self._end_line()
        self._batch = ""
        batches = play.serial
        if batches:
            inventory = play.get_variable_manager()._inventory
            everybody = [host.name for host in inventory.get_hosts(play.hosts, ignore_restrictions=True)]
            now = [host.name for host in inventory.get_hosts(play.hosts)]
            if now:
                last = batch_of(everybody[-1], everybody, batches)
                self._batch = f"batch {batch_of(now[0], everybody, batches)} of {last}"

    def _begin(self, host: str, task: Any) -> None:
        if not is_roll(task):
            return
        self._running[host] = time.monotonic()
        if not self._live and sys.stdout.isatty():
            self._line.start()
            self._live = True
        elif self._live:
            self._line.redraw()

    def _done(self, result: Any, outcome: str = "") -> None:
        if not is_roll(result.task):
            return
        host = result.host.get_name()
        self._forget(host)
        found = dict(result.result)
        if outcome and not found.get("outcome"):
            found |= {"outcome": outcome, "cause": found.get("cause") or str(found.get("msg") or "").partition("\n")[0]}
        if operation(result.task) == "settle":
            if not found.get("changed") and found.get("outcome") not in {"failed", "unreachable"}:
                return  # nothing was taken back
            found["outcome"] = "reverted" if found.get("outcome") == "good" else found.get("outcome")
        if line := finished(host, found):
            self._shown.display(line, color=COLORS.get(str(found["outcome"])))
        if self._live:
            self._line.redraw()

    def _forget(self, host: str) -> None:
        self._running.pop(host, None)
        if not self._running:
            self._end_line()

    def _end_line(self) -> None:
        self._running.clear()
        if self._live:
            self._line.stop()
            self._live = False


def operation(task: Any) -> str:
    return str((task.args or {}).get("operation") or SHOWN[0])


def is_roll(task: Any) -> bool:
    """Whether this task takes hosts to a release, however its action is spelled."""
    action = getattr(task, "_resolved_action", None) or task.action
    return action in {ACTION, "release"} and operation(task) in SHOWN
