"""A host on which the roles' packages are installed already, for scenarios that test something else than that.

It is a host of the lab on which ``prepared.yml`` ran, kept as an image. Nothing of it is configured or was started: the
roles go over it as over any host, and find their packages there. It is made anew when the image of the host, the steps
that install, or what they are told has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from lab import docker
from lab.hosts import CONTAINER_ARGUMENTS, await_boot
from lab.report import say, step
from lab.shell import LabError, run, run_logged

TAG = "slipway.lab/prepared:trixie"
BASE = "slipway.lab/host:trixie"
ROOT = Path(__file__).parent.parent
PLAYBOOK = "lab/prepared.yml"
ROLES = ("docker_engine", "haproxy")
# Of a role, what decides which packages are installed and how.
PARTS = ("defaults/main.yml", "vars/main.yml", "tasks/install.yml")


def ensure(logs: Path) -> None:
    """Bring the image up to date.

    Args:
        logs: The directory for Ansible's output.

    Raises:
        LabError: The host's image is missing, Ansible is, or its run failed; the message says where the log is.
    """
    base = docker.find_image(BASE)
    if base is None:
        raise LabError(f"The image {BASE} is missing. Make it with: python3 -m lab images")
    inputs = digest(ROOT, base.labels.get(docker.LABEL_INPUTS, base.identity))
    image = docker.find_image(TAG)
    if image is None or image.labels.get(docker.LABEL_INPUTS) != inputs:
        _make(inputs, logs / "prepared-trixie.log")
    say(TAG, "a host with the roles' packages installed: made here")


def digest(root: Path, *others: str) -> str:
    """Return a digest of everything that the image is made from.

    Args:
        root: The checkout.
        others: Further inputs, such as the identity of the base image.
    """
    found = hashlib.sha256()
    for path in (PLAYBOOK, *(f"roles/{role}/{part}" for role in ROLES for part in PARTS)):
        found.update(f"{path}\0{hashlib.sha256((root / path).read_bytes()).hexdigest()}\0".encode())
    for other in others:
        found.update(f"{other}\0".encode())
    return found.hexdigest()


def _make(inputs: str, log: Path) -> None:
    ansible = shutil.which("ansible-playbook")
    if ansible is None:
        raise LabError(f"{TAG} is made by Ansible, which is not on PATH. Run `make setup`, and use make, or .venv/bin.")
    # A name of its own, so that two checkouts do not take each other's away.
    container = f"slipway-prepared-{os.getpid()}"
    with step(TAG, f"installing the roles' packages on {BASE}, once, output in {os.path.relpath(log)}"):
        docker.start(["--name", container, "--hostname", "prepared", *CONTAINER_ARGUMENTS, BASE])
        try:
            await_boot(container)
            command = [ansible, "-i", f"{container},", "-c", "community.docker.docker", str(ROOT / PLAYBOOK)]
            run_logged(command, log, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
            run("docker", "stop", container, timeout=120)
            label = f"LABEL {docker.LABEL_INPUTS}={inputs}"
            run("docker", "commit", "--change", label, container, TAG, timeout=300)
        finally:
            run("docker", "rm", "--force", "--volumes", container, timeout=120)
