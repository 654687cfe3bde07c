# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""From the events of a run to what a terminal shows: a line for each host that is done, and one that lives. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import WORSE
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.rehearsing import sentences
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.squawk import sentences as linted
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import (
    FAILED,
    GOOD,
    HELD,
    REVERTED,
    UNREACHABLE,
    breaks_of,
)

COLORS = {GOOD: "green", REVERTED: "yellow", HELD: "yellow", FAILED: "red", UNREACHABLE: "red"}

# Breaks of the API that are shown one by one.
BREAKS = 10

# A line and its color in Ansible's words; empty for none.
Line = tuple[str, str]


def short(release: Any) -> str:
    """As much of an id as people read."""
    return str(release)[:8] if release else "none"


def seconds(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else "?"


def finished(host: str, result: Mapping[str, Any]) -> str:
    """The line for a host that has ended its part; empty where there is nothing to say."""
    outcome = str(result.get("outcome") or "")
    if not outcome:
        return ""
    was, release = result.get("was"), result.get("release") or result.get("was")
    change = short(was) if was == release else f"{short(was)} -> {short(release)}"
    known = change if release else ""
    phases = [phase for phase in result.get("phases") or () if isinstance(phase, Mapping)]
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


class Progress:
    """What is to be shown, told event by event."""

    def __init__(self) -> None:
        self._running: dict[str, float] = {}
        self._phase: dict[str, str] = {}
        self._batch = ""
        self._broken: set[tuple[str, ...]] = set()

    def lines(self, event: Event) -> list[Line]:
        """The plain lines that an event is worth; most are worth none."""
        about = event.about
        if event.kind == "batch":
            self._batch = f"batch {about['number']} of {about['of']}"
        elif event.kind == "settling":
            self._batch = "taking back" if about["hosts"] else ""
            self._running = dict.fromkeys(about["hosts"], event.at)
            self._phase.clear()
        elif event.kind == "started":
            self._running[event.host] = event.at
        elif event.kind == "phase":
            self._phase[event.host] = str(about.get("phase") or "")
        elif event.kind in ("ended", "settled"):
            self._running.pop(event.host, None)
            line = finished(event.host, about)
            told = [(line, COLORS.get(str(about.get("outcome")), "")), *notes(event)] if line else []
            return told + self._breaks(event)
        elif event.kind == "verdict":
            self._running.clear()
        return notes(event)

    def _breaks(self, event: Event) -> list[Line]:
        """What a host's release breaks of the API, once for all hosts on which it breaks the same."""
        found = event.about.get("api") or {}
        breaks = tuple(breaks_of(event.about))
        if not breaks or breaks in self._broken:
            return []
        self._broken.add(breaks)
        count = len(breaks) + int(found.get("more") or 0)
        lines = [f"{event.host}: the new release breaks the API in {count} {'place' if count == 1 else 'places'}:"]
        lines += [f"  {sentence}" for sentence in breaks[:BREAKS]]
        lines += [f"  and {count - BREAKS} more, which the report names"] if count > BREAKS else []
        return [(line, "bright purple") for line in lines]

    def live(self, now: float, width: int) -> str:
        """The line for the hosts that are under way, `now` in seconds since the epoch; empty where none is.

        One host alone is shown with its phase.
        """
        hosts = sorted(self._running)
        if not hosts:
            return ""
        phase = self._phase.get(hosts[0], "") if len(hosts) == 1 else ""
        batch = "  ".join(part for part in (self._batch, phase) if part)
        return live(hosts, max(now - min(self._running.values()), 0.0), batch, width)


def notes(event: Event) -> list[Line]:
    """What people must see that is no result of a host."""
    where = f"{event.host}: " if event.host else ""
    if event.kind == "warning":
        return [(f"{where}{event.about.get('message') or ''}", "bright purple")]
    if event.kind == "lost":
        return [(f"{where}{event.about.get('cause') or ''}", "yellow")]
    if event.kind == "held" and (dead := event.about.get("taken_over")):
        return [
            (f"{where}the lock of {dead.get('what') or 'a run'} by {dead.get('who')} that is gone was taken over", "")
        ]
    if event.kind in ("exposed", "saved", "rehearsed", "linted", "pending", "migrated"):
        return [(f"{where}{words}", "") for words in done_before(event)]
    if event.kind in ("ended", "settled"):
        judged = event.about.get("canary") or {}
        # One that is worse is the cause, which is told already.
        canary = "" if judged.get("word") in (None, WORSE) else f"canary {judged['word']}: {judged.get('sentence')}"
        unsaid = [(event.about.get(name) or {}).get("note") for name in ("api", "replay")]
        told = (gap_of(event.about), event.about.get("recovered"), *unsaid, canary)
        return [(f"{where}{words}", "") for words in told if words]
    return []


def done_before(event: Event) -> list[str]:
    """What was found, or done for the database or to it, before anything is switched, a line each."""
    about = event.about
    if event.kind == "exposed":
        return [f"the app listens on port {about['port']}, by EXPOSE of its image"]
    if event.kind == "rehearsed":
        return sentences(about)
    if event.kind == "linted":
        return linted(about)
    if event.kind == "pending":
        return [f"the database gets {', '.join(about['revisions'])}"]
    if event.kind == "saved":
        return [f"set {about['set']} was made before the migrations, in {seconds(about.get('seconds'))} s"]
    return [f"the database is at revision {about['migration']}"] if about.get("migration") else []


def gap_of(about: Mapping[str, Any]) -> str:
    """For how long nobody answered, where that was so."""
    return (
        f"nobody answered for {seconds(about['gap'])} s, as fastapi_app_slots_overlap says" if about.get("gap") else ""
    )
