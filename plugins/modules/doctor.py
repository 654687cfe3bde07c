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
  - In check mode problems are warnings, since a run that would first provision the host would mend some of them.
options:
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
"""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.release.edge import EDGE_ARGUMENT, Edge, EdgeError

COMPOSE_AT_LEAST = (2, 20)

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "root": {"type": "path", "required": True},
    "edge": EDGE_ARGUMENT,
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


def compose_version(text: str) -> tuple[int, ...]:
    """(2, 26) of `2.26.1-4`."""
    numbers = text.lstrip("v").split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


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


def lock_problem(root: Path) -> Optional[str]:
    path = root / "lock"
    if not path.exists():
        return None
    with open(path, encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"another release of this app is under way here ({stream.read().strip()}); wait until it has ended"
    return None


def find_problems(options: dict[str, Any]) -> list[str]:
    """All that would stop a deploy, most basic first."""
    if os.geteuid() != 0:
        return ["the tasks do not run as root here; set become: true, and give the remote user sudo"]
    root = Path(options["root"])
    problems = [problem for problem in (docker_problem(), lock_problem(root)) if problem]
    edge = options["edge"]
    try:
        Edge(edge["socket"], edge["backend"], edge["state_file"]).servers()
    except EdgeError as error:
        problems.append(str(error))
    problems += disk_problems([root, Path("/var/lib/docker")], options["disk_needed"], options["disk_reserve"])
    skew = abs(time.time() - options["controller_time"])
    if options["controller_time"] and skew > options["clock_tolerance"]:
        problems.append(f"the clock differs by {skew:.0f} s from the controller's; start a time service on both")
    return problems


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    problems = find_problems(module.params)
    if problems and not module.check_mode:
        module.fail_json(
            msg="nothing was changed; this host cannot take a release: " + "; ".join(problems), problems=problems
        )
    for problem in problems:
        module.warn(f"a release would stop here: {problem}")
    module.exit_json(changed=False, problems=problems)


if __name__ == "__main__":
    main()
