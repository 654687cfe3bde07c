"""Hosts: systemd containers with an ssh port and web ports on the loopback address of this machine."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import docker
from lab.report import say, step
from lab.shell import CommandError, LabError, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ADDRESS = "127.0.0.1"
USER = "deploy"
MOST = 20
_BOOT_LIMIT = 90.0  # seconds
_SSH_LIMIT = 30.0  # seconds

# What systemd and a Docker inside need, in place of --privileged.
_CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")
_PROFILES = ("seccomp", "apparmor")
DOCKER_DISK = "/var/lib/docker"
"""A volume on every host: on overlayfs of its own Docker inside would fall back to copying whole layers."""

# With a user and a public key as arguments. Keys of other checkouts that use the same hosts stay.
_AUTHORIZE = """
cd "/home/$1"
install -d -m 0700 -o "$1" -g "$1" .ssh
grep -qsxF "$2" .ssh/authorized_keys || echo "$2" >>.ssh/authorized_keys
chown "$1:$1" .ssh/authorized_keys
chmod 0600 .ssh/authorized_keys
"""


def container_arguments(disk: str = "") -> list[str]:
    """Return the arguments of ``docker run`` that make a container a host.

    Args:
        disk: The volume on which its own Docker keeps images and containers; a new one of no name when empty.
    """
    arguments = [word for capability in _CAPABILITIES for word in ("--cap-add", capability)]
    arguments += [word for profile in _PROFILES for word in ("--security-opt", f"{profile}=unconfined")]
    arguments += ["--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/run/lock"]
    return [*arguments, "--volume", f"{disk}:{DOCKER_DISK}" if disk else DOCKER_DISK]


@dataclass(frozen=True)
class Host:
    """One host by its number, from 1."""

    number: int

    @property
    def name(self) -> str:
        return f"web{self.number}"

    @property
    def container(self) -> str:
        return f"slipway-{self.name}"

    @property
    def ssh_port(self) -> int:
        return 2210 + self.number

    @property
    def http_port(self) -> int:
        return 8080 + self.number

    @property
    def https_port(self) -> int:
        return 8440 + self.number

    def run_arguments(self, image: str) -> list[str]:
        """Return the arguments of ``docker run`` that make it."""
        arguments = ["--name", self.container, "--hostname", self.name, "--label", f"{docker.LABEL}=true"]
        arguments += container_arguments()
        # `reboot` inside ends the container; as on a real machine it comes back by itself.
        arguments += ["--restart", "unless-stopped"]
        for outside, inside in ((self.ssh_port, 22), (self.http_port, 80), (self.https_port, 443)):
            arguments += ["--publish", f"{ADDRESS}:{outside}:{inside}"]
        return [*arguments, image]

    def known_host(self, public_key: str) -> str:
        """Return the line of a known_hosts file for a public key in OpenSSH's format."""
        algorithm, key = public_key.split()[:2]
        return f"[{ADDRESS}]:{self.ssh_port} {algorithm} {key}"


