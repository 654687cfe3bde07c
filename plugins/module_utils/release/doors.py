"""The two doors of a slot: a Unix socket, and a port of the host on loopback. A release opens one of them.

Which one stands in its own rendered file, so an earlier release comes back behind the door that it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..host.durable import read_json
from ..host.errors import Damaged
from .model import SLOTS

# What a release says of how it is looked at (model.OF_THE_RELEASE), and of its door: `port` is where its app listens, 0
# or none for the slot's socket.
GATE = "gate.json"
# Ports of hosts: below those that Linux gives to connections that go out (ip_local_port_range begins at 32768).
FIRST, PAIRS = 20000, 5000
# What an inventory may say instead: above those that only root may listen on.
LEAST, MOST = 1024, 32767
FOR_EXAMPLE = "as in {blue: 20010, green: 20011}"


def slot_ports(app: str) -> dict[str, int]:
    """The ports of an app's slots on every host: two from 20000 to 29999, by its name alone.

    Two names can have the same; the preflight and the rules of haproxy_apps say so.
    """
    first = FIRST + 2 * (int(hashlib.sha256(app.encode()).hexdigest(), 16) % PAIRS)
    return {slot: first + number for number, slot in enumerate(SLOTS)}


def ports_of(app: str, given: Mapping[str, Any]) -> dict[str, int]:
    """The ports of an app's slots, those that were `given` before the ones that its name makes."""
    return {slot: int(given.get(slot) or port) for slot, port in slot_ports(app).items()}


def wrong_ports(given: Mapping[str, Any]) -> str:
    """What is wrong with ports that an inventory gives to slots; empty where they can be used."""
    if any(slot not in SLOTS for slot in given):
        return "a slot is blue or green"
    if not all(str(port).isdecimal() and LEAST <= int(port) <= MOST for port in given.values()):
        return f"use numbers from {LEAST} to {MOST}, below those that Linux gives to connections that go out"
    return "each slot needs a port of its own" if len(set(map(int, given.values()))) < len(given) else ""


def said_by(releases: Path, release: str) -> dict[str, Any]:
    """What a staged release says of how it is looked at; empty where it is from before, or cannot be read."""
    try:
        found = read_json(releases / release / GATE)
    except (Damaged, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def port_of(releases: Path, release: str) -> int:
    """Where the app of a staged release listens: a TCP port, 0 for the slot's socket.

    A release from before there were ports says nothing, and listens on the socket.
    """
    try:
        return int(said_by(releases, release).get("port") or 0)
    except (ValueError, TypeError):
        return 0
