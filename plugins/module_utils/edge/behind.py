"""What a balancer does with the hosts behind it: which of them get nothing, and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ..host.ledger import FAILED
from .haproxy import Server

# Seconds for which a run may have a host out, as nobody but an operator writes it down: its edge restarts meanwhile.
TURN = 600
# Seconds for which a host may be down that is started just now.
STARTS = 10
# What an edge answers whose app does not serve: the host's own row of the status says why, or that a run is at it.
NOT_SERVING = "L7STS 503"
DRAIN, UNDRAIN = "drain", "undrain"


@dataclass(frozen=True)
class Away:
    """Why a host gets nothing: `down` by HAProxy's check, or taken out; `amiss` where somebody is to mend that."""

    why: str
    amiss: bool = True
    down: bool = False


def drains(records: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The record of each host's drain that was not undone, by the ledger of the app on the balancer, oldest first."""
    found: dict[str, Mapping[str, Any]] = {}
    for record in records:
        host = str(record.get("what") or "")
        if record.get("result") == FAILED:  # such as one that was refused
            continue
        if record.get("operation") == DRAIN:
            found[host] = record
        elif record.get("operation") == UNDRAIN:
            found.pop(host, None)
    return found


def away(servers: Mapping[str, Server], records: Sequence[Mapping[str, Any]], more: str = "") -> dict[str, Away]:
    """The hosts that a balancer sends nothing, as HAProxy has them now.

    Args:
        servers: as HAProxy sees them
        records: the ledger of the app on the balancer
        more: what the command that brings one back needs besides
    """
    drained = drains(records)
    found = {}
    for name, server in servers.items():
        if not server.enabled:
            found[name] = _taken_out(name, server, drained.get(name), more)
        elif server.down:
            serves = not f"{server.check} ".startswith(f"{NOT_SERVING} ")
            found[name] = Away(f"down: {server.check or 'not checked yet'}", serves and server.since >= STARTS, True)
    return found


def back(host: str, more: str = "") -> str:
    """The command that brings a host back."""
    return f"slipway.fleet.drain -e haproxy_server={host} -e haproxy_server_state=ready{more}"


def _taken_out(name: str, server: Server, record: Optional[Mapping[str, Any]], more: str) -> Away:
    if record is not None:
        by = ", ".join(str(record[key]) for key in ("who", "start") if record.get(key))
        return Away(
            f"drained by an operator{f' ({by})' if by else ''}: it gets nothing; {back(name, more)} brings it back"
        )
    if server.since < TURN:
        return Away(
            f"taken out ({server.since} s ago, by no slipway.fleet.drain): it gets nothing until the run that "
            "restarts its edge is done with it",
            amiss=False,
        )
    return Away(f"taken out (by no slipway.fleet.drain): it gets nothing; {back(name, more)} brings it back")
