"""The fleet under test: over SSH, as an operator reaches it, with ways to break its hosts and runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from contract import ANSWER, PATIENCE, PLAIN, ROOT, SELDOM, until
from deployment import Deployment, failure_in

WEB = {"slipway-web-a": "172.29.86.11", "slipway-web-b": "172.29.86.12", "slipway-web-c": "172.29.86.13"}
DATA, BALANCER = "slipway-data", "slipway-lb"
APP = "shortlinks"
# How the app reaches what it needs, with the login of the day, for tests that say more than that.
ENVIRONMENT = {
    "DATABASE_URL": "postgresql+asyncpg://{{ postgres_login }}@172.29.86.20:5432/shortlinks",
    "REDIS_URL": "redis://172.29.86.20:6379/0",
}
# Where it makes no difference in which order hosts turn over.
AT_ONCE = {"slipway_batches": ["100%"]}
HOME = f"/opt/slipway/{APP}"
# Containers of slots, without those of one-off commands, which end by themselves.
SLOTS = f"--filter label=slipway.app={APP} --filter label=com.docker.compose.oneoff=False"
# Until a run notices that a host does not answer: less than in real use, more than a busy machine is away for.
IMPATIENT = " ".join(
    f"-o {option}"
    for option in (
        *("ControlMaster=auto", "ControlPersist=30s"),
        *("ConnectTimeout=10", "ServerAliveInterval=3", "ServerAliveCountMax=3"),
    )
)


def on(host: str, command: str) -> str:
    """Run a shell command on a host, as its console would; returns what it printed."""
    result = subprocess.run(
        ["docker", "exec", host, "sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert result.returncode == 0, f"{host}: {command}: {result.stdout}{result.stderr}"
    return result.stdout


def over_ssh(directory: Path) -> str:
    """The fleet's inventory over SSH; returns its path."""
    addresses = WEB | {DATA: "172.29.86.20", BALANCER: "172.29.86.10"}
    (directory / "group_vars").symlink_to(ROOT / "molecule/rolling/group_vars")
    return ssh_inventory(directory, addresses, {"web": list(WEB), "data": [DATA], "load_balancer": [BALANCER]})


