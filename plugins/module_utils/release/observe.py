"""What serves on a host right now, and where it differs from what was recorded."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .edge import EdgeError
from .model import other
from .runtime import RuntimeFailed
from .transaction import Transaction


def observe(transaction: Transaction) -> dict[str, Any]:
    """Recorded state, both slots, both servers of the edge, health, and `drift`: one sentence per difference."""
    drift: list[str] = []
    state = transaction.store.state()
    intent = transaction.store.intent()
    if intent:
        drift.append(f"an interrupted transaction to {intent.release} waits; deploy again to finish or undo it")
    if state is None:
        return {"state": None, "slots": {}, "servers": {}, "health": "", "drift": [*drift, "nothing was released yet"]}
    slots, servers = {}, {}
    try:
        slots = transaction.runtime.status()
    except RuntimeFailed as error:
        drift.append(str(error))
    try:
        servers = transaction.edge.servers()
    except EdgeError as error:
        drift.append(str(error))
    health = transaction.probe(state.slot, transaction.request.gate.path)
    if slots:
        live, idle = slots[state.slot], slots[other(state.slot)]
        if not live.running:
            drift.append(f"slot {state.slot} does not run")
        elif live.release != state.release:
            drift.append(f"slot {state.slot} runs release {live.release}, recorded is {state.release}")
        if live.restarts:
            drift.append(f"slot {state.slot} was restarted {live.restarts} times")
        if idle.running:
            drift.append(f"slot {other(state.slot)} runs too (release {idle.release})")
    if servers and not servers[state.slot].enabled:
        drift.append(f"HAProxy sends nothing to slot {state.slot}")
    if health.error or health.status != 200:
        drift.append(f"unhealthy: {health.error or f'{health.status} {health.body[:200]}'}")
    return {
        "state": asdict(state),
        "slots": {name: asdict(slot) for name, slot in slots.items()},
        "servers": {name: asdict(server) for name, server in servers.items()},
        "health": health.error or str(health.status),
        "drift": drift,
    }
