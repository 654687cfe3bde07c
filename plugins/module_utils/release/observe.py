"""What serves on a host right now, and where it differs from what was recorded."""

from __future__ import annotations

import shutil
import ssl
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional, TypeVar

from ..edge import certificates, pieces
from ..edge.haproxy import EdgeError, NoBackend, Server
from ..host import command, removed
from ..host.errors import Damaged
from ..host.shown import head
from .lease import Lease
from .model import SLOTS, Draining, Gate, Intent, Probe, SlotStatus, State, other
from .records import UNSEEN
from .seen_beside import Row, seen_beside
from .sight import Sight
from .transaction import Transaction

Kind = TypeVar("Kind")

SERVER_ERROR = 500
# How often a slot is asked before it counts as unhealthy; a host that is busy for a moment misses one answer.
ASKED = 3
DOCKER = Path("/var/lib/docker")
BROUGHT_BACK = "slipway.fleet.site, which provisions and deploys, brings it there"


@dataclass
class Seen:
    """What could be seen of a host; what could not, or is not as recorded, is in `drift`, a sentence each.

    `under_way` is who holds the app for a transaction, empty where nobody does.
    """

    state: Optional[State]
    intent: Optional[Intent]
    draining: Optional[Draining]
    drift: list[str]
    slots: dict[str, SlotStatus] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    under_way: str = ""

    @property
    def recorded(self) -> Optional[str]:
        """The slot that is recorded as serving."""
        return self.state.slot if self.state else None

    @property
    def serving(self) -> Optional[dict[str, Any]]:
        """The slot that gets requests, and its release; None where two releases do."""
        if not self.slots or not self.servers:
            return None
        sight = Sight(self.slots, self.servers)
        if self.twofold:
            return None
        release = sight.serving(self.recorded)
        return {"release": release, "slot": sight.live(self.recorded)} if release else None

    @property
    def twofold(self) -> bool:
        """Whether the edge sends requests to two releases, as it does where a transaction died in its switch."""
        if not self.slots or not self.servers:
            return False
        sight = Sight(self.slots, self.servers)
        return len({self.slots[slot].release for slot in SLOTS if sight.serves(slot)}) > 1


def observe(transaction: Transaction, only_looks: bool = False, held: bool = False) -> dict[str, Any]:
    """What serves, the records, both slots, both servers of the edge, health, what drains, and every difference.

    Raises nothing: what cannot be seen is drift. For one who `only_looks` that is not what a transaction under way does
    with slots, processes and edge; a run may not take a host for good before that has ended. Where the app is `held`,
    the run may be at work on another host, and move singletons.
    """
    seen = look(transaction)
    serving, drift = seen.serving, seen.drift
    at_work = only_looks and bool(seen.under_way)
    if seen.intent and not at_work:
        drift.insert(0, unfinished(seen.intent, seen.under_way))
    if seen.twofold and not at_work:
        drift.append("requests go to two releases; deploy again to finish or undo the switch")
    if seen.state is None:
        release = serving["release"] if serving else ""
        words = absent(transaction) or "nothing was released yet"
        words = f"nothing is recorded, and {release} serves; deploy again" if release else words
        drift += [] if at_work else [words]
    else:
        drift += [] if at_work else record_drift(seen, seen.state)
        drift += changed_by_hand(transaction, seen.state)
    health = ""
    beside: list[Row] = []
    found = Probe()
    if slot := seen.recorded or (serving["slot"] if serving else None):
        release = seen.slots[slot].release if slot in seen.slots else None
        release = release or (seen.state.release if seen.state else None)
        beside, wrong = seen_beside(transaction, slot, release, moving=only_looks and held)
        drift += [] if at_work else wrong
        gate = transaction.gate_of(release)
        found = lasting_health(transaction, slot, gate)
        health = found.error or str(found.status)
        stopped = at_work and slot in seen.slots and not seen.slots[slot].running  # it makes way for the new one
        if (found.error or not gate.takes(found.status)) and not stopped:
            drift.append(f"unhealthy: {found.error or f'{found.status} {head(found.body, 200)}'}")
    if serving:
        if serving["slot"] != slot:
            found = lasting_health(transaction, serving["slot"], transaction.gate_of(serving["release"]))
            if (found.error or found.status >= SERVER_ERROR) and not at_work:
                said = found.error or f"{found.status} {head(found.body, 200)}"
                drift.append(f"slot {serving['slot']} gets requests and is unhealthy: {said}")
        # One from before a release said how it is looked at may have another health path, and answer 404 there; the
        # edge's own check of it passes all the same.
        if found.error or found.status >= SERVER_ERROR:
            serving = None  # it gets requests, and does not answer them
    return {
        "state": asdict(seen.state) if seen.state else None,
        "serving": serving,
        "twofold": seen.twofold,
        "slots": {name: asdict(status) for name, status in seen.slots.items()},
        "servers": {name: asdict(server) for name, server in seen.servers.items()},
        "health": health,
        "processes": beside,
        "draining": drain_of(seen),
        "under_way": under_way_of(seen),
        "sbom": transaction.store.sbom(seen.state.release) if seen.state else None,
        "drift": drift,
    }


