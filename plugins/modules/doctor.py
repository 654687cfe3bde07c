#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Look for what would stop a deploy on this host, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor
short_description: Look for what would stop a deploy on this host, before anything is changed
description:
  - Finds all problems in one call and names each with its place and the next step. Changes nothing.
  - What somebody should know before the release comes, and keeps it from nothing, is a warning.
  - Tells what serves, and whether that is the wanted release already, so that the rest of a deploy can be left out.
  - In check mode problems are warnings, since a run that would first provision the host would mend some of them.
options:
  specification:
    description: File with a role's argument specification; variables that are not of its types fail the task first.
    type: path
  wrong_from:
    description:
      - Name of the variable with what else is wrong, a list of sentences; with any, the task fails with them and the
        host is not asked. It is read once the types are known to be right.
    type: str
  place_from: {description: Name of the variable with O(place) and read like O(wrong_from)., type: str}
  release_from: {description: Name of the variable with O(release) and read like O(wrong_from)., type: str}
  sought_from:
    description: Name of the variable with the options from O(certificate) on by their names, read like O(wrong_from).
    type: str
  release: {description: Id of the wanted release; empty when it is not known yet., type: str, default: ""}
  purpose:
    description:
      - What the run wants. V(deploy) wants O(release). V(rollback) returns to it, or without one to the last good
        release before the one that serves. V(restart) keeps the release that serves.
    type: str
    choices: [deploy, rollback, restart]
    default: deploy
  certificate: {description: Certificate of the edge; one that is missing is not looked at., type: path}
  certificate_days: {description: Days before its end from when a certificate counts as drift., type: int, default: 14}
  run: {description: Set by the action plugin., type: str, default: ""}
  runtime:
    description:
      - What a release needs that is not on the host yet, V(compose) Docker and V(systemd) a Python with virtual
        environments. One that is there tells by itself.
    type: str
    choices: [compose, systemd]
    default: compose
  python: {description: That Python., type: path, default: /usr/bin/python3}
  image: {description: Name of the wanted image., type: str, default: ""}
  architectures:
    description: What the wanted image is made for, in Docker's words (amd64, arm64); empty when unknown.
    type: list
    elements: str
    default: []
  disk_needed: {description: Bytes that the release needs., type: int, default: 0}
  disk_reserve: {description: Bytes that must stay free., type: int, default: 1073741824}
  controller_time: {description: Seconds since the epoch on the controller; 0 checks no clock., type: float, default: 0}
  clock_tolerance: {description: Seconds by which the clocks may differ., type: float, default: 60}
  port:
    description: TCP port on which the app of the wanted release listens; 0 is the slot's socket.
    type: int
    default: 0
  slot_mib: {description: Memory limit of a slot in MiB; 0 checks none., type: int, default: 0}
  cpus: {description: Processors that a slot may use; 0 checks none., type: float, default: 0.0}
  workers: {description: Workers of a slot; 0 counts no connections., type: int, default: 0}
  hosts: {description: How many hosts the fleet has., type: int, default: 1}
  processes: {description: What runs beside it by name with its limits., type: dict, default: {}}
  jobs: {description: What timers are to start by name with its schedule., type: dict, default: {}}
  overlap:
    description: Whether the wanted release may run beside the one that serves.
    type: bool
    default: true
  names:
    description: Names under which users ask for the app; without any it is not compared with who is behind the edge.
    type: list
    elements: str
    default: []
  former_names: {description: Names that it had before., type: list, elements: str, default: []}
  user: {description: Whom the inventory names to run the app., type: str, default: ''}
  uid: {description: That of the app's own user under the runtime systemd; 0 elsewhere., type: int, default: 0}
extends_documentation_fragment: [slipway.fleet.place, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Reports problems as warnings., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Stop before anything is changed where a host cannot take the release
  slipway.fleet.doctor:
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
problems: {description: One sentence for each problem., returned: always, type: list, elements: str}
release: {description: The wanted release; empty when it is not known yet., returned: always, type: str}
migration: {description: Schema revision of the release that serves; empty when unknown., returned: always, type: str}
release_migration: {description: The same of the wanted release., returned: always, type: str}
image: {description: Image of the release that serves; empty when unknown., returned: always, type: str}
release_image: {description: The same of the wanted release., returned: always, type: str}
settled: {description: The wanted release serves and nothing differs from the records., returned: always, type: bool}
singletons: {description: Singletons that run on this host., returned: always, type: list, elements: str}
singletons_at: {description: Where they ran when this host was last released to., returned: always, type: dict}
jobs: {description: Jobs that have a timer on this host., returned: always, type: list, elements: str}
jobs_at: {description: Where they ran when this host was last released to., returned: always, type: dict}
state: {description: What is recorded as serving., returned: always, type: dict}
serving: {description: Release and slot that get requests; empty where none do., returned: always, type: dict}
draining: {description: The slot that still answers what began before the switch., returned: always, type: dict}
good:
  description: Releases to which this host could return, and whether what they are made of is there still.
  returned: always
  type: list
  elements: dict
drift: {description: One sentence for each difference from the records., returned: always, type: list, elements: str}
free_mib: {description: Free disk space in MiB., returned: always, type: int}
certificate_days: {description: Days until the edge's certificate ends; none without one., returned: always, type: int}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.release.preflight import HOST, busy_problem, find_problems, notes_on, seen
from ..module_utils.release.wiring import PLACE_ARGUMENT, arguments_of, timers_of, transaction_of

ARGUMENTS: dict[str, Any] = {
    "place": PLACE_ARGUMENT,
    "release": {"type": "str", "default": ""},
    "purpose": {"type": "str", "choices": ["deploy", "rollback", "restart"], "default": "deploy"},
    "run": {"type": "str", "default": ""},
    "runtime": {"type": "str", "choices": ["compose", "systemd"], "default": HOST["runtime"]},
    "python": {"type": "path", "default": HOST["python"]},
    "image": {"type": "str", "default": HOST["image"]},
    "architectures": {"type": "list", "elements": "str", "default": HOST["architectures"]},
    "disk_needed": {"type": "int", "default": HOST["disk_needed"]},
    "disk_reserve": {"type": "int", "default": HOST["disk_reserve"]},
    "certificate": {"type": "path"},
    "certificate_days": {"type": "int", "default": HOST["certificate_days"]},
    "controller_time": {"type": "float", "default": HOST["controller_time"]},
    "clock_tolerance": {"type": "float", "default": HOST["clock_tolerance"]},
    "port": {"type": "int", "default": HOST["port"]},
    "slot_mib": {"type": "int", "default": HOST["slot_mib"]},
    "cpus": {"type": "float", "default": HOST["cpus"]},
    "workers": {"type": "int", "default": HOST["workers"]},
    "hosts": {"type": "int", "default": HOST["hosts"]},
    "processes": {"type": "dict", "default": HOST["processes"]},
    "jobs": {"type": "dict", "default": HOST["jobs"]},
    "overlap": {"type": "bool", "default": HOST["overlap"]},
    "names": {"type": "list", "elements": "str", "default": HOST["names"]},
    "former_names": {"type": "list", "elements": "str", "default": HOST["former_names"]},
    "user": {"type": "str", "default": HOST["user"]},
    "uid": {"type": "int", "default": HOST["uid"]},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    purpose, release = options["purpose"], options["release"]
    host = {name: options[name] for name in HOST}
    transaction = transaction_of(arguments_of(options))
    problems = find_problems(purpose, release, options["run"], host, transaction, options["place"])
    if busy := busy_problem(transaction.store.holder() or ""):
        problems.append(busy)
    if problems and not module.check_mode:
        module.fail_json(
            msg="nothing was changed; this host cannot take a release: " + "; ".join(problems), problems=problems
        )
    for problem in problems:
        module.warn(f"a release would stop here: {problem}")
    found: dict[str, Any] = {}
    try:
        found = seen(purpose, release, host, transaction, timers_of(arguments_of(options)))
    except SlipwayError as error:
        module.fail_json(msg=f"nothing was changed; {error}")
    for note in notes_on(purpose, host, transaction, found):
        module.warn(note)
    answer(module, {"changed": False, "problems": problems, **found})


if __name__ == "__main__":
    main()
