"""What a provisioned host has promised, read from its inventory, and ways to look whether it holds."""

from __future__ import annotations

import base64
import fnmatch
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import ansible_runs
import yaml

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(__file__).resolve().parent

# Seconds until a wait is given up that is no promise of its own: more than anything takes on a machine with other work.
PATIENCE = 600.0
# Seconds that one answer may take where none is promised: what is looked at is what it says.
ANSWER = 60.0
# Environment of Ansible's commands; Molecule would have them in colours. The scenarios have the lab's variables.
PLAIN = {
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "inventories/lab/.vault_password"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
}
# Where a secret could have been left. /proc stands for the arguments and the environment of every process.
SEARCHED = (
    *("/etc", "/opt", "/root", "/home", "/run", "/tmp", "/var/tmp", "/var/log", "/var/lib/haproxy", "/dev/shm"),
    *("/var/lib/docker/containers", "/var/lib/docker/image", "/var/spool", "/proc"),
)
SAID = (
    "journalctl --no-pager --all",
    "ps axww",
    "systemctl show '*'",
    "docker ps --all --quiet | xargs --no-run-if-empty docker inspect",
    "docker ps --all --quiet | xargs --no-run-if-empty --max-args=1 docker logs",
    "docker image ls --quiet | xargs --no-run-if-empty --max-args=1 docker history --no-trunc",
    "ls /opt/slipway/*/compose*.y*ml /opt/slipway/*/releases/*/compose*.y*ml | xargs -I@ docker compose -f @ config",
)
# The one place of a secret: a file that only its reader can open.
SECRET_FILES = (
    "/opt/slipway/*/releases/*/secrets/*",
    "/opt/slipway/*/secrets/*",
    "/etc/haproxy/tls/*",
    # Where systemd gives a service its credentials, in memory.
    "/run/credentials/slipway-*/*",
)


@dataclass(frozen=True)
class Promise:
    """What the inventory says of one host, with the roles' defaults."""

    app: str
    runtime: str
    uid: int
    memory_mib: int
    pids: int
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def root(self) -> str:
        return f"/opt/slipway/{self.app}"

    @property
    def sockets(self) -> str:
        return f"/run/slipway/{self.app}"


# Seconds between two looks at what stays as it is once it is so. A look into a host takes a tenth of a second of a
# processor, and a wait for a drain would have half of one.
SELDOM = 0.5


def until(ready: Callable[[], bool], what: str, seconds: float = PATIENCE, every: float = 0.1) -> float:
    """Wait until something is so, looking `every` so many seconds; returns the seconds that it took.

    What a look itself takes is not of the limit: one that was begun after it decides.
    """
    began = looked = time.monotonic()
    while not ready():
        assert looked - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(every)
        looked = time.monotonic()
    return time.monotonic() - began


def run_ansible(command: Sequence[str], limit: float = 3600) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's commands at the top of the checkout, with its configuration and without colours."""
    return ansible_runs.run(command, cwd=ROOT, env=os.environ | PLAIN, limit=limit)


def inventory_file() -> str:
    """The inventory under test: Molecule's, or SLIPWAY_INVENTORY."""
    found = os.environ.get("SLIPWAY_INVENTORY") or os.environ.get("MOLECULE_INVENTORY_FILE")
    if not found:
        raise LookupError("set SLIPWAY_INVENTORY to the inventory of the hosts to test")
    return found


@cache
def variables(name: str) -> Mapping[str, Any]:
    """The variables of a host, secrets included, over the defaults of the roles; nobody changes them."""
    values: dict[str, Any] = {}
    for defaults in sorted((ROOT / "roles").glob("*/defaults/main.yml")):
        values |= yaml.safe_load(defaults.read_text(encoding="utf-8")) or {}
    result = run_ansible(["ansible-inventory", "-i", inventory_file(), "--host", name])
    if result.returncode:
        raise LookupError(result.stdout)
    values |= json.loads(result.stdout[result.stdout.index("{") :])
    return values


