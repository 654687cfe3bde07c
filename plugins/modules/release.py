#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Tell about the releases of an app on one host, or take the app off it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Tell about the releases of an app on one host, or take the app off it
description:
  - To make a release serve there is M(slipway.fleet.rollout), for one host or for many.
options:
  operation:
    description:
      - V(observe) tells what serves and every difference from what should be, V(history) the records of the ledger,
        V(logs) the last lines of what serves. V(remove) takes the app off the host, but for its volumes.
        V(remove_volume) deletes one of these.
    type: str
    choices: [observe, history, logs, remove, remove_volume]
    default: observe
  volume: {description: Name of the volume that V(remove_volume) deletes., type: str}
  stop_grace:
    description: Seconds between SIGTERM and SIGKILL when a slot is stopped.
    type: float
    default: 45.0
  certificate: {description: Certificate of the edge that V(observe) looks at if there is one., type: path}
  certificate_days: {description: Days before its end from when a certificate counts as drift., type: int, default: 14}
  disk_reserve: {description: Bytes that must stay free; fewer are drift., type: int, default: 0}
  log_lines: {description: Lines or records that are asked for., type: int, default: 200}
extends_documentation_fragment: [slipway.fleet.place, slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether there is something to remove., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Look what serves
  slipway.fleet.release:
    place:
      app: shortlinks
      root: /opt/slipway/shortlinks
      socket_directory: /run/slipway/shortlinks
      edge:
        socket: /run/haproxy/admin.sock
        backend: app_shortlinks
        state_file: /var/lib/haproxy/server-state
"""

RETURN = r"""
state: {description: What is recorded as serving., returned: observe, type: dict}
drift: {description: One sentence for each difference from the records., returned: observe, type: list, elements: str}
free_mib: {description: Free disk space in MiB., returned: observe, type: int}
certificate_days: {description: Days until the certificate of the edge ends., returned: observe, type: int}
freeze: {description: The freeze of the app., returned: observe, type: dict}
holder: {description: The run that holds the app., returned: observe, type: dict}
under_way: {description: The transaction at work on this host, by whom and since when., returned: observe, type: dict}
page: {description: The maintenance page that the edge of this host shows., returned: observe, type: dict}
overload:
  description:
    - What tells that the app is asked for more than it can do, with the number of requests at a time that it does;
      empty where it is not.
  returned: observe
  type: dict
files: {description: Operations that take files, and the MiB of /tmp for those., returned: observe, type: dict}
records: {description: Records of the ledger with the oldest first., returned: history, type: list, elements: dict}
last: {description: The newest record of the ledger., returned: observe, type: dict}
volumes:
  description: Volumes of the app; with V(remove) the paths of those that are left.
  returned: observe and remove
  type: list
  elements: raw
former:
  description: Paths of what restores have put aside of the volumes, which nothing takes away.
  returned: remove and remove_volume
  type: list
  elements: str
log: {description: Last lines of the slot that serves., returned: logs, type: str}
jobs:
  description: What timers start on this host, when each is due and what became of it last.
  returned: observe
  type: list
  elements: dict
processes:
  description: What runs beside the slot that serves; for logs the last lines of each.
  returned: observe and logs
  type: list
  elements: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT
from ..module_utils.release import operations
from ..module_utils.release.wiring import PLACE_ARGUMENT, arguments_of

ARGUMENTS: dict[str, Any] = {
    "place": PLACE_ARGUMENT,
    "operation": {
        "type": "str",
        "choices": ["observe", "history", "logs", "remove", "remove_volume"],
        "default": "observe",
    },
    "volume": {"type": "str"},
    "stop_grace": {"type": "float", "default": 45.0},
    "log_lines": {"type": "int", "default": 200},
    "certificate": {"type": "path"},
    "certificate_days": {"type": "int", "default": 14},
    "disk_reserve": {"type": "int", "default": 0},
    "record": RECORD_ARGUMENT,
}
ABOUT_THE_HOST = ("certificate", "certificate_days", "disk_reserve")


def perform(module: AnsibleModule) -> dict[str, Any]:
    """The result of the operation. Raises SlipwayError."""
    arguments = arguments_of(module.params)
    arguments["host"] = {name: arguments.pop(name) for name in ABOUT_THE_HOST if name in arguments}
    arguments["check_mode"] = module.check_mode
    return {"changed": False, **operations.VERBS[module.params["operation"]](arguments, silent)}


def silent(event: dict[str, Any]) -> None:
    """A module has one answer, at its end."""


def main() -> None:
    module = AnsibleModule(
        ARGUMENTS, required_if=[("operation", "remove_volume", ["volume"])], supports_check_mode=True
    )
    try:
        answer(module, perform(module))
    except (SlipwayError, OSError) as error:
        module.fail_json(msg=str(error), **getattr(error, "details", {}))


if __name__ == "__main__":
    main()
