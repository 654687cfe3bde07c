"""`python3 -m bench.fleet` compares the playbooks with an empty play and with bare SSH, over 1 to 50 hosts.

Hosts are small containers with systemd and sshd, copies of one that was provisioned and deployed by the real
playbooks (runtime systemd, one worker); a further host has database and cache. Each operation runs in turn with the
others, several times, with new SSH connections: seconds are those of the whole command, processor time and memory
(looked at once a second) those of the controller. Controller and hosts share one machine, so ratios are what counts.
Needs Docker and the images of `python3 -m lab images`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from bench.docker import ROOT, docker

NETWORK, SUBNET = "slipway-bench", "172.29.90"
DATA, MODEL = f"{SUBNET}.2", f"{SUBNET}.3"
IMAGE = "slipway.bench/host"
EMPTY_PLAY = ROOT / "bench/empty_play.yml"
INOTIFY_INSTANCES = 4096
NOTHING, CONFIGURATION, CODE = "deploy with nothing to do", "deploy of a new configuration", "deploy of changed code"
ROLLBACK, EMPTY, FLOOR = "rollback", "an empty play", "`ssh host sh -s`, all at once"
# All hosts at once: what a host more costs is asked here.
BATCHES = ["100%"]
# What systemd in a container needs in place of --privileged.
HOST = [
    *(part for name in ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH") for part in ("--cap-add", name)),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--network", NETWORK),
]
VARIABLES: dict[str, Any] = {
    "fastapi_app_name": "shortlinks",
    "fastapi_app_runtime": "systemd",
    "fastapi_app_command": ["gunicorn", "--config", "/srv/gunicorn_conf.py", "app.main:app"],
    "fastapi_app_check_command": ["gunicorn", "--check-config", "--config", "/srv/gunicorn_conf.py", "app.main:app"],
    "fastapi_app_migrations": "alembic",
    "fastapi_app_version_path": "/version",
    "fastapi_app_workers": 1,
    "fastapi_app_memory_mib": 256,
    "fastapi_app_disk_reserve": 0,
    # The measured time is the controller's, not that of users who leave.
    "fastapi_app_soak": 0,
    "fastapi_app_drain": 5,
    "fastapi_app_environment": {
        "DATABASE_URL": f"postgresql+asyncpg://shortlinks@{DATA}:5432/shortlinks",
        "REDIS_URL": f"redis://{DATA}:6379/0",
    },
    "fastapi_app_secrets": dict.fromkeys(
        ("DATABASE_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY"), "only-for-measurements"
    ),
    "postgres_provider": "native",
    "postgres_database": "shortlinks",
    "postgres_user": "shortlinks",
    "postgres_password": "only-for-measurements",
    "postgres_publish": f"{DATA}:5432",
    "postgres_max_connections": 400,
    "postgres_memory_mib": 512,
    "redis_provider": "native",
    "redis_password": "only-for-measurements",
    "redis_publish": f"{DATA}:6379",
    "slipway_probe_rate": 0,
}


@dataclass
class Figures:
    """What one command took: seconds, processor seconds of the controller, peak MiB of all its processes together."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    memory: float = 0

    def peak(self, memory: float) -> None:
        self.memory = max(self.memory, memory)

    @property
    def time(self) -> float:
        return statistics.median(self.seconds)

    @property
    def cpu(self) -> float:
        return statistics.median(self.processor)


