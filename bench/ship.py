"""`python3 -m bench.ship` compares ways of an image to 1, 5 and 10 hosts: the role, `docker save | ssh`, a registry.

The image is the reference app's. Each way is measured with hosts that have nothing of it, and again after a change of
code; in turn with the others, in one run. Bytes are those that arrive at the hosts' network interfaces, seconds those
of the whole command with new SSH connections: the role's include Ansible's own start, the registry's include the push.
Controller, registry and hosts share one machine and no slow network is between them, so bytes and ratios are what
counts. Needs Docker and the images of `python3 -m lab images`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.docker import ROOT, build, docker, size
from bench.image import append, prepare

NETWORK, SUBNET = "slipway-bench-ship", "172.29.91"
REGISTRY, REGISTRY_PORT = f"{SUBNET}.3", 15991
MODEL = "slipway.bench/docker-host"
NAME = "slipway-bench/app"
BASE = "slipway.lab/python:3.13"
HOST = [
    *(part for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH") for part in ("--cap-add", name)),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--network", NETWORK),
]
# Nobody logs in: what is measured is the way of the bytes.
REGISTRY_CONFIG = {
    "version": 0.1,
    "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}},
    "http": {"addr": ":5000"},
}
PACKAGES = "docker.io docker-cli docker-registry"
DAEMON = {"insecure-registries": [f"{REGISTRY}:5000"]}
SHIP, SAVE, PULL = "this role", "`docker save \\| ssh docker load`", "registry, push and pull"


@dataclass
class Figures:
    """Of one way and number of hosts: bytes to all hosts, and seconds, for each time."""

    moved: dict[str, list[int]] = field(default_factory=lambda: {"first": [], "code": []})
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"first": [], "code": []})


@dataclass
class Bench:
    """The hosts, and the three ways to them."""

    directory: Path
    hosts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    def start(self, name: str, address: str, image: str = MODEL) -> None:
        docker("run", "--detach", "--name", name, "--hostname", name, "--ip", address, "--volume", "/var/lib/docker",
               *HOST, image)  # fmt: skip

    def let_in(self, name: str, address: str) -> None:
        """Wait until Docker answers on a host and it lets us in, and note its key."""
        public = self.key.with_suffix(".pub").read_text().strip()
        wait(f"{name} to start", lambda: docker("exec", name, "docker", "info", "--format", "{{.ID}}"))
        docker(
            "exec", name, "sh", "-c",
            "cd /home/deploy && install -d -m 0700 -o deploy -g deploy .ssh && usermod --append --groups docker deploy"
            f" && echo '{public}' >.ssh/authorized_keys && chown deploy: .ssh/authorized_keys",
        )  # fmt: skip
        host_key = docker("exec", name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        with (self.directory / "known_hosts").open("a") as stream:
            stream.write(f"{address} {host_key[0]} {host_key[1]}\n")
        wait(
            f"{name} to let us in",
            lambda: subprocess.run([*self.ssh(address), "true"], check=True, stderr=subprocess.DEVNULL),
        )
        self.hosts[name] = address

    def ssh(self, address: str) -> list[str]:
        options = {"UserKnownHostsFile": self.directory / "known_hosts", "BatchMode": "yes", "IdentityFile": self.key}
        return ["ssh", *(part for name, value in options.items() for part in ("-o", f"{name}={value}")),
                f"deploy@{address}"]  # fmt: skip

    def received(self) -> int:
        """Bytes that arrived at the hosts since they were started."""
        return sum(int(docker("exec", name, "cat", "/sys/class/net/eth0/statistics/rx_bytes")) for name in self.hosts)

    def empty(self) -> None:
        """No host has an image, and neither the role's cache nor the registry has a layer."""
        for name in self.hosts:
            docker("exec", name, "sh", "-c", "docker image ls --all --quiet | xargs -r docker image rm --force")
        shutil.rmtree(self.directory / "cache", ignore_errors=True)
        renew = "systemctl stop docker-registry; rm -rf /var/lib/docker-registry/*; systemctl start docker-registry"
        docker("exec", "bench-ship-registry", "sh", "-c", renew)
        wait("the registry", lambda: docker("exec", "bench-ship-registry", "curl", "-fsS", "http://127.0.0.1:5000/v2/"))

    def measured(self, work: Callable[[str], None], tag: str) -> tuple[int, float]:
        """Bytes to all hosts, and seconds."""
        before, begin = self.received(), time.monotonic()
        work(tag)
        return self.received() - before, time.monotonic() - begin

    def run(self, command: Sequence[str], **variables: str) -> None:
        result = subprocess.run(
            command, cwd=self.directory, env=os.environ | variables, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise SystemExit(f"{' '.join(command[:3])} ended with {result.returncode}:\n{result.stdout[-4000:]}")

    def everywhere(self, line: Callable[[list[str]], str]) -> None:
        """Run a shell command for each host, all at once; it is made of the ssh command of the host."""
        lines = [f'({line(self.ssh(address))}) & jobs="$jobs $!"' for address in self.hosts.values()]
        self.run(["sh", "-ec", "\n".join([*lines, "for job in $jobs; do wait $job; done"])])

    def ship(self, tag: str) -> None:
        inventory, playbook = self.directory / "hosts.yml", self.directory / "ship.yml"
        common: dict[str, Any] = {
            "ansible_user": "deploy",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory / 'known_hosts'}",
            "fastapi_app_name": "app",
            "fastapi_image_source": "ship",
            "fastapi_image_name": f"{NAME}:{tag}",
            "fastapi_image_disk_reserve": 0,
        }
        hosts = {name: {"ansible_host": address} for name, address in self.hosts.items()}
        inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common}}))
        play = {"hosts": "all", "become": True, "gather_facts": False, "roles": ["slipway.fleet.fastapi_image"]}
        playbook.write_text(yaml.safe_dump([play]))
        with tempfile.TemporaryDirectory(prefix="cp", dir="/tmp") as control:  # no command has another's connections
            self.run(
                [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(playbook)],
                ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
                ANSIBLE_SSH_CONTROL_PATH_DIR=control,
                XDG_CACHE_HOME=str(self.directory / "cache"),
            )

    def save(self, tag: str) -> None:
        self.everywhere(lambda ssh: f"docker save {NAME}:{tag} | {' '.join(ssh)} docker load --quiet")

    def pull(self, tag: str) -> None:
        # What is on the loopback address needs no TLS.
        here = f"127.0.0.1:{REGISTRY_PORT}/{NAME}:{tag}"
        docker("tag", f"{NAME}:{tag}", here)
        docker("push", "--quiet", here)
        docker("image", "rm", here)
        self.everywhere(lambda ssh: f"{' '.join(ssh)} docker pull --quiet {REGISTRY}:5000/{NAME}:{tag}")


