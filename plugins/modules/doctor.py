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
  - Puts the host into the group C(slipway_changing) of the run unless it is settled.
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
  release_from: {description: Name of the variable with O(release), read like O(wrong_from)., type: str}
  app: {description: Name of the app., type: str, required: true}
  root: {description: Directory of the app on the host., type: path, required: true}
  edge:
    description: How HAProxy is reached.
    type: dict
    required: true
    options:
      socket: {description: Admin socket., type: path, required: true}
      backend: {description: Backend of the app., type: str, required: true}
      state_file: {description: File of server states., type: path, required: true}
  socket_directory: {description: Directory with the slots' sockets., type: path, required: true}
  gate: {description: How health is asked for; see M(slipway.fleet.release)., type: dict, default: {}}
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
author: [Slipway contributors]
attributes:
  check_mode: {description: Reports problems as warnings., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Stop before anything is changed where a host cannot take the release
  slipway.fleet.doctor:
    app: shortlinks
    root: /opt/slipway/shortlinks
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
state: {description: What is recorded as serving., returned: always, type: dict}
drift: {description: One sentence for each difference from the records., returned: always, type: list, elements: str}
free_mib: {description: Free disk space in MiB., returned: always, type: int}
certificate_days: {description: Days until the edge's certificate ends; none without one., returned: always, type: int}
"""

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.haproxy import EdgeError
from ..module_utils.image.local import ARCHITECTURES
from ..module_utils.package.packages import PackageError, target_of
from ..module_utils.release.lease import Lease
from ..module_utils.release.model import State
from ..module_utils.release.observe import certificate_days, free_mib, observe
from ..module_utils.release.runtimes import staged_for
from ..module_utils.release.store import Store
from ..module_utils.release.transaction import Transaction
from ..module_utils.release.wiring import PLACE_ARGUMENTS, transaction_of

COMPOSE_AT_LEAST = (2, 20)

ARGUMENTS: dict[str, Any] = {
    **PLACE_ARGUMENTS,
    "release": {"type": "str", "default": ""},
    "purpose": {"type": "str", "choices": ["deploy", "rollback", "restart"], "default": "deploy"},
    "certificate": {"type": "path"},
    "certificate_days": {"type": "int", "default": 14},
    "run": {"type": "str", "default": ""},
    "runtime": {"type": "str", "choices": ["compose", "systemd"], "default": "compose"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "image": {"type": "str", "default": ""},
    "architectures": {"type": "list", "elements": "str", "default": []},
    "disk_needed": {"type": "int", "default": 0},
    "disk_reserve": {"type": "int", "default": 1 << 30},
    "controller_time": {"type": "float", "default": 0},
    "clock_tolerance": {"type": "float", "default": 60},
}


def run(*command: str) -> tuple[int, str]:
    """Exit code and output of a command; 127 where it is not installed."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return 127, f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return 124, f"{command[0]} did not answer within 30 s"
    return result.returncode, (result.stdout if result.returncode == 0 else result.stderr).strip()


def docker_problem() -> Optional[str]:
    code, output = run("docker", "version", "--format", "{{.Server.Version}}")
    if code == 127:
        return "Docker is not installed; run the provision playbook (slipway.fleet.provision)"
    if code:
        return f"Docker is installed but does not answer ({output}); `systemctl status docker` on the host tells why"
    code, output = run("docker", "compose", "version", "--short")
    if code:
        return "Docker Compose v2 is not installed; set docker_engine_source: docker and run the provision playbook"
    if compose_version(output) < COMPOSE_AT_LEAST:
        return f"Docker Compose {output} is too old, 2.20 is the oldest that works; run the provision playbook"
    return None


def python_problem(python: str) -> Optional[str]:
    try:
        target_of(python)
    except PackageError as error:
        return str(error)
    return None


def compose_version(text: str) -> tuple[int, ...]:
    """(2, 26) of `2.26.1-4`."""
    numbers = text.lstrip("v").split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def architecture_problem(image: str, architectures: list[str], machine: str) -> Optional[str]:
    """Why the image cannot run on this machine, as far as is known what both are."""
    fitting = ARCHITECTURES.get(machine)
    if not architectures or not fitting or set(fitting) & set(architectures):
        return None
    mine = fitting[0]
    return (
        f"architecture: this host is {mine} ({machine}), the image {image} is made for "
        f"{' and '.join(architectures)} alone; build it for linux/{mine} too, or leave this host out"
    )


def nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def places(runtime: str, root: Path) -> list[Path]:
    """Where a release takes room."""
    return [root, Path("/var/lib/docker")] if runtime == "compose" else [root]


def disk_problems(places: list[Path], needed: int, reserve: int) -> list[str]:
    """One problem for each file system below `needed + reserve` free bytes."""
    problems = []
    seen = set()
    for place in map(nearest_existing, places):
        device = place.stat().st_dev
        free = shutil.disk_usage(place).free
        if device not in seen and free < needed + reserve:
            problems.append(
                f"disk: {place} has {free / 2**20:.0f} MiB free, a release needs {(needed + reserve) / 2**20:.0f} "
                "(its size plus fastapi_app_disk_reserve); free some, or lower the reserve"
            )
        seen.add(device)
    return problems


def lock_problem(transaction: Transaction, run: str) -> Optional[str]:
    """Why nobody else may release now: a freeze, another run, or a transaction that outlived its run."""
    if problem := Lease(transaction.request.app, transaction.store.root).problem(run):
        return problem
    if holder := transaction.store.holder():
        return f"another release of this app is under way here ({holder}); wait until it has ended"
    return None


def find_problems(options: dict[str, Any], transaction: Transaction) -> list[str]:
    """All that would stop a deploy, most basic first."""
    if os.geteuid() != 0:
        return ["the tasks do not run as root here; set become: true, and give the remote user sudo"]
    root = transaction.store.root
    runtime = runtime_of(options, transaction.store)
    tool = docker_problem() if runtime == "compose" else python_problem(options["python"])
    wrong_image = architecture_problem(options["image"], options["architectures"], platform.machine())
    found = (tool, wrong_image, lock_problem(transaction, options["run"]))
    problems = [problem for problem in found if problem]
    try:
        transaction.edge.servers()
    except EdgeError as error:
        problems.append(str(error))
    problems += disk_problems(places(runtime, root), options["disk_needed"], options["disk_reserve"])
    skew = abs(time.time() - options["controller_time"])
    if options["controller_time"] and skew > options["clock_tolerance"]:
        problems.append(f"the clock differs by {skew:.0f} s from the controller's; start a time service on both")
    return problems


def target(purpose: str, store: Store, state: Optional[State], wanted: str) -> str:
    """The release that the run is about. Raises ValueError that says why there is none."""
    if purpose == "deploy":
        return wanted
    if state is None:
        raise ValueError("nothing was released here yet; run the deploy playbook")
    if purpose == "restart":
        return state.release
    good = store.good()
    if wanted:
        if store.has(wanted) and store.last_record(wanted):
            return wanted
        there = ", ".join(release for release in good if store.has(release)) or "none"
        raise ValueError(f"release {wanted} is no good release of this host; there are: {there} (oldest first)")
    before = [release for release in good if release != state.release and store.has(release)]
    if not before:
        raise ValueError(f"there is no good release before {state.release} on this host to return to")
    return before[-1]


def runtime_of(options: dict[str, Any], store: Store) -> str:
    """The runtime that the wanted release needs."""
    try:
        release = target(options["purpose"], store, store.state(), options["release"])
    except ValueError:
        release = ""
    return (staged_for(store.releases, release) if release else None) or str(options["runtime"])


def look(options: dict[str, Any], transaction: Transaction) -> dict[str, Any]:
    """What serves, and whether that is the wanted release. Raises ValueError that names a damaged record."""
    seen = observe(transaction)
    state = seen["state"] or {}
    store, purpose = transaction.store, options["purpose"]
    release = target(purpose, store, store.state(), options["release"])
    serves = bool(release) and state.get("release") == release and not seen["drift"]
    return {
        "release": release,
        "settled": serves and purpose != "restart",
        "migration": store.last_record(state.get("release", "")).get("migration") or "",
        "release_migration": store.last_record(release).get("migration") or "",
        "image": store.last_record(state.get("release", "")).get("image") or "",
        "release_image": options["image"] if purpose == "deploy" else store.last_record(release).get("image") or "",
        "state": state,
        "drift": seen["drift"],
        "free_mib": free_mib(transaction.store.root),
        "certificate_days": certificate_days(options["certificate"]),
    }


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    transaction = transaction_of(options)
    problems = find_problems(options, transaction)
    if problems and not module.check_mode:
        module.fail_json(
            msg="nothing was changed; this host cannot take a release: " + "; ".join(problems), problems=problems
        )
    for problem in problems:
        module.warn(f"a release would stop here: {problem}")
    seen: dict[str, Any] = {}
    try:
        seen = look(options, transaction)
    except ValueError as error:
        module.fail_json(msg=f"nothing was changed; {error}")
    module.exit_json(changed=False, problems=problems, **seen)


if __name__ == "__main__":
    main()