def ssh_inventory(directory: Path, addresses: dict[str, str], groups: dict[str, list[str]]) -> str:
    """Let a new key into every host, and write an inventory that uses it; returns its path."""
    key = directory / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    known = directory / "known_hosts"
    for host, address in addresses.items():
        on(
            host,
            "cd /home/deploy && install -d -m 0700 -o deploy -g deploy .ssh"
            f" && echo '{public}' >>.ssh/authorized_keys && chmod 0600 .ssh/authorized_keys"
            " && chown deploy: .ssh/authorized_keys",
        )
        host_key = " ".join(on(host, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
        with known.open("a") as stream:
            stream.write(f"{address} {host_key}\n")
    inventory = directory / "hosts.yml"
    inventory.write_text(
        yaml.safe_dump(
            {
                "all": {
                    "hosts": {host: {"ansible_host": address} for host, address in addresses.items()},
                    "vars": {
                        "ansible_user": "deploy",
                        "ansible_ssh_private_key_file": str(key),
                        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
                        "ansible_ssh_args": IMPATIENT,
                    },
                },
                **{group: {"hosts": dict.fromkeys(hosts)} for group, hosts in groups.items()},
            }
        )
    )
    return str(inventory)


@dataclass
class Run:
    """A playbook that runs meanwhile."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def reached(self, words: str, seconds: float = PATIENCE) -> None:
        """Wait until the output has these words."""
        deadline = time.monotonic() + seconds
        while words not in self.output():
            assert self.process.poll() is None, f"it ended before {words!r}: {failure_in(self.output())}"
            assert time.monotonic() < deadline, f"no {words!r} within {seconds:.0f} s:\n{self.output()[-4000:]}"
            time.sleep(0.05)

    def kill(self, number: signal.Signals) -> int:
        """Send a signal to ansible-playbook as a terminal or an operator does; returns its exit code."""
        if number is signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def wait(self, seconds: float = 3600) -> int:
        return self.process.wait(seconds)


@dataclass
class Fleet(Deployment):
    """The playbooks against the whole fleet, and what its hosts record."""

    def begin(self, playbook: str, *arguments: str, **variables: Any) -> Run:
        """Start a playbook without waiting for its end, in a process group of its own."""
        number = len(list(self.scratch.glob("run-*.log")))
        extra, log = self.scratch / f"run-{number}.json", self.scratch / f"run-{number}.log"
        extra.write_text(json.dumps(self.usual | variables), encoding="utf-8")
        command = ["ansible-playbook", "-i", self.inventory, f"slipway.fleet.{playbook}", "-e", f"@{extra}", *arguments]
        # Tests that run in the background of a shell ignore it, and so would what they start.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | PLAIN,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Run(process, log)

    def release(self, name: str, **variables: Any) -> dict[str, Any]:
        """Variables of a release that differs from others by its configuration."""
        return {"fastapi_app_revision": name, **variables}

    def states(self) -> dict[str, str]:
        """The release that each host has recorded as serving."""
        return {host: json.loads(on(host, f"cat {HOME}/state.json"))["release"] for host in WEB}

    def serving(self) -> dict[str, str]:
        """The release that each host's edge answers with."""
        return {host: self.serving_on(host) for host in WEB}

    def serving_on(self, host: str) -> str:
        url = "http://127.0.0.1/version"
        ask = f"import urllib.request as u; print(u.urlopen('{url}', timeout={ANSWER}).read().decode())"
        return str(json.loads(on(host, f'python3 -c "{ask}"'))["release"])

    def whole(self) -> str:
        """Wait until every transaction has ended by itself, and each host serves, alone, what it has recorded."""
        for host in WEB:
            until(lambda host=host: not self._busy(host), f"the transaction on {host} ends by itself", every=SELDOM)  # type: ignore[misc]
        states = self.states()
        assert self.serving() == states
        self._drained()
        return next(iter(set(states.values()))) if len(set(states.values())) == 1 else ""

    def _drained(self) -> None:
        """Wait until the other slot of each host, which may drain and holds up nobody, has ended."""
        for host in WEB:
            until(lambda host=host: self._slots(host) == 1, f"one slot runs on {host}", every=SELDOM)  # type: ignore[misc]

    def _slots(self, host: str) -> int:
        """How many slots run on the host."""
        return len(on(host, f"docker ps --quiet {SLOTS}").split())

    def under_way(self, host: str, run: Run) -> None:
        """Wait until a transaction of the run holds the app on the host."""

        def busy() -> bool:
            assert run.process.poll() is None, f"it ended before its transaction on {host}: {run.output()[-6000:]}"
            return self._busy(host)

        until(busy, f"a transaction begins on {host}")

    def _busy(self, host: str) -> bool:
        """Whether a transaction holds the app on the host."""
        return on(host, f"flock --shared --nonblock {HOME}/lock echo free || echo held").split() == ["held"]

    def unlocked(self, seconds: float = 60) -> float:
        """Wait until no host is held by a run, which is promised; returns how long it took."""
        return until(lambda: not self._held(), "the lock of a dead run is gone", seconds, every=SELDOM)

    def _held(self) -> bool:
        """Whether a run holds a host. The hosts are asked side by side, so that asking takes no part of the limit."""
        # A lease that old counts no more, and that of a killed controller is made so before its time.
        lease = f"/run/slipway/locks/{APP}.json"
        seen = f"seen=$(stat -c %Y {lease} 2>/dev/null) && up=$(cut -d. -f1 /proc/uptime)"
        ask = f"{seen} && [ $((up - seen)) -lt 120 ] && cat {lease} 2>/dev/null || true"
        with ThreadPoolExecutor(len(WEB)) as pool:
            return any("run" in said for said in pool.map(lambda host: on(host, ask), WEB))

    def serving_or_none(self, host: str) -> str | None:
        """The release that a host's edge answers with, None where nobody answers."""
        try:
            return self.serving_on(host)
        except AssertionError:
            return None

    def pids(self) -> dict[str, list[str]]:
        """Processes of the app on each host, as the host numbers them, once those of an earlier release have ended."""
        self._drained()
        return {host: sorted(on(host, "pgrep -f '[g]unicorn --config'").split()) for host in WEB}


@contextmanager
def unreachable(host: str) -> Iterator[None]:
    """The host answers its users, and not the operator: nothing of SSH gets in."""
    rule = "INPUT -p tcp --dport 22 -j DROP"
    on(host, f"iptables -I {rule}")
    try:
        yield
    finally:
        on(host, f"iptables -D {rule}")


ASK = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock');"
    " s.sendall(b'show {}\\n'); print(s.makefile().read())"
)


def edge_process() -> int:
    """The process of the load balancer that answers operators; 0 while none does."""
    try:
        said = on(BALANCER, f'python3 -c "{ASK.format("info")}"')
    except AssertionError:
        return 0
    return int(next(line for line in said.splitlines() if line.startswith("Pid:")).split()[1])


def drained() -> set[str]:
    """Hosts to which the load balancer was told to send nothing."""
    return {row["srv_name"] for row in _servers() if row["srv_admin_state"] != "0"}


def asked_by_tls() -> set[str]:
    """Hosts that the load balancer asks so."""
    return {row["srv_name"] for row in _servers() if row["srv_use_ssl"] == "1"}


def _servers() -> list[dict[str, str]]:
    """What the load balancer has of each host."""
    said = on(BALANCER, f'python3 -c "{ASK.format("servers state")}"').splitlines()
    names = next(line for line in said if line.startswith("# ")).split()[1:]
    return [dict(zip(names, line.split(), strict=False)) for line in said if f"app_{APP}" in line]


def in_pool(host: str) -> bool:
    """Whether the load balancer's own checks let a host get requests."""
    return any(row[17] == "UP" for row in _seen_of(host))


def sessions(host: str) -> int:
    """How many the load balancer has had with a host since it knows it, without those of its checks."""
    return sum(int(row[7]) for row in _seen_of(host))


def _seen_of(host: str) -> list[list[str]]:
    """The load balancer's line of statistics for a host, where it knows it."""
    said = on(BALANCER, f'python3 -c "{ASK.format("stat")}"').splitlines()
    return [line.split(",") for line in said if line.startswith(f"app_{APP},{host},")]


def table(output: str) -> dict[str, dict[str, str]]:
    """The table host / was / tried / now / outcome that a run prints, by host."""
    found: dict[str, dict[str, str]] = {}
    names: list[str] = []
    for line in output.splitlines():
        cells = re.split(r"\s{2,}", line.strip())
        if cells[:2] == ["host", "was"]:
            names = cells
        elif not line.strip():
            names = []
        elif names and cells[0] in WEB:
            found[cells[0]] = dict(zip(names, cells, strict=False))
    assert set(found) == set(WEB), output
    return found


def outcomes(output: str) -> list[str]:
    return [row["outcome"] for row in table(output).values()]
