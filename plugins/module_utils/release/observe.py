"""What serves on a host right now, and where it differs from what was recorded."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ..edge.haproxy import EdgeError, Server
from .lease import Lease
from .model import Probe, SlotStatus, State, other
from .runtime import RuntimeFailed
from .transaction import Transaction

OK = 200
# How often a slot is asked before it counts as unhealthy; a host that is busy for a moment misses one answer.
ASKED = 3
DOCKER = Path("/var/lib/docker")


def observe(transaction: Transaction) -> dict[str, Any]:
    """Recorded state, both slots, both servers of the edge, health, and `drift`: one sentence per difference."""
    drift: list[str] = []
    state = transaction.store.state()
    intent = transaction.store.intent()
    if intent:
        drift.append(f"an interrupted transaction to {intent.release} waits; deploy again to finish or undo it")
    if state is None:
        return {"state": None, "slots": {}, "servers": {}, "health": "", "drift": [*drift, "nothing was released yet"]}
    slots: dict[str, SlotStatus] = {}
    servers: dict[str, Server] = {}
    try:
        slots = transaction.runtime.status()
        drift += slot_drift(state, slots)
    except RuntimeFailed as error:
        drift.append(str(error))
    try:
        servers = transaction.edge.servers()
        if not servers[state.slot].enabled:
            drift.append(f"HAProxy sends nothing to slot {state.slot}")
    except EdgeError as error:
        drift.append(str(error))
    drift += [f"{path} of release {state.release} was changed by hand" for path in changed_files(transaction, state)]
    health = lasting_health(transaction, state.slot)
    if health.error or health.status != OK:
        drift.append(f"unhealthy: {health.error or f'{health.status} {health.body[:200]}'}")
    return {
        "state": asdict(state),
        "slots": {name: asdict(slot) for name, slot in slots.items()},
        "servers": {name: asdict(server) for name, server in servers.items()},
        "health": health.error or str(health.status),
        "sbom": transaction.store.sbom(state.release),
        "drift": drift,
    }


def lasting_health(transaction: Transaction, slot: str) -> Probe:
    """The first good answer of a slot's health path, or the last one of `ASKED`, the gate's interval apart."""
    health = transaction.probe(slot, transaction.request.gate.path)
    for _ in range(ASKED - 1):
        if health.status == OK and not health.error:
            break
        transaction.clock.sleep(transaction.request.gate.interval)
        health = transaction.probe(slot, transaction.request.gate.path)
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
    lease = Lease(transaction.request.app, root)
    return {
        "free_mib": free,
        "certificate_days": left,
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
        command = ["openssl", "x509", "-noout", "-enddate", "-in", path]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    end = ssl.cert_time_to_seconds(said.strip().partition("=")[2])
    return int((end - time.time()) // 86400)


def changed_files(transaction: Transaction, state: State) -> list[str]:
    """Rendered files of the live release that are not what was released; an unreadable record counts as one."""
    try:
        return transaction.store.changed_files(state.release)
    except ValueError as error:
        return [str(error)]


def slot_drift(state: State, slots: dict[str, SlotStatus]) -> list[str]:
    """Where the slots differ from the recorded state."""
    live, idle = slots[state.slot], slots[other(state.slot)]
    drift = []
    if not live.running:
        drift.append(f"slot {state.slot} does not run")
    elif live.release != state.release:
        drift.append(f"slot {state.slot} runs release {live.release}, recorded is {state.release}")
    if live.restarts:
        drift.append(f"slot {state.slot} was restarted {live.restarts} times")
    if idle.running:
        drift.append(f"slot {other(state.slot)} runs too (release {idle.release})")
    return drift