def absent(transaction: Transaction) -> str:
    """That the app is not on this host, since when where that is known, and what brings it; empty where it is there.

    Provisioned alone it is there, unless it was removed before that.
    """
    store, app = transaction.store, transaction.request.app
    if readable(store.staged, []) or readable(store.state, []):
        return ""
    if since := removed.told(store.root):
        return f"{app} is not on this host: {since}; {BROUGHT_BACK}"
    try:
        transaction.edge.servers()
    except NoBackend:
        return (
            f"{app} is not on this host, and its edge does not know it: it was removed, or never here; {BROUGHT_BACK}"
        )
    except EdgeError:
        pass
    return ""


def look(transaction: Transaction) -> Seen:
    """Records, runtime and edge, each as far as it can be seen."""
    drift: list[str] = []
    store = transaction.store
    before = store.at_work()
    seen = Seen(readable(store.state, drift), readable(store.intent, drift), readable(store.draining, drift), drift)
    if damaged := readable(store.damaged_records, drift):
        drift.append(f"{damaged} lines of the ledger cannot be read")
    try:
        seen.slots = transaction.runtime.status()
        seen.servers = transaction.edge.servers()
    except UNSEEN as error:
        if seen.state or seen.intent:  # a host on which nothing was released may lack them
            drift.append(str(error))
    # One that began or ended meanwhile made what was seen differ from what is recorded.
    seen.under_way = before or store.at_work()
    return seen


def unfinished(intent: Intent, under_way: str) -> str:
    """What is to be said of a transaction that has not ended; a process that works on it holds the app."""
    if under_way:
        return f"a transaction to {intent.release} is under way ({under_way}); wait until it has ended"
    return f"an interrupted transaction to {intent.release} waits; deploy again to finish or undo it"


def under_way_of(seen: Seen) -> Optional[dict[str, Any]]:
    """The transaction under way: whose it is, and since when where that is known."""
    return {"by": seen.under_way, "since": seen.intent.started if seen.intent else None} if seen.under_way else None


def record_drift(seen: Seen, state: State) -> list[str]:
    """Where slots and edge differ from the recorded state."""
    drift = slot_drift(state, seen.slots, seen.draining.slot if seen.draining else None) if seen.slots else []
    if seen.servers and not seen.servers[state.slot].enabled:
        drift.append(f"HAProxy sends nothing to slot {state.slot}")
    return drift


def changed_by_hand(transaction: Transaction, state: State) -> list[str]:
    """A sentence for each rendered file of the live release that is not what was released."""
    return [f"{path} of release {state.release} was changed by hand" for path in changed_files(transaction, state)]


