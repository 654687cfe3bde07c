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
      interval: {description: Seconds between passes., type: float, default: 1.0}
      timeout: {description: Seconds for one answer., type: float, default: 5.0}
      deadline: {description: Seconds until the release is refused., type: float, default: 60.0}
  drain:
    description: Seconds that requests in flight on the old slot may take to end.
    type: float
    default: 30.0
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

import os
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.haproxy import EdgeError
from ..module_utils.release.detach import Lost, run_detached
from ..module_utils.release.lease import Lease
from ..module_utils.release.model import TransactionError
from ..module_utils.release.observe import observe, surroundings
from ..module_utils.release.runtime import RuntimeFailed
from ..module_utils.release.store import MOMENT, Busy
from ..module_utils.release.transaction import Transaction
from ..module_utils.release.wiring import CANARY_ARGUMENT, PLACE_ARGUMENTS, transaction_of

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


def activate(transaction: Transaction, holder: str, wait: float = MOMENT) -> dict[str, Any]:
    """The result of the transaction, a refusal included."""
    try:
        with transaction.store.lock(holder, wait):
            return transaction.run()
    except Busy as error:
        return {"failed": True, "msg": f"another release of this app is under way on this host: {error}"}
    except TransactionError as error:
        log = str(error.evidence.get("log", "")).strip()
        tail = f"\n--- its log, last {transaction.request.log_lines} lines ---\n{log}" if log else ""
        health = error.evidence.get("health")
        seen = f"\nGET {transaction.request.gate.path}: {health}" if health else ""
        state = transaction.store.state()
        serving = f"release {state.release} goes on serving" if state else "nothing serves yet"
        return {
            "failed": True,
            "msg": f"release {transaction.request.release} was refused: {error.cause}; {serving}{seen}{tail}",
            "cause": error.cause,
            "evidence": {name: value for name, value in error.evidence.items() if name != "log"},
            "phases": transaction.phases,
        }
    except (EdgeError, RuntimeFailed, ValueError) as error:
        return {"failed": True, "msg": str(error), "phases": transaction.phases}


def limit(transaction: Transaction) -> float:
    """Seconds after which a transaction of this kind has ended, whatever happened to it."""
    request = transaction.request
    return 60 + request.gate.deadline + 2 * request.drain + request.soak + 2 * request.stop_grace


def settle(parameters: dict[str, Any], holder: str) -> dict[str, Any]:
    """Return to `return_to` where `release` serves instead, whichever way it came to that; then tell what serves.

    A host that could not be reached has finished its transaction by itself meanwhile, so what is recorded counts and
    not what was reported.
    """
    back = parameters["return_to"]
    transaction = transaction_of(parameters, release=back or parameters["release"], soak=0.0)
    with transaction.store.lock(holder, limit(transaction)):
        transaction.reconcile()
    state = transaction.store.state()
    result: dict[str, Any] = {"changed": False, "phases": []}
    if back and state and state.release != back:
        result = activate(transaction, holder, limit(transaction))
    return {**result, "now": observe(transaction)}


def look(parameters: dict[str, Any]) -> dict[str, Any]:
    """What serves, what is around it, and every difference from what should be."""
    transaction = transaction_of(parameters)
    seen = observe(transaction)
    around = surroundings(
        transaction, parameters["certificate"], parameters["certificate_days"], parameters["disk_reserve"]
    )
    return {**seen, **around, "drift": seen["drift"] + around["drift"]}


def history(parameters: dict[str, Any]) -> dict[str, Any]:
    return {"records": transaction_of(parameters).store.ledger()[-parameters["log_lines"] :]}


def logs(parameters: dict[str, Any]) -> dict[str, Any]:
    """The last lines of the slot that serves."""
    transaction = transaction_of(parameters)
    state = transaction.store.state()
    text = transaction.runtime.logs(state.slot, parameters["log_lines"]) if state else ""
    return {"log": text, "slot": state.slot if state else None}


def remove(parameters: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Take the app off this host: its slots, releases, images and records."""
    transaction = transaction_of(parameters)
    if not transaction.store.root.exists():
        return {"changed": False}
    if not check_mode:
        with transaction.store.lock("a removal"):
            transaction.remove()
    return {"changed": True}


TELLERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"observe": look, "history": history, "logs": logs}


def detached(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return run_detached(work, Path(module.params["root"]) / "transaction.log")


def perform(module: AnsibleModule) -> dict[str, Any]:
    """The result of the operation. Raises Lost, EdgeError, RuntimeFailed, Busy and ValueError."""
    parameters = module.params
    operation = parameters["operation"]
    if operation in TELLERS:
        return {"changed": False, **TELLERS[operation](parameters)}
    if operation == "remove":
        return remove(parameters, module.check_mode)
    transaction = transaction_of(parameters)
    if module.check_mode:
        return transaction.plan()
    holder = f"release {parameters['release']} by {parameters['about'].get('who', 'somebody')}, pid {os.getpid()}"
    if operation == "activate":
        return detached(module, lambda: activate(transaction, holder))
    result = detached(module, lambda: settle(parameters, holder))
    if parameters["run"]:
        Lease(parameters["app"], transaction.store.root).give_back(parameters["run"])
    return result


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("operation", "activate", ["release"])])
    result: dict[str, Any] = {}
    try:
        result = perform(module)
    except (Lost, EdgeError, RuntimeFailed, Busy, ValueError) as error:
        module.fail_json(msg=str(error))
    if result.get("failed"):
        module.fail_json(**result)
    if result["changed"] and "was" in result:
        result["diff"] = {"before": f"release {result['was']}\n", "after": f"release {result['release']}\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