def wait(what: str, done: Callable[[], object], limit: float = 300) -> None:
    deadline = time.monotonic() + limit
    while True:
        try:
            done()
        except (SystemExit, subprocess.CalledProcessError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {limit:.0f} s for {what}: {error}") from error
            time.sleep(0.5)
        else:
            return


@contextmanager
def model(bench: Bench) -> Iterator[None]:
    """The network, an image of a host with Docker, and the registry; afterwards nothing of them is left."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(bench.key)], check=True)
    docker("network", "create", "--subnet", f"{SUBNET}.0/24", NETWORK)
    try:
        say("a host with Docker as the model of all, and a registry")
        bench.start("bench-ship-model", f"{SUBNET}.2", "slipway.lab/host:trixie")
        wait("the model to start", lambda: docker("exec", "bench-ship-model", "systemctl", "is-active", "ssh"))
        docker(
            "exec", "bench-ship-model", "sh", "-ec",
            f"mkdir -p /etc/docker && echo '{json.dumps(DAEMON)}' > /etc/docker/daemon.json && apt-get update -qq"
            f" && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends {PACKAGES} iptables"
            " && systemctl disable --now docker-registry"
            f" && echo '{json.dumps(REGISTRY_CONFIG)}' > /etc/docker/registry/config.yml && rm -f /etc/ssh/ssh_host_*"
            " && ssh-keygen -q -A && sync",
        )  # fmt: skip
        docker("commit", "bench-ship-model", MODEL)
        docker("rm", "--force", "--volumes", "bench-ship-model")
        docker("run", "--detach", "--name", "bench-ship-registry", "--ip", REGISTRY,
               "--publish", f"127.0.0.1:{REGISTRY_PORT}:5000", *HOST, MODEL)  # fmt: skip
        yield
    finally:
        for name in ("bench-ship-model", "bench-ship-registry", *bench.hosts):
            subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
        docker("network", "rm", NETWORK)
        for image in (MODEL, f"{NAME}:first", f"{NAME}:code"):
            subprocess.run(["docker", "image", "rm", image], capture_output=True, check=False)


def measure(bench: Bench, rounds: int) -> dict[str, Figures]:
    """All ways in turn, each with empty hosts and after a change of code."""
    ways = {SHIP: bench.ship, SAVE: bench.save, PULL: bench.pull}
    found = {name: Figures() for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            bench.empty()
            for kind in ("first", "code"):
                moved, seconds = bench.measured(work, kind)
                say(f"  {name}, {kind}: {moved / 1e6:.1f} MB, {seconds:.1f} s")
                found[name].moved[kind].append(moved)
                found[name].seconds[kind].append(seconds)
    return found


def table(results: dict[int, dict[str, Figures]]) -> str:
    """The table, in Markdown; ratios are against `docker save` with the same number of hosts."""
    lines = [
        "| hosts | way | first, MB a host | ratio | first, s | ratio | code, MB a host | ratio | code, s | ratio |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, found in results.items():
        for name, figures in found.items():
            cells = []
            for kind in ("first", "code"):
                moved, usual = (statistics.median(one.moved[kind]) for one in (figures, found[SAVE]))
                seconds, slow = (statistics.median(one.seconds[kind]) for one in (figures, found[SAVE]))
                cells += [f"{moved / count / 1e6:.2f}", f"{moved / usual:.3f}"]
                cells += [f"{seconds:.1f}", f"{seconds / slow:.2f}"]
            lines.append(f"| {count} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.ship", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("count", nargs="*", type=int, default=[1, 5, 10], help="numbers of hosts")
    parser.add_argument("--rounds", type=int, default=1, help="how often each way is measured; the median counts")
    options = parser.parse_args(arguments)
    results: dict[int, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        bench = Bench(Path(directory))
        context = Path(directory, "context")
        prepare(context, None)
        for tag in ("first", "code"):
            build(context, BASE, f"{NAME}:{tag}")
            append(context / "app" / "__init__.py")
        with model(bench):
            for count in sorted(options.count):
                fresh = [number for number in range(1, count + 1) if f"bench-ship-{number}" not in bench.hosts]
                for number in fresh:
                    bench.start(f"bench-ship-{number}", f"{SUBNET}.{number + 10}")
                for number in fresh:
                    bench.let_in(f"bench-ship-{number}", f"{SUBNET}.{number + 10}")
                say(f"{count} hosts")
                results[count] = measure(bench, options.rounds)
            image = size(f"{NAME}:first")
    print(f"\nAn image of {image / 1e6:.0f} MB.\n\n{table(results)}")


if __name__ == "__main__":
    main()