def drain_of(seen: Seen) -> Optional[dict[str, Any]]:
    """What drains, with its sessions where the edge tells."""
    if seen.draining is None:
        return None
    server = seen.servers.get(seen.draining.slot)
    return {**asdict(seen.draining), "sessions": server.sessions if server else None}


def readable(read: Callable[[], Optional[Kind]], drift: list[str]) -> Optional[Kind]:
    """A record; None where there is none or it is damaged, which is said in `drift`."""
    try:
        return read()
    except (Damaged, OSError) as error:
        drift.append(str(error))
        return None


def lasting_health(transaction: Transaction, slot: str, gate: Gate) -> Probe:
    """The first good answer of a slot's health path, or the last one of `ASKED`, the gate's interval apart."""
    health = transaction.probe(slot, gate.path, gate)
    for _ in range(ASKED - 1):
        if gate.takes(health.status) and not health.error:
            break
        transaction.clock.sleep(gate.interval)
        health = transaction.probe(slot, gate.path, gate)
    return health


def surroundings(transaction: Transaction, certificate: Optional[str], days: int, reserve: int) -> dict[str, Any]:
    """What is around a release: disk, certificate, lock. Low disk and an old certificate are drift.

    `reserve` is in bytes, `days` are those before its end from when a certificate is old.
    """
    root = transaction.store.root
    free = min(free_mib(root), free_mib(DOCKER))
    left = certificate_days(certificate)
    drift = []
    if free < reserve >> 20:
        drift.append(f"only {free} MiB of the disk are free; fastapi_app_disk_reserve wants {reserve >> 20}")
    if left is not None and left < days:
        ends = f"ends in {left} days" if left >= 0 else f"ended {-left} days ago"
        drift.append(f"the certificate {certificate} {ends}; renew it in haproxy_tls_certificate and provision")
    drift += filter(None, [pieces.damage(certificates.SETTINGS.parent)])
    ordered = certificates.of_this_edge()
    drift += certificates.drift(ordered)
    lease = Lease(transaction.request.app, root)
    return {
        "free_mib": free,
        "certificate_days": min(
            (days for days in (left, *(one["days"] for one in ordered)) if days is not None), default=None
        ),
        "certificates": ordered,
        "freeze": lease.frozen() or {},
        "holder": lease.holder() or {},
        "drift": drift,
    }


def free_mib(root: Path) -> int:
    """Free space of the file system with the app's directory, in MiB."""
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free >> 20


def certificate_days(path: Optional[str]) -> Optional[int]:
    """Days until a certificate (PEM) ends, None where there is none or it cannot be read."""
    if not path or not Path(path).is_file():
        return None
    try:
        said = command.run(["openssl", "x509", "-noout", "-enddate", "-in", path], 10).stdout
        end = ssl.cert_time_to_seconds(said.strip().partition("=")[2])
    except (command.CommandError, ValueError):
        return None
    return int((end - time.time()) // 86400)


def changed_files(transaction: Transaction, state: State) -> list[str]:
    """Rendered files of the live release that are not what was released; an unreadable record counts as one."""
    try:
        return transaction.store.changed_files(state.release)
    except ValueError as error:
        return [str(error)]


def slot_drift(state: State, slots: dict[str, SlotStatus], draining: Optional[str] = None) -> list[str]:
    """Where the slots differ from the recorded state; that the slot which drains runs still is no difference."""
    live, idle = slots[state.slot], slots[other(state.slot)]
    drift = []
    if not live.running:
        drift.append(f"slot {state.slot} does not run")
    elif live.release != state.release:
        drift.append(f"slot {state.slot} runs release {live.release}, recorded is {state.release}")
    if live.restarts:
        drift.append(f"slot {state.slot} was restarted {live.restarts} times")
    if idle.running and draining != other(state.slot):
        drift.append(f"slot {other(state.slot)} runs too (release {idle.release})")
    return drift
