#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Take one host to one release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Take one app on one host to one staged release
description:
  - Starts the release in the idle slot, waits until it is healthy, lets HAProxy send requests to it, drains and stops
    the slot that served before, and writes the ledger.
  - A release that does not get healthy is taken away again; the one that served before is never touched.
  - Runs detached on the host. When the connection breaks or the controller dies, the host finishes by itself, and a
    transaction cut short by a crash of the host is finished or undone by the next run.
options:
  app:
    description: Name of the app.
    type: str
    required: true
  release:
    description: Id of a release that is staged below C(root)/releases. Not needed with O(operation=observe).
    type: str
  operation:
    description:
      - V(activate) makes the release serve. V(settle) ends a run on this host. It returns to O(return_to) where another
        release serves, tells what serves, and gives the lease of the run back.
      - V(observe), V(history) and V(logs) only tell. V(remove) takes the app off the host.
    type: str
    choices: [activate, settle, observe, history, logs, remove]
    default: activate
  return_to: {description: The release that must serve when a run is settled; without it what serves stays., type: str}
  restart: {description: Start the release anew in the other slot although it serves., type: bool, default: false}
  soak:
    description: Seconds after the switch in which the release must stay well before the old slot is stopped.
    type: float
    default: 0.0
  canary:
    description:
      - When a release that soaks counts as worse than the one before, by the access log of the host's edge. It is worse
        when both the ratio and the difference are exceeded.
    type: dict
    default: {}
    options:
      judged: {description: Whether it is judged at all., type: bool, default: true}
      before: {description: Seconds before the switch that the old release is looked at., type: float, default: 300.0}
      requests: {description: Fewer on either side decide nothing., type: int, default: 50}
      errors: {description: Fewer errors (5xx) decide nothing., type: int, default: 3}
      error_ratio: {description: How many times the old error rate is worse., type: float, default: 2.0}
      error_difference: {description: How much above the old error rate is worse., type: float, default: 0.01}
      ms_ratio: {description: How many times the old p95 is worse., type: float, default: 3.0}
      ms_difference: {description: How many milliseconds above the old p95 are worse., type: float, default: 200.0}
  defer_failure:
    description:
      - A refused release or a host that cannot be reached is no failure of the task but its C(outcome), for a later
        play of the same run to settle; hosts that come after it are left alone.
    type: bool
    default: false
  on_failure: {description: What V(settle) does after a failure., type: str, choices: [revert, hold], default: revert}
  run: {description: Set by the action plugin., type: str}
  root:
    description: Directory of the app on the host.
    type: path
    required: true
  socket_directory:
    description: Directory with the sockets C(blue.sock) and C(green.sock).
    type: path
    required: true
  gate:
    description: When the started slot counts as healthy; times in seconds.
    type: dict
    default: {}
    options:
      path: {description: Path that must answer 200., type: str, default: /readyz}
      version_path: {description: Path that names the release; empty for none., type: str, default: /version}
      passes: {description: Passes in a row., type: int, default: 3}
      interval: {description: Seconds between two looks at a slot that is slow or serves., type: float, default: 1.0}
      timeout: {description: Seconds for one answer., type: float, default: 5.0}
      deadline: {description: Seconds until the release is refused., type: float, default: 60.0}
      edge: {description: Seconds that HAProxy may take to see what the slot answers., type: float, default: 20.0}
  drain:
    description: Seconds after the switch in which nobody cuts a request in flight on the old slot.
    type: float
    default: 30.0
  drain_websockets:
    description:
      - Seconds after the switch that what the old slot still answers may take to end, websockets and streams above all.
        The task does not wait for them; the host stops the slot by itself.
    type: float
    default: 300.0
  on_draining:
    description: Whether a release that needs the slot sooner cuts what is left in it, or waits for it.
    type: str
    choices: [cut, wait]
    default: cut
  expects:
    description: The release that must serve before; empty for none. Without it whatever does is replaced.
    type: str
  stop_grace:
    description: Seconds between SIGTERM and SIGKILL when a slot is stopped.
    type: float
    default: 45.0
  keep:
    description: Good releases kept for a rollback.
    type: int
    default: 5
  certificate: {description: Certificate of the edge that V(observe) looks at; one that is missing is none., type: path}
  certificate_days: {description: Days before its end from when a certificate counts as drift., type: int, default: 14}
  disk_reserve: {description: Bytes that must stay free; fewer are drift., type: int, default: 0}
  log_lines:
    description: Lines of the app's log shown when a release is refused; lines or records that are asked for.
    type: int
    default: 200
  edge:
    description: How HAProxy is reached.
    type: dict
    required: true
    options:
      socket: {description: Admin socket., type: path, required: true}
      backend: {description: Backend of the app., type: str, required: true}
      state_file: {description: Where HAProxy reads server states from at a reload., type: path, required: true}
  about:
    description: Facts for the ledger (who, from where, image, config hash).
    type: dict
    default: {}
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether the release would change and touches nothing., support: full}
  diff_mode: {description: Shows the release before and after., support: full}
