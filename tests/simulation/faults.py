"""What may go wrong, when, and where; drawn from a seed, or left over from one that was shrunk. Times in seconds."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.simulation.edge import SLOTS, STATE_FILE
from tests.simulation.world import LEASE, ROOT, Host

if TYPE_CHECKING:
    from tests.simulation.play import Play

LONG = 100_000.0


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    It happens at the `effect`-th effect on `host` (of those with `on` in their text), at the `turn`-th await of
    controller `run`, or `at` seconds after the first run began (or, where it `follows`, after the fault before it).
    `seconds` is how long it lasts, `what` the release, slot or file that it is about.
    """

    kind: str
    host: str = ""
    run: int = 0
    at: float = 0.0
    effect: int = 0
    turn: int = 0
    seconds: float = 0.0
    what: str = ""
    on: str = ""
    follows: bool = False

    def __str__(self) -> str:
        when = (
            f"effect {self.effect} {self.on}"
            if self.effect
            else f"await {self.turn}"
            if self.turn
            else f"{self.at:.1f} s"
        )
        when += " after the last fault" if self.follows else ""
        where = self.host or f"controller {self.run}"
        lasting = f"for {self.seconds:.0f} s" if self.seconds else ""
        return " ".join(filter(None, (self.kind, self.what, lasting, f"on {where} at {when}")))


def strike(fault: Fault, play: Play) -> None:
    """Let it happen now."""
    play.world.tell(fault.host or f"controller {fault.run}", f"FAULT {fault}")
    play.struck.append(fault)
    if fault.host:
        host = play.world.hosts[fault.host]
        host.hurt_at = play.world.kernel.now
        HOST_FAULTS[fault.kind](fault, host)
        play.fault_hit(host)
    else:
        CONTROLLER_FAULTS[fault.kind](fault, play)


def _crash(fault: Fault, host: Host) -> None:
    host.crash()


def _kill(fault: Fault, host: Host) -> None:
    host.kill(list(host.processes))


def _full(fault: Fault, host: Host) -> None:
    until = host.kernel.now + fault.seconds

    def fail(what: str, path: str) -> None:
        if what == "write" and host.kernel.now < until and not path.startswith("/run"):
            host.hurt_at = host.kernel.now
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    host.disk.fail = fail


def _broken_writes(fault: Fault, host: Host) -> None:
    left = [int(fault.seconds) or 1]

    def fail(what: str, path: str) -> None:
        if what != "read" and left[0] and not path.startswith("/run"):
            left[0] -= 1
            host.hurt_at = host.kernel.now
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    host.disk.fail = fail


def _full_once(fault: Fault, host: Host) -> None:
    """The next write to one file finds the disk full."""
    left = [1]

    def fail(what: str, path: str) -> None:
        if what == "write" and left[0] and fault.what in path:
            left[0] -= 1
            host.hurt_at = host.kernel.now
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    host.disk.fail = fail


def _trouble(kind: str) -> Callable[[Fault, Host], None]:
    def begin(fault: Fault, host: Host) -> None:
        host.docker.set_health(fault.what, kind)
        if fault.seconds < LONG:
            host.kernel.after(fault.seconds, lambda: host.docker.set_health(fault.what, None))

    return begin


def _dies(memory: bool = False, for_good: bool = False) -> Callable[[Fault, Host], None]:
    def die(fault: Fault, host: Host) -> None:
        host.docker.die(fault.what, memory, for_good)

    return die


def _slow_docker(fault: Fault, host: Host) -> None:
    host.docker.slow = float(fault.what)
    host.docker.slow_until = host.kernel.now + fault.seconds


def _clock(fault: Fault, host: Host) -> None:
    host.clock_offset += fault.seconds


DAMAGE: dict[str, Callable[[str], str]] = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "noise": lambda text: "\x00\x00\x00",
    "newer": lambda text: text.replace("{", '{"from_the_future": 1, ', 1),
}
DAMAGED = {"state": f"{ROOT}/state.json", "intent": f"{ROOT}/intent.json", "ledger": f"{ROOT}/ledger.jsonl",
           "lease": LEASE, "edge": STATE_FILE}  # fmt: skip


def _damage(fault: Fault, host: Host) -> None:
    name, _, how = fault.what.partition(" ")
    text = host.peek(DAMAGED[name])
    if text is not None:
        host.disk.put(DAMAGED[name], DAMAGE[how](text))


HOST_FAULTS: dict[str, Callable[[Fault, Host], None]] = {
    "crash": _crash,
    "kill": _kill,
    "reload": lambda fault, host: host.edge.reload(),
    "restart edge": lambda fault, host: host.restart_edge(),
    "restart docker": lambda fault, host: host.restart_docker(fault.seconds),
    "slow docker": _slow_docker,
    "full disk": _full,
    "full for": _full_once,
    "broken writes": _broken_writes,
    "sick": _trouble("sick"),
    "hangs": _trouble("hangs"),
    "silent": _trouble("silent"),
    "ends": _trouble("ends"),
    "dies": _dies(),
    "out of memory": _dies(memory=True),
    "gone": _dies(for_good=True),
    "clock jumps": _clock,
    "damaged": _damage,
}


