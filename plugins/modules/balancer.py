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
in_flight: {description: Requests that had not ended when the wait was over., returned: always, type: int}
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.haproxy import EDGE_ARGUMENT, Edge, EdgeError
from ..module_utils.host.answer import answer
from ..module_utils.host.ledger import RECORD_ARGUMENT, recorded

POLL = 0.25
# Seconds for the first check of a host that is put back: one a second, each of which may take three.
CHECKED = 5.0
ARGUMENTS: dict[str, Any] = {
    "edge": EDGE_ARGUMENT,
    "server": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["ready", "drain"], "required": True},
    "wait": {"type": "float", "default": 30.0},
    "record": RECORD_ARGUMENT,
}
# What it is called in the ledger.
OPERATIONS = {"drain": "drain", "ready": "undrain"}


def last_one(edge: Edge, server: str) -> bool:
    """No other host would get requests: draining this one would be an outage."""
    return not any(found.enabled and found.answers for name, found in edge.servers().items() if name != server)


def change(edge: Edge, server: str, state: str, wait: float) -> int:
    """Set the state; returns the requests still in flight when the wait was over. Raises EdgeError."""
    if state == "drain" and last_one(edge, server):
        raise EdgeError(f"{server} is the last host of {edge.backend} that answers, so it was left in")
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
    in_flight, differs = 0, False
    warnings: list[str] = []
    try:
        differs = edge.servers()[server].enabled != (state == "ready")
        if differs and not module.check_mode:
            with recorded(options["record"], OPERATIONS[state], server) as note:
                in_flight = change(edge, server, state, options["wait"])
            warnings = note.warnings
    except EdgeError as error:
        module.fail_json(msg=str(error))
    answer(module, {"changed": differs, "in_flight": in_flight, "warnings": warnings})


if __name__ == "__main__":
    main()
