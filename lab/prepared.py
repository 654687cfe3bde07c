"""What scenarios begin with that test something else than an installation: packages and images are there already.

The prepared host is one of the lab on which ``prepared.yml`` ran, kept as an image. Nothing of it is configured or was
started: the roles go over it as over any host, and find their packages there. It is made anew when the image of the
host, the steps that install, or what they are told has changed.

The prepared disk is a volume with the images of the database, of the cache, and of Python, on which the app's image is
built, as the Docker of a host keeps them. A host gets a copy of it. It is made anew when one of the images has changed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from lab import docker
from lab.hosts import DOCKER_DISK, await_boot, container_arguments
from lab.report import say, step
from lab.shell import CommandError, LabError, run, run_logged

TAG = "slipway.lab/prepared:trixie"
BASE = "slipway.lab/host:trixie"
DISK = "slipway-prepared-docker"
IMAGES = ("slipway.lab/python:3.13", "slipway.lab/postgres:17", "slipway.lab/redis:8")
_MARK = "slipway.inputs"
ROOT = Path(__file__).parent.parent
PLAYBOOK = "lab/prepared.yml"
# Of each role, what decides which packages are installed and how; that of fastapi_app needs no variable of its role.
PARTS = {
    "docker_engine": ("defaults/main.yml", "vars/main.yml", "tasks/install.yml"),
    "haproxy": ("defaults/main.yml", "vars/main.yml", "tasks/install.yml"),
    "fastapi_app": ("tasks/install.yml",),
}
FILES = (PLAYBOOK, *(f"roles/{role}/{part}" for role, parts in PARTS.items() for part in parts))


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
    for path in FILES:
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
        docker.start(["--name", container, "--hostname", "prepared", *container_arguments(), BASE])
        try:
            await_boot(container)
            command = [ansible, "-i", f"{container},", "-c", "community.docker.docker", str(ROOT / PLAYBOOK)]
            run_logged(command, log, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"})
            run("docker", "stop", container, timeout=120)
            label = f"LABEL {docker.LABEL_INPUTS}={inputs}"
            run("docker", "commit", "--change", label, container, TAG, timeout=300)
        finally:
            run("docker", "rm", "--force", "--volumes", container, timeout=120)


def ensure_disk() -> None:
    """Bring the disk up to date; needs the prepared host.

    Raises:
        LabError: One of the images is missing, or the Docker of the host did not take it.
    """
    identities = []
    for name in IMAGES:
        image = docker.find_image(name)
        if image is None:
            raise LabError(f"The image {name} is missing. Make it with: python3 -m lab images")
        identities.append(image.identity)
    inputs = hashlib.sha256("\0".join(identities).encode()).hexdigest()
    if _inputs_of_disk() != inputs:
        with step(DISK, f"loading {', '.join(IMAGES)}, once"):
            _make_disk(inputs)
    say(DISK, "a disk with those images, copied to each prepared host that has them: made here")


def copy_disk(name: str) -> None:
    """Make a volume with the same images. Devices and extended attributes are part of a layer, and are copied."""
    run("docker", "volume", "create", name, timeout=60)
    volumes = ["--volume", f"{DISK}:/from:ro", "--volume", f"{name}:/to", "--cap-add", "SYS_ADMIN"]
    run("docker", "run", "--rm", *volumes, TAG, "sh", "-euc", "cd /from && cp --archive -- */ /to", timeout=300)


def _inputs_of_disk() -> str:
    """What the disk was made from; nothing where there is none, or where its making was interrupted."""
    try:
        return run("docker", "run", "--rm", "--volume", f"{DISK}:/disk:ro", TAG, "cat", f"/disk/{_MARK}", timeout=60)
    except CommandError:
        return ""


def _make_disk(inputs: str) -> None:
    """Let the Docker of a prepared host load the images."""
    making = f"slipway-prepared-{os.getpid()}"
    try:
        run("docker", "volume", "rm", "--force", DISK, timeout=60)
        docker.start(["--name", making, "--hostname", "prepared", *container_arguments(DISK), TAG])
        await_boot(making)
        docker.execute(making, "systemctl", "start", "docker.service")
        for name in IMAGES:
            run("sh", "-euc", 'docker save "$1" | docker exec -i "$2" docker load', "load", name, making, timeout=300)
        docker.execute(making, "systemctl", "stop", "docker.socket", "docker.service")
        # Images and their layers, and nothing that one daemon calls its own. The mark comes last.
        others = f"find {DOCKER_DISK} -mindepth 1 -maxdepth 1 -not -name image -not -name overlay2 -exec rm -rf {{}} +"
        docker.execute(making, "sh", "-euc", f"{others}; printf %s {inputs} > {DOCKER_DISK}/{_MARK}")
    finally:
        run("docker", "rm", "--force", making, timeout=120)