def promise_of(name: str) -> Promise:
    values = variables(name)
    return Promise(
        app=values["fastapi_app_name"],
        runtime=values["fastapi_app_runtime"],
        uid=int(values["fastapi_app_uid"]),
        memory_mib=int(values["fastapi_app_memory_mib"]),
        pids=int(values["fastapi_app_pids"]),
        secrets={key: str(value) for key, value in values.items() if key.startswith("vault_")},
    )


def read_json(host: Any, path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(host.file(path).content_string)
    return content


def get(host: Any, path: str) -> tuple[int, str]:
    """Status and body of GET through the edge, asked on the host itself."""
    script = (
        f"import sys, http.client; c = http.client.HTTPConnection('127.0.0.1', 80, timeout={ANSWER});"
        f" c.request('GET', {path!r}); r = c.getresponse(); print(r.status); sys.stdout.write(r.read().decode())"
    )
    status, _, body = host.check_output(f"python3 -c {quoted(script)}").partition("\n")
    return int(status), body


def app_processes(host: Any, promise: Promise) -> list[int]:
    """Process ids of the app, as the host sees them."""
    if promise.runtime == "compose":
        listed = of_each_container(host, "docker top {} -o pid", f"--filter label=slipway.app={promise.app}")
        pids = [int(word) for word in "\n".join(listed).split() if word.isdigit()]
        found = " ".join(map(str, without_runtime(host, pids)))
    else:
        group = shown(host, live_unit(host, promise), "ControlGroup")
        found = host.check_output(
            f"cd /sys/fs/cgroup; cat '.{group}/cgroup.procs' 'systemd{group}/cgroup.procs' 2>/dev/null || true"
        )
    return sorted({int(word) for word in found.split() if word.isdigit()})


def of_each_container(host: Any, command: str, filters: str = "") -> list[str]:
    """What a command says of each container that runs and is still there when its turn comes."""
    names = host.check_output(f"docker ps --quiet {filters}").split()
    results = [host.run(command.format(name)) for name in names]
    return [result.stdout for result in results if result.rc == 0]


def live_slot(host: Any, promise: Promise) -> str:
    """The slot that serves, as recorded."""
    return str(read_json(host, f"{promise.root}/state.json")["slot"])


def live_unit(host: Any, promise: Promise) -> str:
    """The unit that serves, where the app runs under systemd."""
    return f"slipway-{promise.app}@{live_slot(host, promise)}.service"


def shown(host: Any, unit: str, name: str) -> str:
    """A property of a unit, as systemd shows it."""
    found: str = host.check_output(f"systemctl show --value --property={name} {unit}")
    return found


def running_slots(host: Any, promise: Promise) -> list[str]:
    """A line for each slot that runs or was left behind; another line for one that was restarted."""
    if promise.runtime == "compose":
        one_line = "--format '{{.ID}} {{.CreatedAt}}'"
        found = host.check_output(f"docker ps --all --filter label=slipway.app={promise.app} {one_line}")
        return list(found.splitlines())
    units = host.check_output(f"systemctl list-units --all --plain --no-legend 'slipway-{promise.app}@*'")
    names = [line.split()[0] for line in units.splitlines()]
    return [f"{unit} {shown(host, unit, 'InvocationID')} {shown(host, unit, 'NRestarts')}" for unit in names]


def process_files(host: Any, pids: Sequence[int], name: str) -> dict[int, str]:
    """A file of /proc of each process that is still there when its turn comes; a health check ends at any time."""
    script = f"""
import json
found = {{}}
for pid in {list(pids)!r}:
    try:
        with open(f"/proc/{{pid}}/{name}") as stream:
            found[pid] = stream.read()
    except (FileNotFoundError, ProcessLookupError):
        pass
print(json.dumps(found))
"""
    found: dict[str, str] = json.loads(host.check_output(f"python3 -c {quoted(script)}"))
    return {int(pid): content for pid, content in found.items() if content}


def without_runtime(host: Any, pids: Sequence[int]) -> list[int]:
    """Those that are no runtime of containers: a health check begins as one, as root, before it is what it runs."""
    names = process_files(host, pids, "comm")
    return [pid for pid, name in names.items() if not name.startswith("runc:")]


def process_statuses(host: Any, pids: Sequence[int]) -> list[dict[str, str]]:
    """/proc/PID/status of each process that is still there; a zombie, which has nothing left, is not."""
    statuses = [
        {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        for text in process_files(host, pids, "status").values()
    ]
    return [status for status in statuses if not status["State"].startswith(("Z", "X"))]


def requests_in_flight(host: Any, promise: Promise, slot: str) -> int:
    """Requests that the edge has given to a slot and that are not answered yet."""
    script = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock');"
        " s.sendall(b'show stat\\n'); print(s.makefile().read())"
    )
    for line in host.check_output(f"python3 -c {quoted(script)}").splitlines():
        if line.startswith(f"app_{promise.app},{slot},"):
            return int(line.split(",")[4])
    raise LookupError(f"the edge knows no slot {slot} of {promise.app}")


def quoted(script: str) -> str:
    """A Python expression for the shell that runs `script`, without a character that a shell or `ps` would show."""
    return f"\"import base64; exec(base64.b64decode('{base64.b64encode(script.encode()).decode()}'))\""


def find_secrets(host: Any, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every place on the host where one of the values stands: name of the value, place, and mode where it is a file."""
    __tracebackhide__ = True
    script = (SHARED / "find_secrets.py").read_text(encoding="utf-8")
    # As numbers: the script stands in the arguments of a process, in base64, which is looked for, too.
    codes = {name: list(value.encode()) for name, value in values.items()}
    call = f"\nmain({{name: bytes(one).decode() for name, one in {codes!r}.items()}}, {SEARCHED!r}, {SAID!r})\n"
    found: list[dict[str, Any]] = json.loads(host.check_output(f"python3 -c {quoted(script + call)}"))
    return found


def assert_no_secret(
    host: Any, values: Mapping[str, str], allowed_paths: Sequence[str] = SECRET_FILES, app: Promise | None = None
) -> None:
    """Fail with the place of each value that stands anywhere but in a file that only its owner can read.

    Args:
        host: testinfra's host
        values: name and text of the secrets; the texts never appear in a message
        allowed_paths: shell patterns of the files that hold secrets
        app: whose processes may have them as variables, which only its user and root can read
    """
    __tracebackhide__ = True  # pytest would show the arguments
    assert values, "no secret to look for: that would prove nothing"
    assert all(len(value) >= 12 for value in values.values()), "too short: it would be found by chance"
    found = [hit for hit in find_secrets(host, values) if not (app and _variable_of(hit, app))]
    in_place = [hit for hit in found if any(fnmatch.fnmatch(hit["place"], pattern) for pattern in allowed_paths)]
    elsewhere = [f"{hit['name']} in {hit['place']}" for hit in found if hit not in in_place]
    assert not elsewhere, elsewhere
    open_to_others = [hit for hit in in_place if int(hit["mode"] or "0", 8) & _forbidden(hit["place"])]
    assert not open_to_others, open_to_others


def _variable_of(hit: Mapping[str, Any], app: Promise) -> bool:
    """Whether a secret was found among the variables of a process of the app, and readable for its user alone."""
    of_process = fnmatch.fnmatch(hit["place"], "/proc/*/environ")
    return of_process and hit["uid"] == app.uid and not int(hit["mode"], 8) & 0o277


def _forbidden(place: str) -> int:
    """Mode bits that no secret may have. Of a credential, the group's are the mask of the service's own access list."""
    if "/log/journal/" in place:
        return 0o007  # journald's own files, for root and those who may read all logs
    return 0o237 if place.startswith("/run/credentials/") else 0o277


def scan_from_neighbour(address: str) -> list[int]:
    """TCP ports of an address that accept a connection from another container, of all 65535."""
    result = subprocess.run(
        ["docker", "run", "--rm", "--interactive", "slipway.lab/python:3.13", "python3", "-", address],
        input=(SHARED / "scan_ports.py").read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    ports: list[int] = json.loads(result.stdout)
    return ports
