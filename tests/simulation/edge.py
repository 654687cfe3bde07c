"""HAProxy of a host, as far as a release can tell: admin states, checks, reload, restart.

What is claimed here of the real one is held against it by test_claims.py. Times in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tests.simulation.kernel import Alarm, Kernel

SLOTS = ("blue", "green")
STATE_FILE, CHECKS_FILE = "/var/lib/haproxy/server-state", "/var/lib/haproxy/health.map"
# What the role's configuration asks of a slot of which the map says nothing.
PATH = "/readyz"
# The second door of each slot, shut in the configuration until it is told otherwise, and a bit that says so.
PORTS = {"blue-port": "blue", "green-port": "green"}
DOORS = (*SLOTS, *PORTS)
CONFIGURED = 4
ADMIN = {"ready": 0, "drain": 8, "maint": 1}
# The role's configuration: a check a second, four failures in a row until a server counts as down, one pass until up.
CHECK_EVERY, FALL = 1.0, 4
HEADER = (
    "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state "
    "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port "
    "srv_check_addr srv_agent_addr srv_agent_port"
)


class Worker:
    """One process of HAProxy: what it was told and what it has seen. `view` is up, failing or down."""

    def __init__(self) -> None:
        self.admin = {door: "maint" if door in PORTS else "ready" for door in DOORS}
        self.up = {door: door not in PORTS for door in DOORS}
        self.passes = dict.fromkeys(DOORS, False)  # whether the last check passed
        self.checks: dict[str, Alarm | None] = dict.fromkeys(DOORS)
        self.asks: dict[str, str] = {}  # the map by which it looks at a slot, by BACKEND/SLOT


class HAProxy:
    """The edge of one host.

    `answers(slot)` tells what a check or a request would get now, and `by_port(slot)` by which door.
    """

    def __init__(
        self,
        kernel: Kernel,
        backend: str,
        answers: Callable[[str], bool],
        saved: Callable[[], str],
        changed: Callable[[], None],
        seen: Callable[[str], None],
        stored: Callable[[], str] = lambda: "",
        knows: Callable[[str, str], bool] = lambda slot, path: True,
        by_port: Callable[[str], bool] = lambda slot: False,
    ) -> None:
        self.kernel = kernel
        self.backend = backend
        self.answers = answers
        self.saved = saved
        self.changed = changed
        self.seen = seen
        self.stored = stored  # what is in the file of the map
        self.knows = knows  # whether what runs in a slot tells under a path how it is
        self.by_port = by_port
        self.running = True
        self.worker = Worker()
        self.stale: Worker | None = None  # an old one that still answers the admin socket once
        self.busy_until = dict.fromkeys(SLOTS, 0.0)
        self.connections = dict.fromkeys(SLOTS, 0)
        self._reloads = self._starts = 0
        for door in DOORS:
            self.check(self.worker, door)

    def gets_requests(self, slot: str) -> bool:
        """Whether a request may go to the slot now, by either door."""
        worker = self.worker
        return self.running and any(worker.admin[door] == "ready" and worker.up[door] for door in doors(slot))

    def enabled(self, slot: str) -> bool:
        """Whether a door of the slot is ready."""
        return any(self.worker.admin[door] == "ready" for door in doors(slot))

    def opened(self, door: str) -> bool:
        """Whether somebody answers behind a door."""
        slot = PORTS.get(door, door)
        return self.answers(slot) and self.by_port(slot) == (door in PORTS)

    # What the admin socket answers.
    def ask(self, command: str) -> str:
        """The answer to one line of commands. Raises ConnectionRefusedError where nothing answers."""
        return self._answers(self._answering(), command)

    def conversation(self) -> Callable[[str], str]:
        """What is asked over one connection: the worker that answers is the same. Raises as `ask` does."""
        worker, starts = self._answering(), self._starts

        def ask(command: str) -> str:
            if not self.running or self._starts != starts:
                raise ConnectionResetError(104, "Connection reset by peer")
            return self._answers(worker, command)

        return ask

    def _answering(self) -> Worker:
        if not self.running:
            raise ConnectionRefusedError(111, "Connection refused")
        worker, self.stale = self.stale or self.worker, None
        return worker

    def _answers(self, worker: Worker, command: str) -> str:
        return "\n".join(
            (self._map if " map " in part else self._one)(worker, part.strip()) for part in command.split(";")
        )

    def _one(self, worker: Worker, command: str) -> str:
        words = command.split()
        if words[:2] == ["show", "stat"]:
            return self._statistics(worker)
        if words[:3] == ["show", "servers", "state"]:
            return self._states(worker)
        if words[:2] == ["show", "info"]:
            return f"Name: HAProxy\nPid: {id(worker) % 30000}\nUptime_sec: 100\n"
        if words[:2] == ["set", "server"] and words[3] == "state":
            backend, _, slot = words[2].partition("/")
            if backend != self.backend or slot not in DOORS:
                return "No such server.\n"
            return self._set(worker, slot, words[4])
        return f"Unknown command: '{command}'\n"

    def _map(self, worker: Worker, command: str) -> str:
        words = command.split()
        if len(words) < 3 or words[2] != CHECKS_FILE:
            return "Unknown map identifier. Please use #<id> or <file>.\n\n"
        if words[0] == "show":
            return "".join(f"0x55d0 {key} {value}\n" for key, value in worker.asks.items()) + "\n"
        key, value = words[3:5]
        if words[0] == "set" and key not in worker.asks:
            return "entry not found.\n\n"
        worker.asks[key] = value
        if worker is self.worker:
            self.check(worker, key.partition("/")[2])
        return "\n"

    def path(self, worker: Worker, slot: str) -> str:
        """What its check of a slot asks for."""
        return worker.asks.get(f"{self.backend}/{slot}", PATH).partition("|")[0]

    def _set(self, worker: Worker, slot: str, state: str) -> str:
        if worker is not self.worker and self.kernel.random.random() < 0.5:  # it was told to go
            return "Proxy is disabled.\n"
        if worker.admin[slot] == "ready" and state == "drain":
            lasting = self.kernel.random.random()
            self.connections[slot] = self.kernel.random.randint(0, 3)
            self.busy_until[slot] = self.kernel.now + (0 if lasting < 0.5 else 3 * lasting if lasting < 0.95 else 60)
        before, worker.admin[slot] = worker.admin[slot], state
        if before == "maint" and state != "maint":
            self.check(worker, slot)
        elif state == "maint":
            worker.up[slot] = worker.passes[slot] = False
        self.changed()
        return "\n"

    def sessions(self, slot: str) -> int:
        """Requests in flight."""
        return self.connections[slot] if self.kernel.now < self.busy_until[slot] and self.answers(slot) else 0

    def _statistics(self, worker: Worker) -> str:
        rows = []
        for door in DOORS:
            up, passes, admin = worker.up[door], worker.passes[door], worker.admin[door]
            status = "MAINT" if admin == "maint" else "DOWN" if not up else "DRAIN" if admin == "drain" else "UP"
            sessions = self.sessions(PORTS.get(door, door))
            check = "" if admin == "maint" else "L7OK" if passes else "L4CON"
            rows.append((sessions if sessions and self.opened(door) else 0, status, check))
        return statistics(self.backend, tuple(rows))

    def _states(self, worker: Worker) -> str:
        return states(self.backend, tuple((worker.up[door], worker.admin[door]) for door in DOORS))

    # What it sees.
    def check(self, worker: Worker, door: str) -> None:
        """A door answers otherwise than before, or the worker begins: see it after a while."""
        if alarm := worker.checks[door]:
            alarm.cancel()
        if worker.admin[door] == "maint":
            return
        first = self.kernel.delay(0.05, CHECK_EVERY)
        slot = PORTS.get(door, door)
        answers = self.opened(door) and self.knows(slot, self.path(worker, slot))

        def passed() -> None:
            if worker.admin[door] != "maint":
                worker.passes[door] = worker.up[door] = True
                self.seen(PORTS.get(door, door))
                self.changed()

        def failed() -> None:
            worker.passes[door] = False
            worker.checks[door] = self.kernel.after((FALL - 1) * CHECK_EVERY, down)

        def down() -> None:
            worker.up[door] = False
            self.changed()

        worker.checks[door] = self.kernel.after(first, passed if answers else failed)

    def health_changed(self, slot: str) -> None:
        if self.running:
            for door in doors(slot):
                self.check(self.worker, door)

    # What happens to it.
    def reload(self) -> None:
        """A new worker reads the state file now, and takes over a little later."""
        if not self.running:
            return
        new = self._begin()
        self._reloads += 1
        number = self._reloads

        def take_over() -> None:
            if not self.running or number != self._reloads:
                return
            old, self.worker = self.worker, new
            for alarm in old.checks.values():
                if alarm:
                    alarm.cancel()
            for door in DOORS:
                self.check(new, door)
            if self.kernel.random.random() < 0.5:
                self.stale = old
            self.changed()

        self.kernel.after(self.kernel.delay(0.05, 0.6), take_over)

    def stop(self) -> None:
        self.running = False
        self._reloads += 1
        self.stale = None
        for alarm in self.worker.checks.values():
            if alarm:
                alarm.cancel()
        self.changed()

    def start(self) -> None:
        if self.running:
            return
        self.running = True
        self._starts += 1
        self.worker = self._begin()
        for door in DOORS:
            self.check(self.worker, door)
        self.changed()

    def _begin(self) -> Worker:
        """A worker as it is at its start: what the state file says, everything else up and ready."""
        worker = Worker()
        lines = [line.split(None, 1) for line in self.stored().splitlines() if line and not line.startswith("#")]
        worker.asks = {line[0]: line[1] for line in lines}
        rows: list[list[str]] = [line.split() for line in self.saved().splitlines()]
        if not rows or rows[0] != ["1"]:
            return worker
        for row in rows[1:]:
            if len(row) > 6 and row[1] == self.backend and row[3] in DOORS:
                worker.admin[row[3]] = {number: word for word, number in ADMIN.items()}[int(row[6]) & ~CONFIGURED]
                worker.up[row[3]] = worker.passes[row[3]] = row[5] != "0"  # the last check is in the file, too
        return worker


# A host is asked the same again and again, mostly between two changes.
@lru_cache(4096)
def statistics(backend: str, rows: tuple[tuple[int, str, str], ...]) -> str:
    """The answer to `show stat`: of each door the requests in flight, what it is, and what its check got."""
    lines = ["# pxname,svname,qcur,qmax,scur,smax,slim,stot,status,check_status,hrsp_5xx,req_tot,"]
    for door, (sessions, status, check) in zip(DOORS, rows, strict=True):
        lines.append(f"{backend},{door},0,0,{sessions},1,,9,{status},{check},0,9,")
    lines.append(f"{backend},BACKEND,0,0,0,1,200,9,UP,,0,9,")
    return "\n".join(lines) + "\n"


@lru_cache(4096)
def states(backend: str, rows: tuple[tuple[bool, str], ...]) -> str:
    """The answer to `show servers state`: of each door whether it is up, and its admin state."""
    lines = ["1", HEADER]
    for number, (door, (up, state)) in enumerate(zip(DOORS, rows, strict=True), 1):
        admin = ADMIN[state] + (CONFIGURED if door in PORTS else 0)
        lines.append(f"3 {backend} {number} {door} - {2 if up else 0} {admin} 1 1 100 6 3 7 6 0 0 0 - 0 - 0 0 - - 0")
    return "\n" + "\n".join(lines) + "\n"


def doors(slot: str) -> tuple[str, str]:
    """Both doors of a slot."""
    return slot, f"{slot}-port"


def admin_states(worker: Worker) -> dict[str, Any]:
    """For the story."""
    return dict(worker.admin)