"""

EXAMPLES = r"""
- name: Make the staged release serve
  slipway.fleet.release:
    app: shortlinks
    release: 3f1c09d2a7be
    root: /opt/slipway/shortlinks
    socket_directory: /run/slipway/shortlinks
    edge:
      socket: /run/haproxy/admin.sock
      backend: app_shortlinks
      state_file: /var/lib/haproxy/server-state
"""

RETURN = r"""
release: {description: The release that serves now., returned: activate, type: str}
was: {description: The release that served before., returned: always, type: str}
slot: {description: The slot that serves., returned: always, type: str}
phases: {description: Phases of the transaction with their seconds., returned: success, type: list, elements: dict}
recovered: {description: What was done about an interrupted transaction., returned: success, type: str}
canary: {description: The verdict on the release that soaked., returned: activate, type: dict}
draining: {description: The slot that ends in its own time., returned: activate and observe, type: dict}
warnings: {description: What went wrong without keeping the release from serving., returned: activate, type: list}
cause: {description: Why the release was refused., returned: failure, type: str}
outcome: {description: What became of this host., returned: activate and settle, type: str}
now: {description: What serves., returned: settle, type: dict}
drift: {description: One sentence for each difference from the records., returned: observe, type: list, elements: str}
free_mib: {description: Free disk space in MiB., returned: observe, type: int}
certificate_days: {description: Days until the certificate of the edge ends., returned: observe, type: int}
freeze: {description: The freeze of the app., returned: observe, type: dict}
holder: {description: The run that holds the app., returned: observe, type: dict}
records: {description: Records of the ledger with the oldest first., returned: history, type: list, elements: dict}
log: {description: Last lines of the slot that serves., returned: logs, type: str}
evidence: {description: Health answer and exit code; the log is in the message., returned: failure, type: dict}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.errors import SlipwayError
from ..module_utils.release import operations
from ..module_utils.release.lease import Held, Lease
from ..module_utils.release.wiring import CANARY_ARGUMENT, PLACE_ARGUMENTS, arguments_of, transaction_of

ARGUMENTS: dict[str, Any] = {
    **PLACE_ARGUMENTS,
    "operation": {
        "type": "str",
        "choices": ["activate", "settle", "observe", "history", "logs", "remove"],
        "default": "activate",
    },
    "release": {"type": "str"},
    "return_to": {"type": "str"},
    "restart": {"type": "bool", "default": False},
    "soak": {"type": "float", "default": 0.0},
    "canary": CANARY_ARGUMENT,
    "drain": {"type": "float", "default": 30.0},
    "drain_websockets": {"type": "float", "default": 300.0},
    "on_draining": {"type": "str", "choices": ["cut", "wait"], "default": "cut"},
    "expects": {"type": "str"},
    "stop_grace": {"type": "float", "default": 45.0},
    "keep": {"type": "int", "default": 5},
    "log_lines": {"type": "int", "default": 200},
    "certificate": {"type": "path"},
    "certificate_days": {"type": "int", "default": 14},
    "disk_reserve": {"type": "int", "default": 0},
    "about": {"type": "dict", "default": {}},
    "defer_failure": {"type": "bool", "default": False},
    "on_failure": {"type": "str", "choices": ["revert", "hold"], "default": "revert"},
    "run": {"type": "str"},
}


TELLING = ("observe", "history", "logs")
ABOUT_THE_HOST = ("certificate", "certificate_days", "disk_reserve")


def perform(module: AnsibleModule) -> dict[str, Any]:
    """The result of the operation. Raises SlipwayError."""
    operation = module.params["operation"]
    arguments = arguments_of(module.params)
    arguments["host"] = {name: arguments.pop(name) for name in ABOUT_THE_HOST if name in arguments}
    arguments.update(run_id=run_of(arguments), check_mode=module.check_mode)
    verb = operations.VERBS[operation]
    if operation in TELLING:
        return {"changed": False, **verb(arguments, silent)}
    if module.check_mode and operation != "remove":
        return transaction_of(arguments).plan()
    result = verb(arguments, silent)
    if operation == "settle":
        operations.let_go(arguments, silent)
    return result


def run_of(arguments: dict[str, Any]) -> str:
    """The run whose lease counts; empty where nobody holds the app. Raises Held where somebody else does."""
    run = str(arguments.pop("run", "") or arguments.get("about", {}).get("run") or "")
    lease = Lease(arguments["place"]["app"], Path(arguments["place"]["root"]))
    if arguments["operation"] in TELLING or not lease.holder():
        return ""
    if arguments["operation"] == "activate" and (problem := lease.problem(run)):
        raise Held(f"nothing was changed; {problem}")
    return run


def silent(event: dict[str, Any]) -> None:
    """A module has one answer, at its end."""


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("operation", "activate", ["release"])])
    result: dict[str, Any] = {}
    try:
        result = perform(module)
    except (SlipwayError, OSError) as error:
        module.fail_json(msg=str(error), **getattr(error, "details", {}))
    if result["changed"] and "was" in result:
        result["diff"] = {"before": f"release {result['was']}\n", "after": f"release {result['release']}\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
