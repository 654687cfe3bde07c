"""The few things that the lab asks the docker client for."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from threading import Timer
from typing import TYPE_CHECKING, Any

from lab.shell import CommandError, LabError, run, run_logged, tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LABEL = "slipway.lab"
LABEL_INPUTS = "slipway.lab.inputs"
LABEL_STAND_IN = "slipway.standin"

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_FIRST_ANSWER = 10.0  # seconds until a registry must have named the image
_PULL_LIMIT = 900.0  # seconds


@dataclass(frozen=True)
class Image:
    """An image that the daemon has."""

    identity: str
    labels: Mapping[str, str]
    size: int  # bytes

    @property
    def is_stand_in(self) -> bool:
        return self.labels.get(LABEL_STAND_IN) == "true"


def find_image(name: str) -> Image | None:
    """Return what the daemon has under this name, or None."""
    found = _inspect("image", name)
    if found is None:
        return None
    return Image(found["Id"], (found.get("Config") or {}).get("Labels") or {}, found["Size"])


def _inspect(kind: str, name: str) -> dict[str, Any] | None:
    try:
        found: list[dict[str, Any]] = json.loads(run("docker", kind, "inspect", name, timeout=60))
    except CommandError as error:
        if "no such" in error.output.lower():
            return None
        raise
    return found[0]


def find_container(name: str) -> dict[str, Any] | None:
    """Return what ``docker inspect`` says of a container, or None when there is none of this name."""
    return _inspect("container", name)


def tag(image: str, name: str) -> None:
    run("docker", "tag", image, name, timeout=60)


def pull(image: str) -> None:
    """Pull an image.

    Raises:
        LabError: No registry answered within a few seconds, or it does not give us the image; the message is the
            registry's own words.
    """
    argv = ("docker", "pull", image)
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as client:
        stdout, stderr = client.stdout, client.stderr
        if stdout is None or stderr is None:
            raise AssertionError("both are pipes")
        impatience = Timer(_FIRST_ANSWER, client.kill)
        impatience.start()
        first = stdout.readline()  # "17: Pulling from library/postgres", written when the registry knows the image
        impatience.cancel()
        limit = Timer(_PULL_LIMIT, client.kill)
        limit.start()
        _, fault = client.communicate()
        limit.cancel()
    if client.returncode == 0:
        return
    if fault.strip():
        raise LabError(fault.strip().splitlines()[-1])
    raise LabError("the download took too long" if first else f"no answer within {_FIRST_ANSWER:.0f} s")


def build(directory: Path, name: str, *, labels: Mapping[str, str], arguments: Mapping[str, str], log: Path) -> None:
    """Build an image with whatever builder the client has; proxies of the environment are passed on."""
    argv = ["docker", "build", "--tag", name]
    for key, value in labels.items():
        argv += ["--label", f"{key}={value}"]
    for key, value in arguments.items():
        argv += ["--build-arg", f"{key}={value}"]
    for proxy in _PROXIES:
        if proxy in os.environ:
            argv += ["--build-arg", proxy]
    # Bases are local images, which only the daemon's own builder sees.
    run_logged([*argv, str(directory)], log, {"BUILDX_BUILDER": "default"})


def import_root(root: Path, name: str, labels: Mapping[str, str]) -> None:
    """Make an image of one layer from a directory that holds a root file system."""
    changes = [item for key, value in labels.items() for item in ("--change", f"LABEL {key}={value}")]
    with subprocess.Popen(
        ["tar", "--numeric-owner", "-C", str(root), "-c", "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as archive:
        done = subprocess.run(
            ["docker", "import", *changes, "--change", 'CMD ["bash"]', "-", name],
            stdin=archive.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if archive.returncode or done.returncode:
        raise LabError(f"`docker import` of {name} failed: {done.stderr.strip() or 'tar could not read it all'}")


def execute(container: str, *argv: str, stdin: str | None = None, timeout: float = 60) -> str:
    """Run a command as root in a container and return its standard output."""
    return run("docker", "exec", "-i", container, *argv, stdin=stdin, timeout=timeout)


def names(*filters: str) -> list[str]:
    """Return the names of all containers, running or not, that match the filters."""
    options = [item for value in filters for item in ("--filter", value)]
    return sorted(run("docker", "ps", "--all", "--format", "{{.Names}}", *options, timeout=60).split())


def logs(container: str) -> str:
    """Return the end of what a container wrote, indented for a message."""
    done = subprocess.run(
        ["docker", "logs", "--tail", "15", container],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return tail(done.stdout)


def start(argv: Sequence[str]) -> None:
    """Run ``docker run --detach`` with these further arguments."""
    run("docker", "run", "--detach", *argv, timeout=120)
