"""A Docker daemon that answers: found, or on a Debian machine where we are root installed and started."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

from lab.report import say, step
from lab.shell import CommandError, LabError, run, tail

LOG = Path("/var/log/slipway-lab-dockerd.log")
OLDEST = (20, 10)
_START_LIMIT = 60.0  # seconds


def ensure() -> None:
    """Leave a daemon that answers alone; else install and start one.

    Raises:
        LabError: That is not possible here; the message says what a person can do.
    """
    fault = _fault()
    if fault is None:
        say("docker", f"{_describe()} answers")
        return
    if os.environ.get("DOCKER_HOST"):
        raise LabError(f"The Docker daemon that DOCKER_HOST names does not answer: {fault}")
    if not (sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get")):
        _ask_a_person(fault)
    if not (shutil.which("dockerd") and shutil.which("docker")):
        _install()
    _start()


def require() -> None:
    """Refuse to go on without a daemon that the lab can work with.

    Raises:
        LabError: None answers, it is too old, or it runs without root.
    """
    fault = _fault()
    if fault is not None:
        raise LabError(f"Docker does not answer: {fault}\nStart it with: python3 -m lab docker")
    info = json.loads(run("docker", "info", "--format", "{{json .}}", timeout=20))
    if any("rootless" in option for option in info.get("SecurityOptions") or []):
        raise LabError(
            "The Docker daemon runs rootless, and systemd hosts need CAP_SYS_ADMIN in it.\n"
            "Choose a daemon that runs as root, for example: docker context use default"
        )
    version = str(info["ServerVersion"])
    if not is_new_enough(version):
        raise LabError(f"Docker {version} is too old; the lab needs 20.10 or newer. Update the Docker daemon.")


def is_new_enough(version: str) -> bool:
    """Tell whether a version like ``20.10.24+dfsg1`` has private cgroup namespaces (20.10 and later)."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2]) >= OLDEST


def _fault() -> str | None:
    """Return why no daemon answers, or None when one does."""
    try:
        # Not `docker info`: with a format some clients call a daemon that is not there a success.
        run("docker", "version", "--format", "{{.Server.Version}}", timeout=20)
    except CommandError as error:
        return error.output.splitlines()[-1] if error.output else f"status {error.status}"
    except LabError as error:
        return str(error)
    return None


def _describe() -> str:
    return run(
        "docker", "info", "--format", "Docker {{.ServerVersion}} ({{.Driver}}, cgroup v{{.CgroupVersion}})"
    ).strip()


def _ask_a_person(fault: str) -> NoReturn:
    if sys.platform != "linux":
        advice = "Start Docker Desktop (or install it) and run this again."
    elif "permission denied" in fault.lower():
        advice = "Your user may not use it: sudo usermod -aG docker $USER, then log in again."
    elif shutil.which("apt-get"):
        advice = "Run this once as root, which installs and starts it: sudo python3 -m lab docker"
    else:
        advice = "Install Docker Engine 20.10 or newer from your distribution, start it, and run this again."
    raise LabError(f"Docker does not answer: {fault}\n{advice}")


def _install() -> None:
    with step("docker", "installing docker.io from the machine's own package source, because there is no daemon"):
        run("apt-get", "update", "-qq")
        packages = ["docker.io", "iptables"]
        if not shutil.which("docker") and run("apt-cache", "search", "--names-only", "^docker-cli$"):
            packages.append("docker-cli")  # a package of its own from Debian 13 on
        os.environ["DEBIAN_FRONTEND"] = "noninteractive"
        run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


def _start() -> None:
    """Start the daemon as a service where systemd runs, else as a process of its own that outlives us."""
    with step("docker", "starting the daemon") as result:
        if Path("/run/systemd/system").is_dir():
            run("systemctl", "start", "docker")
            process = None
        else:
            with LOG.open("ab") as log:
                process = subprocess.Popen(
                    ["dockerd"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
            result.append(f"its log is {LOG}")
        deadline = time.monotonic() + _START_LIMIT
        while fault := _fault():
            if process and process.poll() is not None:
                raise LabError(
                    f"dockerd ended with status {process.returncode}. "
                    f"The end of {LOG}:\n{tail(LOG.read_text(errors='replace'))}"
                )
            if time.monotonic() > deadline:
                raise LabError(f"dockerd does not answer after {_START_LIMIT:.0f} s: {fault}\nLook into {LOG}.")
            time.sleep(0.3)
    say("docker", f"{_describe()} answers")
