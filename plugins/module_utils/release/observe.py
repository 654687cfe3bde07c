"""What serves on a host right now, and where it differs from what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .edge import EdgeError, Server
from .model import SlotStatus, State, other
from .runtime import RuntimeFailed
from .transaction import Transaction

OK = 200


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
    health = transaction.probe(state.slot, transaction.request.gate.path)
    if health.error or health.status != OK:
        drift.append(f"unhealthy: {health.error or f'{health.status} {health.body[:200]}'}")
    return {
        "state": asdict(state),
        "slots": {name: asdict(slot) for name, slot in slots.items()},
        "servers": {name: asdict(server) for name, server in servers.items()},
        "health": health.error or str(health.status),
        "drift": drift,
    }


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