def adopt_orphans() -> None:
    """Become the parent of processes whose own has ended (prctl(2), PR_SET_CHILD_SUBREAPER), to know what they took."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this system has no PR_SET_CHILD_SUBREAPER")


def reap_orphans() -> None:
    """Wait for those that end now, and for none that lives on, as a master connection of ssh does."""
    time.sleep(0.2)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def processor_of_children() -> float:
    """Seconds that processes took that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Bench:
    """The hosts of one run of the benchmark and the commands against them."""

    directory: Path
    started: list[str] = field(default_factory=list)

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    def ssh_options(self) -> list[str]:
        known = self.directory / "known_hosts"
        options = {"UserKnownHostsFile": known, "ConnectTimeout": 60, "BatchMode": "yes", "IdentityFile": self.key}
        return [part for name, value in options.items() for part in ("-o", f"{name}={value}")]

    def start(self, name: str, address: str, image: str, *options: str) -> None:
        docker("run", "--detach", "--name", name, "--hostname", name, "--ip", address, *HOST, *options, image)
        self.started.append(name)
        public = self.key.with_suffix(".pub").read_text().strip()
        script = (
            "cd /home/deploy && install -d -m 0700 -o deploy -g deploy .ssh"
            f" && echo '{public}' >.ssh/authorized_keys && chown deploy: .ssh/authorized_keys"
        )
        docker("exec", name, "sh", "-c", script)

    def remember(self, name: str, address: str) -> None:
        """Wait until the host lets us in, and note its key."""
        deadline = time.monotonic() + 300
        while True:
            try:
                key = docker("exec", name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
                with (self.directory / "known_hosts").open("a") as stream:
                    stream.write(f"{address} {key[0]} {key[1]}\n")
                break
            except SystemExit:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        command = ["ssh", *self.ssh_options(), f"deploy@{address}", "true"]
        while subprocess.run(command, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise SystemExit(f"{name} ({address}) does not let us in")
            time.sleep(0.5)

    def inventory(self, hosts: dict[str, str]) -> Path:
        """An inventory of these web hosts and the one with the data."""
        path = self.directory / f"inventory-{len(hosts)}.yml"
        everybody = hosts | {"bench-data": DATA}
        content = {
            "all": {
                "hosts": {name: {"ansible_host": address} for name, address in everybody.items()},
                "vars": {
                    **VARIABLES,
                    "fastapi_package_source": str(self.directory / "source"),
                    "ansible_user": "deploy",
                    "ansible_ssh_private_key_file": str(self.key),
                    "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory / 'known_hosts'}",
                },
            },
            "web": {"hosts": dict.fromkeys(hosts)},
            "data": {"hosts": {"bench-data": None}},
        }
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def playbook(self, inventory: Path, playbook: str, **variables: Any) -> list[str]:
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), playbook]
        return [*command, "-e", json.dumps(variables)]

    def measured(self, command: Sequence[str], memory: Callable[[float], None] | None = None) -> tuple[float, float]:
        """Seconds and processor seconds of a command that must succeed; with `memory` its use of that is told, too.

        What it leaves behind counts as well: Ansible does not wait for the process of its last task.
        """
        adopt_orphans()
        with tempfile.TemporaryDirectory(prefix="cp", dir="/tmp") as control:
            # Ansible's own modules came compiled; those of this checkout are where a user has not forbidden it.
            own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            environment = own | {
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                # No command has the connections of the one before.
                "ANSIBLE_SSH_CONTROL_PATH_DIR": control,
                "ANSIBLE_FORKS": "50",
                "SLIPWAY_WHO": "benchmark",
            }
            log = self.directory / "last.log"
            begin = time.monotonic()
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
                    stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
                ended = threading.Event()
                if memory:
                    threading.Thread(target=watch, args=(process.pid, ended, memory), daemon=True).start()
                before = processor_of_children()
                _, status, _ = os.wait4(process.pid, 0)
                seconds = time.monotonic() - begin
                ended.set()
                reap_orphans()
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise SystemExit(f"{' '.join(command[:4])} ended with {process.returncode}:\n{log.read_text()[-6000:]}")
            return seconds, processor_of_children() - before

    def changed(self, name: str) -> Path:
        """The source with a change of its code that it did not have before."""
        source = self.directory / "source"
        target = self.directory / "changed"
        shutil.copytree(source, target, dirs_exist_ok=True)
        (target / "app/__init__.py").write_text(f'"""{name}"""\n')
        return target

    def floor(self, addresses: Sequence[str]) -> list[str]:
        """A command that runs a small script on all hosts at once over SSH, and nothing else."""
        script = self.directory / "floor.sh"
        ssh = " ".join(["ssh", *self.ssh_options()])
        lines = [f"echo 'uname -m; df / | tail -1' | {ssh} deploy@{address} sh -s &" for address in addresses]
        script.write_text("\n".join([*lines, "wait"]) + "\n")
        return ["sh", str(script)]


def watch(session: int, ended: threading.Event, tell: Callable[[float], None]) -> None:
    """Tell the memory (PSS, MiB) of all processes of a session, soon and then once a second: looking takes time."""
    pause = 0.25
    while not ended.wait(pause):
        pause = 1.0
        total = 0
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                if int(status.read_text().rpartition(")")[2].split()[3]) == session:
                    rollup = status.with_name("smaps_rollup").read_text()
                    total += int(rollup.partition("\nPss:")[2].split()[0])
            except (OSError, ValueError, IndexError):
                continue  # it ended meanwhile
        tell(total / 1024)