def _cut(deaf: bool) -> Callable[[Fault, Play], None]:
    def cut(fault: Fault, play: Play) -> None:
        controller = play.controller_of(fault.run)
        if controller and fault.what in controller.links:
            controller.links[fault.what].cut(fault.seconds, deaf)
            play.world.hosts[fault.what].hurt_at = play.world.kernel.now

    return cut


CONTROLLER_FAULTS: dict[str, Callable[[Fault, Play], None]] = {
    "controller dies": lambda fault, play: play.kill_controller(fault.run),
    "controller sleeps": lambda fault, play: play.pause_controller(fault.run, fault.seconds),
    "channel breaks": _cut(deaf=False),
    "answers get lost": _cut(deaf=True),
    "interrupted": lambda fault, play: play.interrupt(fault.run),
    "freeze": lambda fault, play: play.operator("freeze"),
    "free": lambda fault, play: play.operator("free"),
}

# How often each is drawn, beside the others.
HOST_WEIGHTS = {
    "crash": 4, "kill": 4, "reload": 5, "restart edge": 2, "restart docker": 2, "slow docker": 2, "full disk": 2,
    "full for": 3, "broken writes": 2, "sick": 7, "hangs": 2, "silent": 1, "ends": 2, "dies": 2, "out of memory": 2,
    "gone": 3, "clock jumps": 1, "damaged": 2,
}  # fmt: skip
CONTROLLER_WEIGHTS = {"controller dies": 4, "controller sleeps": 4, "channel breaks": 4, "answers get lost": 3,
                      "interrupted": 2, "freeze": 1, "free": 1}  # fmt: skip
ON_RELEASE = ("sick", "hangs", "silent", "ends")
ON_SLOT = ("dies", "out of memory", "gone")


# Effects of a transaction after which it matters most what happens.
MARKS = (
    "state ready",
    "state drain",
    "rename /var/lib/haproxy",
    "intent.json",
    "ledger.jsonl",
    "state.json",
    "start ",
    "stop ",
)


def drawn_all(dice: random.Random, count: int, hosts: list[str], runs: int, length: float) -> list[Fault]:
    """Faults of one story; some hit soon after the one before, on the same host."""
    found: list[Fault] = []
    for _ in range(count):
        fault = drawn(dice, hosts, runs, length)
        if found and dice.random() < 0.5:
            host = found[-1].host if fault.host and found[-1].host else fault.host
            fault = replace(
                fault,
                host=host,
                follows=True,
                effect=0,
                turn=0,
                on="",
                at=dice.choice((0.05, 0.5, 3.0, 12.0, 60.0)) * dice.random(),
            )
        found.append(fault)
    return found


def drawn(dice: random.Random, hosts: list[str], runs: int, length: float) -> Fault:
    """One fault somewhere in the runs, which take about `length` seconds."""
    on_controller = dice.random() < 0.25
    weights: dict[str, int] = CONTROLLER_WEIGHTS if on_controller else HOST_WEIGHTS
    kind = dice.choices(list(weights), list(weights.values()))[0]
    if on_controller:
        return on_a_controller(dice, kind, hosts, runs, length)
    return on_a_host(dice, kind, dice.choice(hosts), runs, length)


def on_a_controller(dice: random.Random, kind: str, hosts: list[str], runs: int, length: float) -> Fault:
    """One that hits who runs something, or the way from there to a host."""
    when: dict[str, Any]
    where: dict[str, Any] = {"run": dice.randrange(runs)}
    when = {"turn": int(2 ** dice.uniform(0.0, 9.0))} if dice.random() < 0.6 else {"at": dice.uniform(0.0, length)}
    if kind in ("channel breaks", "answers get lost"):
        where["what"] = dice.choice(hosts)
    if kind in ("freeze", "free"):
        when = {"at": dice.uniform(0.0, length)}
    seconds = dice.choice((5.0, 30.0, 130.0, 400.0, 2 * LONG)) if kind != "controller sleeps" else dice.uniform(20, 600)
    return Fault(kind, seconds=seconds, **where, **when)


def on_a_host(dice: random.Random, kind: str, host: str, runs: int, length: float) -> Fault:
    """One that hits a host."""
    when: dict[str, Any]
    how = dice.random()
    if how < 0.35:
        when = {"effect": dice.randint(1, 75)}
    elif how < 0.65:
        when = {"effect": dice.randint(1, 6), "on": dice.choice(MARKS)}
    else:
        when = {"at": dice.uniform(0.0, length)}
    what, seconds = "", 0.0
    if kind in ON_RELEASE:
        what, seconds = f"r{dice.randint(0, runs)}", dice.choice((3.0, 15.0, 60.0, 2 * LONG))
    elif kind in ON_SLOT:
        what = dice.choice(SLOTS)
    elif kind == "full for":
        what = dice.choice(("state.json", "intent.json", "ledger.jsonl", "server-state"))
    elif kind == "damaged":
        what = f"{dice.choice(list(DAMAGED))} {dice.choice(list(DAMAGE))}"
    elif kind == "slow docker":
        what, seconds = dice.choice(("5", "20", "90")), dice.choice((20.0, 120.0))
    elif kind == "clock jumps":
        seconds = dice.choice((-3600.0, -100.0, 100.0, 3600.0))
    elif kind == "broken writes":
        seconds = float(dice.choice((1, 1, 2, 20)))
    else:
        seconds = dice.choice((2.0, 10.0, 60.0))
    return Fault(kind, host, what=what, seconds=seconds, **when)
