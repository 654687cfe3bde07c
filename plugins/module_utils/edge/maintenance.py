"""The maintenance page of an app at one edge: on or off at once, and after a reload or a reboot of the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from ..host import removed
from ..host.durable import write_durably
from ..host.ledger import APPS, DONE
from .haproxy import Edge, EdgeError
from .maps import parse_shown, read, render

ON, OFF = "on", "off"
# Where the role haproxy has the map of the variables, and the one of operators.
DECLARED, SWITCHED = Path("/etc/haproxy/maintenance.map"), Path("/var/lib/haproxy/maintenance.map")
HEADER = "# Apps and whether an operator shows their maintenance page; written by the maintenance playbook.\n"


class Page:
    """The page of one app. `declared` is the map of the variables, `switched` the one of operators."""

    def __init__(self, edge: Edge, app: str, declared: Path, switched: Path, apps: Path = APPS) -> None:
        self.edge = edge
        self.app = app
        self.declared = declared
        self.switched = switched
        self.apps = apps

    def problem(self, wanted: str) -> str:
        """Why the page cannot be as wanted; empty where it can."""
        declared = read(self.declared)
        if self.app not in declared:
            since = removed.told(self.apps / self.app)
            return (
                f"the edge of this host knows no app {self.app}{f': {since}' if since else ''} (it has "
                f"{', '.join(sorted(declared)) or 'none'}); run slipway.fleet.provision with its inventory"
            )
        if wanted == OFF and declared[self.app] == ON:
            return (
                f"haproxy_maintenance names {self.app}, so the page of this host stays; take it out there and run "
                "slipway.fleet.provision"
            )
        return ""

    def differs(self, wanted: str) -> bool:
        """Whether the running HAProxy or the file for the next one says something else. Raises EdgeError."""
        return self._running().get(self.app, OFF) != wanted or read(self.switched).get(self.app, OFF) != wanted

    def switch(self, wanted: str) -> None:
        """Have the page as wanted, now and after a reload. Raises EdgeError."""
        command = "set" if self.app in self._running() else "add"
        said = self.edge.ask(f"{command} map {self.switched} {self.app} {wanted}").strip()
        if said:
            raise EdgeError(f"HAProxy refused to switch the page: {said}")
        write_durably(self.switched, render({**read(self.switched), self.app: wanted}, HEADER), mode=0o644)

    def _running(self) -> dict[str, str]:
        answer = self.edge.ask(f"show map {self.switched}")
        if "unknown map" in answer.lower():
            raise EdgeError(f"HAProxy does not read {self.switched} yet; run slipway.fleet.provision")
        return parse_shown(answer)


def outcome(page: Page, wanted: str, check_mode: bool) -> dict[str, Any]:
    """The result for the module. Raises EdgeError."""
    problem: Optional[str] = page.problem(wanted)
    if problem:
        raise EdgeError(f"the page was not switched; {problem}")
    differs = page.differs(wanted)
    if differs and not check_mode:
        page.switch(wanted)
    return {"changed": differs, "shown": wanted == ON}


def shown(app: str, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The page that this host's edge shows of an app: since when and by whom, as far as records tell; empty for none.

    `declared` where the variables say so, and an operator cannot take it away.
    """
    declared = switched = OFF
    with suppress(OSError):
        declared, switched = read(DECLARED).get(app, OFF), read(SWITCHED).get(app, OFF)
    if ON not in (declared, switched):
        return {}
    done = [one for one in records if (one.get("operation"), one.get("result")) == ("maintenance", DONE)]
    by = done[-1] if done else {}
    known = by if switched == ON and by.get("what") == ON else {}
    return {"declared": declared == ON, "since": known.get("start") or "", "who": known.get("who") or ""}
