#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Take a host out of a load balancer, or put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: balancer
short_description: Take a host out of a load balancer without cutting a request, or put it back
description:
  - Runs on the load balancer. A host that is drained gets nothing new; the module waits until its requests have ended.
    Where clients come back to a host by a cookie, they are sent to another one; a host that is put back gets requests
    once a check of it has passed, for which the module waits, five seconds at most.
  - The state is written down, so a reload or a reboot of the load balancer keeps it.
options:
  server: {description: Name of the host in the backend., type: str, required: true}
  state: {description: Whether the host gets requests., type: str, choices: [ready, drain], required: true}
  wait:
    description: Seconds that requests in flight may take to end, or the first check of a host that is put back.
    type: float
    default: 30.0
  balancer: {description: "Name of this load balancer in the inventory, for what is told.", type: str, default: ""}
  usual_app:
    description: Name of the app that is meant where nobody says which; a command that is told names any other.
    type: str
    default: ""
extends_documentation_fragment: [slipway.fleet.edge, slipway.fleet.record]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether the state would change., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Send nothing new to web2
  slipway.fleet.balancer:
    server: web2
    state: drain
    edge:
      socket: /run/haproxy/admin.sock
      backend: app_shortlinks
      state_file: /var/lib/haproxy/server-state
"""

RETURN = r"""
told: {description: "Which host gets what from now on, and the command that undoes it.", returned: success, type: str}
in_flight: {description: Requests that had not ended when the wait was over., returned: always, type: int}
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.behind import away, back
from ..module_utils.edge.haproxy import EDGE_ARGUMENT, Edge, EdgeError, Server
from ..module_utils.host.answer import answer
from ..module_utils.host.ledger import APPS, RECORD_ARGUMENT, Ledger, recorded
from ..module_utils.host.removed import told as removed_told

POLL = 0.25
# Seconds for the first check of a host that is put back: one a second, each of which may take three.
CHECKED = 5.0
ARGUMENTS: dict[str, Any] = {
    "edge": EDGE_ARGUMENT,
    "server": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["ready", "drain"], "required": True},
    "wait": {"type": "float", "default": 30.0},
    "balancer": {"type": "str", "default": ""},
    "usual_app": {"type": "str", "default": ""},
    "record": RECORD_ARGUMENT,
}
# What it is called in the ledger.
OPERATIONS = {"drain": "drain", "ready": "undrain"}


Records = Sequence[Mapping[str, Any]]


def app_of(backend: str) -> str:
    """The app whose servers a backend has."""
    return backend.removeprefix("app_")


def require_known(servers: Mapping[str, Server], server: str, backend: str, where: str) -> None:
    """Raise EdgeError where others are behind the balancer, and this one is not."""
    if servers and server not in servers:
        raise EdgeError(
            f"{server} is no server of {app_of(backend)}{where}; there are {', '.join(sorted(servers))}. Nothing was "
            "done there."
        )


def left_in(servers: Mapping[str, Server], server: str, app: str, records: Records = (), more: str = "") -> str:
    """Why draining this one would be an outage: no other host would get requests. Empty where one would."""
    others = {name: found for name, found in servers.items() if name != server}
    if any(found.enabled and found.answers for found in others.values()):
        return ""
    if not others:
        return f"{server} is the only host of {app}, so it was left in"
    gone = away(others, records, more)
    why = [
        f"{name} is {gone[name].why}"
        if name in gone
        else f"{name} does not pass its check ({found.check or 'none yet'})"
        for name, found in sorted(others.items())
    ]
    return f"{server} is the last host of {app} that gets requests, so it was left in. {'. '.join(why)}"


def told(options: Mapping[str, Any], now: Server, in_flight: int, differs: bool, check: bool, more: str) -> str:
    """What is so now, or would be, and the command that undoes it."""
    server, app = options["server"], app_of(options["edge"]["backend"])
    who = f"{options['balancer'] or 'this balancer'} {'would send' if check and differs else 'sends'} {server}"
    if options["state"] == "drain":
        ended = f"; {in_flight} of its requests had not ended after {options['wait']:g} s" if in_flight else ""
        return f"{who} nothing of {app}{'' if differs else ', as before'}{ended}. {back(server, more)} brings it back"
    if now.down and not check:
        return f"{who} requests of {app} once its check passes; it got {now.check or 'nothing yet'}"
    again = "again" if differs else "as before"
    return f"{who} requests of {app} {again}. slipway.fleet.drain -e haproxy_server={server}{more} takes it out"


def require_there(servers: Mapping[str, Server], app: str, where: str) -> None:
    """Raise EdgeError where the balancer has no host of the app; since when, where it is known there."""
    if not servers:
        since = removed_told(APPS / app)
        why = since or "it was removed, or this balancer was not provisioned for it"
        raise EdgeError(
            f"{app} is not{where or ' on this balancer'}: {why}. Nothing was done there. slipway.fleet.provision has "
            "the balancer send its hosts requests, and slipway.fleet.site has them serve, too"
        )


def records_of(app: str) -> Records:
    """The ledger of the app here; nothing of one that cannot be read, as it is for words alone."""
    with suppress(OSError):
        return Ledger(APPS / app).told()
    return ()


def change(edge: Edge, server: str, state: str, wait: float, records: Records = (), more: str = "") -> int:
    """Set the state; returns the requests still in flight when the wait was over. Raises EdgeError.

    `records` are the ledger of the app here, and `more` what a command for it needs: for words alone.
    """
    if state == "drain" and (why := left_in(edge.servers(), server, app_of(edge.backend), records, more)):
        raise EdgeError(why)
    if not edge.sticky(server):
        edge.set_state(server, state)
    elif state == "drain":
        edge.leave(server)
    else:
        edge.come_back(server)
        # Else it would be no host that answers to whoever drains the next one.
        answered = time.monotonic() + min(wait, CHECKED)
        while not edge.servers()[server].answers and time.monotonic() < answered:
            time.sleep(POLL)
    deadline = time.monotonic() + wait
    while state == "drain" and (left := edge.servers()[server].sessions):
        if time.monotonic() >= deadline:
            return left
        time.sleep(POLL)
    return 0


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    server, state = options["server"], options["state"]
    where = options["edge"]
    edge = Edge(where["socket"], where["backend"], where["state_file"], expected=[server])
    app = app_of(where["backend"])
    more = f" -e haproxy_server_app={app}" if options["usual_app"] not in ("", app) else ""
    in_flight, differs, said = 0, False, ""
    warnings: list[str] = []
    try:
        there = Edge(where["socket"], where["backend"], where["state_file"], expected=[]).servers()
        at = f" on {options['balancer']}" if options["balancer"] else ""
        require_there(there, app, at)
        require_known(there, server, where["backend"], at)
        differs = edge.servers()[server].enabled != (state == "ready")
        if differs and not module.check_mode:
            with recorded(options["record"], OPERATIONS[state], server) as note:
                in_flight = change(edge, server, state, options["wait"], records_of(app), more)
            warnings = note.warnings
        said = told(options, edge.servers()[server], in_flight, differs, module.check_mode, more)
    except EdgeError as error:
        module.fail_json(msg=str(error))
    answer(module, {"changed": differs, "in_flight": in_flight, "told": said, "warnings": warnings})


if __name__ == "__main__":
    main()