@contextmanager
def network(bench: Bench) -> Iterator[None]:
    """The network and the host for database and cache; afterwards neither is left, nor any other host."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(bench.key)], check=True)
    ignored = shutil.ignore_patterns(".*", "__pycache__", "reports", "molecule")
    shutil.copytree(ROOT, bench.directory / "source", ignore=ignored)
    docker("network", "create", "--subnet", f"{SUBNET}.0/24", NETWORK)
    try:
        bench.start("bench-data", DATA, "slipway.lab/host:trixie")
        bench.remember("bench-data", DATA)
        yield
    finally:
        for name in bench.started:
            docker("rm", "--force", "--volumes", name)
        docker("network", "rm", NETWORK)


@contextmanager
def hosts(bench: Bench) -> Iterator[None]:
    """The network, the host with the data, and the image of a host that serves; afterwards nothing is left of them."""
    try:
        with network(bench):
            say("a host that is provisioned and deployed, as the model of all others")
            bench.start("bench-model", MODEL, "slipway.lab/host:trixie")
            bench.remember("bench-model", MODEL)
            inventory = bench.inventory({"bench-model": MODEL})
            bench.measured(bench.playbook(inventory, "slipway.fleet.site"))
            # A release before the one that serves, for the rollback.
            bench.measured(bench.playbook(inventory, "slipway.fleet.deploy", fastapi_app_revision="model"))
            docker("exec", "bench-model", "sync")
            docker("commit", "bench-model", IMAGE)
            docker("rm", "--force", "--volumes", "bench-model")
            bench.started.remove("bench-model")
            yield
    finally:
        subprocess.run(["docker", "image", "rm", IMAGE], capture_output=True, check=False)


@contextmanager
def room_for_many() -> Iterator[None]:
    """Let the kernel have enough of what each systemd takes; without it the twentieth does not boot."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    if int(before) < INOTIFY_INSTANCES:
        try:
            limit.write_text(str(INOTIFY_INSTANCES))
        except PermissionError:
            wanted = f"sudo sysctl fs.inotify.max_user_instances={INOTIFY_INSTANCES}"
            raise SystemExit(f"{limit} is {before.strip()}, too small for so many hosts; say: {wanted}") from None
    try:
        yield
    finally:
        if int(before) < INOTIFY_INSTANCES:
            limit.write_text(before)


def measure(bench: Bench, fleet: dict[str, str], rounds: int) -> dict[str, Figures]:
    """All commands in turn, as often as `rounds` says."""
    inventory = bench.inventory(fleet)
    revision = f"{len(fleet)} hosts"
    deploy = partial(bench.playbook, inventory, "slipway.fleet.deploy", slipway_batches=BATCHES)
    # Old and new hosts are on one release then.
    bench.measured(deploy(fastapi_app_revision=revision))
    found: dict[str, Figures] = {}
    for number in range(rounds):
        new = f"{revision}, {number}"
        for name, command in (
            (EMPTY, bench.playbook(inventory, str(EMPTY_PLAY))),
            (NOTHING, deploy(fastapi_app_revision=revision)),
            (CONFIGURATION, deploy(fastapi_app_revision=new)),
            (ROLLBACK, bench.playbook(inventory, "slipway.fleet.rollback", slipway_batches=BATCHES)),
            (CODE, deploy(fastapi_app_revision=new, fastapi_package_source=str(bench.changed(new)))),
            # Back to the release before, so that each round begins as the first one did.
            ("", bench.playbook(inventory, "slipway.fleet.rollback", slipway_batches=BATCHES)),
            (FLOOR, bench.floor(list(fleet.values()))),
        ):
            figures = found.setdefault(name, Figures())
            seconds, processor = bench.measured(command, figures.peak)
            if name:
                say(f"  {name}: {seconds:.1f} s, {processor:.1f} s of the processor, {figures.memory:.0f} MiB")
            figures.seconds.append(seconds)
            figures.processor.append(processor)
    return {name: figures for name, figures in found.items() if name}


def table(results: dict[int, dict[str, Figures]]) -> str:
    """The table, in Markdown; ratios against the empty play with the same number of hosts."""
    lines = [
        "| hosts | command | s | to the empty play | processor s | to the empty play | memory, MiB |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for count, found in results.items():
        empty = found[EMPTY]
        for name, figures in found.items():
            lines.append(
                f"| {count} | {name} | {figures.time:.1f} | {figures.time / empty.time:.2f} | {figures.cpu:.1f}"
                f" | {figures.cpu / empty.cpu:.2f} | {figures.memory:.0f} |"
            )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.fleet", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("count", nargs="*", type=int, default=[1, 5, 20, 50], help="numbers of hosts, ascending")
    parser.add_argument("--rounds", type=int, default=3, help="how often each command is measured; the median counts")
    options = parser.parse_args(arguments)
    results: dict[int, dict[str, Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        bench = Bench(Path(directory))
        with room_for_many(), hosts(bench):
            fleet: dict[str, str] = {}
            for count in sorted(options.count):
                say(f"{count} hosts")
                fresh = {f"bench-{number}": f"{SUBNET}.{number + 10}" for number in range(len(fleet) + 1, count + 1)}
                for name, address in fresh.items():
                    bench.start(name, address, IMAGE)
                for name, address in fresh.items():
                    bench.remember(name, address)
                fleet |= fresh
                results[count] = measure(bench, fleet, options.rounds)
                print(table({count: results[count]}), flush=True)
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
