"""What stands in the way of a release whose app listens on a TCP port, on this host and before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, Optional

from ..edge.haproxy import Edge, EdgeError
from ..host import command
from .doors import LEAST, MOST
from .listening import listener_of
from .model import SLOTS
from .runtime import RuntimeFailed
from .runtimes import Runtimes

NO_DOOR = (
    "the edge of this host has no door for an app that listens on a TCP port (fastapi_app_port); run the provision "
    "playbook (slipway.fleet.provision)"
)


def port_problems(
    app: str,
    ports: Mapping[str, int],
    edge: Edge,
    runtime: Runtimes,
    listener: Callable[[int], Optional[str]] = listener_of,
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
                f"the edge looks for slot {slot} on port {known}, and fastapi_app_slot_ports says {port}; run the "
                f"provision playbook (where the inventory writes haproxy_apps itself, the same as its ports)"
            )
        others = sorted({of for (of, _), number in at_edge.items() if number == port and of != edge.backend})
        who = ", ".join(of.partition("_")[2] for of in others) and f"the app {others[0].partition('_')[2]}"
        if not who and slot not in mine:
            who = publisher_of(port) or listener(port) or ""
        if who:
            problems.append(
                f"port {port}, that of slot {slot}, belongs to {who} on this host; write "
                f"fastapi_app_slot_ports: {free_ports(port, at_edge, listener)} and run the provision playbook (where "
                f"the inventory writes haproxy_apps itself, with the same as `ports` of {app})"
            )
    return problems


def free_ports(
    port: int, at_edge: Mapping[tuple[str, str], int], listener: Callable[[int], Optional[str]] = listener_of
) -> str:
    """The next two ports that no app has at the edge and nobody listens on, as an inventory has them."""
    taken = set(at_edge.values())
    found: list[int] = []
    while len(found) < len(SLOTS):
        port = port + 1 if port < MOST else LEAST
        if port not in taken and not listener(port):
            found.append(port)
    return f"{{{', '.join(f'{slot}: {number}' for slot, number in zip(SLOTS, found))}}}"


def publisher_of(port: int) -> str:
    """The container that Docker publishes a port of this host for; empty where there is none, or no Docker.

    Its name says more than that of the process which passes connections on, and there need not be such a process.
    """
    try:
        ran = command.run(["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"], 30)
    except command.CommandError:
        return ""
    names = ran.stdout.split() if ran.returncode == 0 else []
    return f"the container {names[0]}" if names else ""
