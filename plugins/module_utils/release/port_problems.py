"""What stands in the way of a release whose app listens on a TCP port, on this host and before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, Optional

from ..edge.haproxy import Edge, EdgeError
from .doors import LEAST, MOST
from .listening import holder_of
from .model import SLOTS
from .runtime import RuntimeFailed
from .runtimes import Runtimes

NO_DOOR = (
    "the edge of this host has no door for an app that listens on a TCP port (fastapi_app_port); run "
    "slipway.fleet.provision"
)


def port_problems(
    app: str,
    ports: Mapping[str, int],
    edge: Edge,
    runtime: Runtimes,
    holder: Callable[[int], Optional[str]] = holder_of,
) -> list[str]:
    """A sentence for each port of a slot that the edge does not know, or that somebody else has.

    What an unreachable edge or runtime keeps from being seen is said elsewhere in the preflight.
    """
    problems = []
    try:
        at_edge = edge.ports()
        mine = {slot for slot, status in runtime.status().items() if status.running and runtime.port(slot)}
    except (EdgeError, RuntimeFailed):
        return []
    for slot, port in ports.items():
        known = at_edge.get((edge.backend, slot))
        if known is None:
            return [NO_DOOR]
        if known != port:
            problems.append(
                f"the edge looks for slot {slot} on port {known}, and fastapi_app_slot_ports says {port}; run "
                f"slipway.fleet.provision (where the inventory writes haproxy_apps itself, the same as its ports)"
            )
        others = sorted({of for (of, _), number in at_edge.items() if number == port and of != edge.backend})
        who = ", ".join(of.partition("_")[2] for of in others) and f"the app {others[0].partition('_')[2]}"
        if not who and slot not in mine:
            who = holder(port) or ""
        if who:
            problems.append(
                f"port {port}, that of slot {slot}, belongs to {who} on this host; write "
                f"fastapi_app_slot_ports: {free_ports(port, at_edge, holder)} and run slipway.fleet.provision (where "
                f"the inventory writes haproxy_apps itself, with the same as `ports` of {app})"
            )
    return problems


def free_ports(
    port: int, at_edge: Mapping[tuple[str, str], int], holder: Callable[[int], Optional[str]] = holder_of
) -> str:
    """The next two ports that no app has at the edge and nobody else, as an inventory has them."""
    taken = set(at_edge.values())
    found: list[int] = []
    while len(found) < len(SLOTS):
        port = port + 1 if port < MOST else LEAST
        if port not in taken and not holder(port):
            found.append(port)
    return f"{{{', '.join(f'{slot}: {number}' for slot, number in zip(SLOTS, found))}}}"
