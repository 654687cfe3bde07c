# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What people see of a run over the fleet while it goes on, through Ansible's own output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import live
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.parts import timed
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import events
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event, FleetReport, Host

# The parts of a run, as they are shown.
PARTS = {
    "look": "Preflight, changes nothing",
    "hold": "Hold the fleet",
    "provide": "Image or package on every host",
    "stage": "The release's files beside what runs, and its own check",
    "migrate": "Migrate, once for all hosts",
    "roll": "Roll, host by host",
    "settle": "Settle the fleet, everywhere or nowhere",
    "end": "Tell",
}


class Telling:
    """Shows what happens as lines, and remembers which part of the run began when.

    `screen` knows the secrets that no line has.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._progress = events.Progress()
        self._began: list[tuple[str, float]] = []

    def __call__(self, event: Event) -> None:
        event = replace(event, about=self._screen.told(event.about))
        if event.kind == "part":
            self._part(PARTS[event.about["name"]], event.at)
        if live.shown:
            Display().display(live.packed(event))
        for text, color in self._progress.lines(event):
            Display().display(text, color=color or None)

    def _part(self, name: str, at: float) -> None:
        self._began.append((name, at))
        Display().display(f"\n{name}", color="bright blue")

    def steps(self, now: float) -> list[dict[str, Any]]:
        """The parts with `start` and `end`, seconds since the epoch."""
        return timed(self._began, now)


def screened(report: FleetReport, screen: Screen) -> FleetReport:
    """The report with its texts as they may be shown."""
    return replace(
        report,
        message=screen.text(report.message),
        rows=screen.told(report.rows),
        wrong={host: screen.text(words) for host, words in report.wrong.items()},
        plan=screen.text(report.plan),
        diff=[
            {name: screen.text(part) if isinstance(part, str) else part for name, part in entry.items()}
            for entry in report.diff
        ],
    )


class Shown:
    """A host whose requests are shown with -vvv, without what is in them."""

    def __init__(self, host: Host) -> None:
        self.name = host.name
        self._host = host
        self.send, self.fetch, self.close = host.send, host.fetch, host.close

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        Display().vvv(f"slipway: {verb}", host=self.name)
        return await self._host.call(verb, arguments, on_event)