class Lab:
    """The hosts of one checkout, with the key and the known_hosts file in its state directory."""

    def __init__(self, state: Path) -> None:
        self._key = state / "id_ed25519"
        self._known_hosts = state / "known_hosts"

    def up(self, hosts: Iterable[Host], image_name: str) -> None:
        """Start the hosts that do not run, and wait until each has booted and lets us in by ssh.

        Raises:
            LabError: The image is missing, a port is taken, or a host does not come up.
        """
        hosts = list(hosts)
        image = docker.find_image(image_name)
        if image is None:
            raise LabError(f"The image {image_name} is missing. Make it with: python3 -m lab images")
        public_key = self._ensure_key()
        with ThreadPoolExecutor(len(hosts)) as pool:
            host_keys = list(pool.map(lambda host: self._start(host, image_name, image, public_key), hosts))
        self._remember(dict(zip(hosts, host_keys, strict=True)))
        with ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(self._await_ssh, hosts))
        for host in hosts:
            say(
                host.name,
                f"ssh -i {_short(self._key)} -o UserKnownHostsFile={_short(self._known_hosts)} -p {host.ssh_port} "
                f"{USER}@{ADDRESS}",
            )

    def down(self) -> None:
        """Remove every host with its disk, and forget their keys."""
        containers = docker.names(f"label={docker.LABEL}=true")
        if containers:
            with step("hosts", f"removing {', '.join(containers)} with their disks"):
                run("docker", "rm", "--force", "--volumes", *containers, timeout=120)
        else:
            say("hosts", "there are none")
        self._known_hosts.unlink(missing_ok=True)

    def status(self) -> None:
        """Print a line for each host."""
        containers = docker.names(f"label={docker.LABEL}=true")
        if not containers:
            say("hosts", "there are none; start one with: python3 -m lab up")
        for container in containers:
            number = container.removeprefix("slipway-web")
            if not number.isdigit():
                say(container, "not a host of `lab up`, yet it carries the lab's label")
                continue
            host = Host(int(number))
            found = docker.find_container(container)
            running = bool(found and found["State"]["Running"])
            state = _describe(container) if running else "stopped; start it with: python3 -m lab up"
            say(host.name, f"{state}; ssh {host.ssh_port}, http {host.http_port}, https {host.https_port}")

    def _ensure_key(self) -> str:
        public = self._key.with_suffix(".pub")
        if not (self._key.is_file() and public.is_file()):
            self._key.unlink(missing_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "slipway-lab", "-f", str(self._key))
        return public.read_text().strip()

    def _start(self, host: Host, image_name: str, image: docker.Image, public_key: str) -> str:
        """Bring one host to the end of its boot and return its public host key."""
        found = docker.find_container(host.container)
        if found and found["Image"] != image.identity:
            say(host.name, "was made from an older image; to renew it: python3 -m lab down")
        if found and found["State"]["Running"]:
            say(host.name, "runs already, left as it is")
            await_boot(host.container)
        else:
            with step(host.name, f"starting {image_name}" + (" again" if found else "")):
                _start_container(host, image_name, exists=found is not None)
                await_boot(host.container)
        state = _describe(host.container)
        if state != "running":
            say(host.name, state)
        docker.execute(host.container, "sh", "-euc", _AUTHORIZE, "authorize", USER, public_key)
        return docker.execute(host.container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub")

    def _remember(self, host_keys: dict[Host, str]) -> None:
        """Write the host keys, which Docker told us and not the network, and keep those of other hosts."""
        lines = {host.known_host(key) for host, key in host_keys.items()}
        names = {line.split()[0] for line in lines}
        if self._known_hosts.is_file():
            lines |= {
                line for line in self._known_hosts.read_text().splitlines() if line and line.split()[0] not in names
            }
        self._known_hosts.write_text("".join(f"{line}\n" for line in sorted(lines)))

    def _await_ssh(self, host: Host) -> None:
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=5", "IdentitiesOnly=yes")
        argv = ["ssh", "-F", "none", "-i", str(self._key), "-p", str(host.ssh_port)]
        for option in (*options, f"UserKnownHostsFile={self._known_hosts}"):
            argv += ["-o", option]
        deadline = time.monotonic() + _SSH_LIMIT
        while True:
            try:
                run(*argv, f"{USER}@{ADDRESS}", "sudo -n true", timeout=20)
            except CommandError as error:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"{host.name} does not let us in by ssh on {ADDRESS}:{host.ssh_port}: {error.output}\n"
                        f"See what its sshd says: docker exec {host.container} journalctl -u ssh"
                    ) from error
                time.sleep(0.3)
            else:
                return


def _start_container(host: Host, image_name: str, *, exists: bool) -> None:
    try:
        if exists:
            run("docker", "start", host.container, timeout=120)
        else:
            docker.start(host.run_arguments(image_name))
    except CommandError as error:
        if not exists:
            run("docker", "rm", "--force", "--volumes", host.container, timeout=60)
        if "already" in error.output and ("port" in error.output or "address" in error.output):
            raise LabError(
                f"{host.name} needs the ports {host.ssh_port}, {host.http_port} and {host.https_port} of {ADDRESS}, "
                f"and one of them is taken:\n    {error.output.splitlines()[0]}\n"
                "End what listens there and run this again."
            ) from error
        raise


def await_boot(container: str) -> None:
    """Wait until systemd has started everything.

    Raises:
        LabError: The container ended, or the time was up.
    """
    deadline = time.monotonic() + _BOOT_LIMIT
    restarts = None
    while True:
        state = _system_state(container)
        if state in {"running", "degraded"}:
            return
        found = docker.find_container(container)
        if restarts is None and found:
            restarts = found["RestartCount"]
        if not (found and found["State"]["Running"] and found["RestartCount"] == restarts):
            raise LabError(
                f"{container} ended while it booted. Its last words:\n{docker.logs(container)}\n"
                f"Remove it with: docker rm --force --volumes {container}"
            )
        if time.monotonic() > deadline:
            jobs = docker.execute(container, "systemctl", "list-jobs", "--no-legend")
            raise LabError(
                f"{container} is still `{state}` after {_BOOT_LIMIT:.0f} s, waiting for:\n{jobs}"
                f"Look inside with: docker exec -it {container} bash"
            )
        time.sleep(0.25)


def _system_state(container: str) -> str:
    try:
        return docker.execute(container, "systemctl", "is-system-running").strip()
    except CommandError as error:  # the status is 1 for every state other than running
        return error.output.strip()


def _describe(container: str) -> str:
    """Return ``running``, or what systemd says instead with the units that failed."""
    state = _system_state(container)
    if state != "degraded":
        return state
    failed = docker.execute(container, "systemctl", "list-units", "--failed", "--plain", "--no-legend")
    units = ", ".join(line.split()[0] for line in failed.splitlines() if line.strip())
    return f"degraded, these units failed: {units} (docker exec {container} systemctl status UNIT)"


def _short(path: Path) -> str:
    return os.path.relpath(path)
