"""What would stop a deploy on this host, before anything is changed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Optional

from ..edge.haproxy import EdgeError
from ..host.errors import SlipwayError
from ..image.local import ARCHITECTURES
from ..package.packages import PackageError, target_of
from .lease import Lease
from .model import State
from .observe import certificate_days, free_mib, observe
from .runtimes import staged_for
from .store import Store
from .transaction import Transaction

COMPOSE_AT_LEAST = (2, 20)
# What the preflight needs to know of a host and how it is to be (the argument `host` of the verb look), with what
# counts where nothing is said: sizes in bytes, times in seconds, `controller_time` since the epoch and 0 for unknown.
HOST: dict[str, Any] = {
    "runtime": "compose",
    "python": "/usr/bin/python3",
    "image": "",
    "architectures": [],
    "disk_needed": 0,
    "disk_reserve": 1 << 30,
    "certificate": None,
    "certificate_days": 14,
    "controller_time": 0.0,
    "clock_tolerance": 60.0,
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


def find_problems(purpose: str, wanted: str, run: str, host: dict[str, Any], transaction: Transaction) -> list[str]:
    """All that would stop a deploy, most basic first."""
    if os.geteuid() != 0:
        return ["the tasks do not run as root here; set become: true, and give the remote user sudo"]
    root = transaction.store.root
    runtime = runtime_of(purpose, wanted, host["runtime"], transaction.store)
    tool = docker_problem() if runtime == "compose" else python_problem(host["python"])
    wrong_image = architecture_problem(host["image"], host["architectures"], platform.machine())
    found = (tool, wrong_image, lock_problem(transaction, run))
    problems = [problem for problem in found if problem]
    try:
        transaction.edge.servers()
    except EdgeError as error:
        problems.append(str(error))
    problems += disk_problems(places(runtime, root), host["disk_needed"], host["disk_reserve"])
    skew = abs(time.time() - host["controller_time"])
    if host["controller_time"] and skew > host["clock_tolerance"]:
        problems.append(f"the clock differs by {skew:.0f} s from the controller's; start a time service on both")
    return problems


def target(purpose: str, store: Store, state: Optional[State], wanted: str) -> str:
    """The release that the run is about. Raises SlipwayError that says why there is none."""
    if purpose == "deploy":
        return wanted
    if state is None:
        raise SlipwayError("nothing was released here yet; run the deploy playbook")
    if purpose == "restart":
        return state.release
    good = store.good()
    if wanted:
        if store.has(wanted) and store.last_record(wanted):
            return wanted
        there = ", ".join(release for release in good if store.has(release)) or "none"
        raise SlipwayError(f"release {wanted} is no good release of this host; there are: {there} (oldest first)")
    before = [release for release in good if release != state.release and store.has(release)]
    if not before:
        raise SlipwayError(f"there is no good release before {state.release} on this host to return to")
    return before[-1]


def runtime_of(purpose: str, wanted: str, otherwise: str, store: Store) -> str:
    """The runtime that the wanted release needs."""
    try:
        release = target(purpose, store, store.state(), wanted)
    except SlipwayError:
        release = ""
    return (staged_for(store.releases, release) if release else None) or otherwise


def look(arguments: dict[str, Any], transaction: Transaction) -> dict[str, Any]:
    """The verb `look`: problems, what serves, and whether that is the wanted release.

    Raises SlipwayError that names a damaged record, or why there is no release to return to or to restart.
    """
    host = {**HOST, **(arguments.get("host") or {})}
    purpose, wanted = arguments.get("purpose") or "deploy", arguments.get("release") or ""
    problems = find_problems(purpose, wanted, arguments.get("run_id") or "", host, transaction)
    return {"problems": problems, **seen(purpose, wanted, host, transaction)}


def seen(purpose: str, wanted: str, host: dict[str, Any], transaction: Transaction) -> dict[str, Any]:
    now = observe(transaction)
    state = now["state"] or {}
    store = transaction.store
    release = target(purpose, store, store.state(), wanted)
    serves = bool(release) and state.get("release") == release and not now["drift"]
    return {
        "release": release,
        "settled": serves and purpose != "restart",
        "migration": store.last_record(state.get("release", "")).get("migration") or "",
        "release_migration": store.last_record(release).get("migration") or "",
        "image": store.last_record(state.get("release", "")).get("image") or "",
        "release_image": host["image"] if purpose == "deploy" else store.last_record(release).get("image") or "",
        "state": state,
        "drift": now["drift"],
        "free_mib": free_mib(store.root),
        "certificate_days": certificate_days(host["certificate"]),
    }
