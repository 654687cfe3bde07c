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
    description: V(activate) makes the release serve, V(observe) only tells what serves.
    type: str
    choices: [activate, observe]
    default: activate
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
  log_lines:
    description: Lines of the app's log shown when a release is refused.
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
release: {description: The release that serves now., returned: always, type: str}
was: {description: The release that served before., returned: always, type: str}
slot: {description: The slot that serves., returned: always, type: str}
phases: {description: Phases of the transaction with their seconds., returned: success, type: list, elements: dict}
recovered: {description: What was done about an interrupted transaction., returned: success, type: str}
cause: {description: Why the release was refused., returned: failure, type: str}
evidence: {description: Health answer and exit code; the log is in the message., returned: failure, type: dict}
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.release.compose import Compose
from ..module_utils.release.detach import Lost, run_detached
from ..module_utils.release.edge import EDGE_ARGUMENT, Edge, EdgeError
from ..module_utils.release.model import Gate, Request, TransactionError
from ..module_utils.release.observe import observe
from ..module_utils.release.probe import get
from ..module_utils.release.runtime import RuntimeFailed
from ..module_utils.release.store import Busy, Store
from ..module_utils.release.transaction import Transaction

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "release": {"type": "str"},
    "operation": {"type": "str", "choices": ["activate", "observe"], "default": "activate"},
    "root": {"type": "path", "required": True},
    "socket_directory": {"type": "path", "required": True},
    "gate": {
        "type": "dict",
        "default": {},
        "options": {
            "path": {"type": "str", "default": "/readyz"},
            "version_path": {"type": "str", "default": "/version"},
            "passes": {"type": "int", "default": 3},
            "interval": {"type": "float", "default": 1.0},
            "timeout": {"type": "float", "default": 5.0},
            "deadline": {"type": "float", "default": 60.0},
        },
    },
    "drain": {"type": "float", "default": 30.0},
    "stop_grace": {"type": "float", "default": 45.0},
    "keep": {"type": "int", "default": 5},
    "log_lines": {"type": "int", "default": 200},
    "edge": EDGE_ARGUMENT,
    "about": {"type": "dict", "default": {}},
}


def build(parameters: dict[str, Any]) -> Transaction:
    """The transaction that the module's parameters describe."""
    gate = Gate(**(parameters["gate"] or {}))
    names = ("app", "release", "drain", "stop_grace", "keep", "log_lines", "about")
    store = Store(Path(parameters["root"]))
    edge = parameters["edge"]
    sockets = Path(parameters["socket_directory"])
    return Transaction(
        Request(gate=gate, **{name: parameters[name] for name in names}),
        store,
        Compose(parameters["app"], store.releases),
        Edge(edge["socket"], edge["backend"], edge["state_file"]),
        lambda slot, path: get(str(sockets / f"{slot}.sock"), path, gate.timeout),
    )


def activate(transaction: Transaction, holder: str) -> dict[str, Any]:
    """The result of the transaction, a refusal included."""
    try:
        with transaction.store.lock(holder):
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


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("operation", "activate", ["release"])])
    transaction = build(module.params)
    result: dict[str, Any] = {}
    try:
        if module.params["operation"] == "observe":
            module.exit_json(changed=False, **observe(transaction))
        if module.check_mode:
            plan = transaction.plan()
            difference = {"before": f"release {plan['was']}\n", "after": f"release {plan['release']}\n"}
            module.exit_json(**plan, diff=difference if plan["changed"] else {})
        about = module.params["about"]
        holder = f"release {module.params['release']} by {about.get('who', 'somebody')}, pid {os.getpid()}"
        result = run_detached(lambda: activate(transaction, holder), Path(module.params["root"]) / "transaction.log")
    except (Lost, EdgeError, RuntimeFailed, ValueError) as error:
        module.fail_json(msg=str(error))
    if result.get("failed"):
        module.fail_json(**result)
    difference = {"before": f"release {result['was']}\n", "after": f"release {result['release']}\n"}
    module.exit_json(**result, diff=difference if result["changed"] else {})


if __name__ == "__main__":
    main()
