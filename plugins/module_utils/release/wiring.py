"""From the arguments of a verb to a transaction of this host, and from the parameters of a module to such arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Optional

from ..edge.counts import counts, forget, paths
from ..edge.haproxy import EDGE_ARGUMENT, Edge
from ..host.shown import staged
from ..openapi.document import LARGEST
from .canary import GO, UNREAD, Canary, Thresholds
from .contract import IGNORE, PATIENCE, WARN, Contract
from .doors import ports_of
from .lease import Lease
from .locking import lease_of
from .model import Gate, Probe, Request
from .probe import SHORT, get, get_port
from .replay import IGNORE as REPLAY_NOTHING
from .replay import MARK, REFUSE, Replay
from .runtimes import Runtimes
from .slots import SlotDirectories, socket_of
from .store import Store
from .timers import Timers
from .transaction import Transaction


def options_of(kind: type[Any]) -> dict[str, Any]:
    """The options of a module that fill a dataclass, with its defaults: these stand in one place."""
    return {field.name: {"type": type(field.default).__name__, "default": field.default} for field in fields(kind)}


# Where the app is on the host and how it is looked at.
PLACE_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "required": True,
    "options": {
        "app": {"type": "str", "required": True},
        "root": {"type": "path", "required": True},
        "socket_directory": {"type": "path", "required": True},
        "ports": {"type": "dict", "default": {}},
        "singletons": {"type": "bool", "default": True},
        "singleton_host": {"type": "str", "default": ""},
        "gate": {"type": "dict", "default": {}, "options": options_of(Gate)},
        "edge": EDGE_ARGUMENT,
    },
}


def arguments_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """What a verb of operations.py takes, from the parameters of a module without those that were not given."""
    return {name: value for name, value in parameters.items() if value is not None}


def judge_of(arguments: dict[str, Any], edge: Edge) -> Optional[Canary]:
    """The judge of a release that soaks; None where it is not to be judged."""
    limits = {name: value for name, value in (arguments.get("canary") or {}).items() if value is not None}
    unknown = str(limits.pop("unknown", GO))
    if not limits.pop("judged", True) or not arguments.get("soak"):
        return None
    known = {one.name: limits[one.name] for one in fields(Thresholds) if one.name in limits}
    return Canary(
        lambda: counts(edge.ask, edge.backend),
        lambda slot: forget(edge.ask, edge.backend, slot),
        Thresholds(**known),
        unknown,
    )


def forget_of(edge: Edge) -> Callable[[str], None]:
    """Who has nothing counted of a slot that gets no requests yet, since it was another release's. Raises nothing."""

    def clear(slot: str) -> None:
        with suppress(*UNREAD):
            forget(edge.ask, edge.backend, slot)

    return clear


def contract_of(arguments: dict[str, Any], store: Store, ask: Callable[..., Probe]) -> Optional[Contract]:
    """Who compares the API of a release with that of the one before; None where nobody is to.

    `ask` takes slot, path, release and the most bytes of an answer.
    """
    given = arguments.get("contract") or {}
    breaking = given.get("breaking") or WARN
    if breaking == IGNORE or not given.get("path"):
        return None
    return Contract(store, lambda *what: ask(*what, PATIENCE, LARGEST + 1), given["path"], breaking)


def replay_of(arguments: dict[str, Any], edge: Edge, ask: Callable[..., Probe]) -> Optional[Replay]:
    """Who asks a release what users asked the one before; None where nobody is to.

    `ask` is as for the contract, and takes headers besides.
    """
    given = arguments.get("replay") or REPLAY_NOTHING
    if given == REPLAY_NOTHING:
        return None

    return Replay(
        lambda: paths(edge.ask, edge.backend),
        lambda *what: ask(*what, MARK),
        time.monotonic,
        refuses=given == REFUSE,
    )


class Leased:
    """The lease of one run, as the transaction asks for it."""

    def __init__(self, lease: Lease, run: str) -> None:
        self.lease = lease
        self.run = run

    def lost(self) -> str:
        return self.lease.lost(self.run)


def store_of(arguments: dict[str, Any]) -> Store:
    """The records and releases of the app."""
    return Store(Path(arguments["place"]["root"]))


def runtime_of(arguments: dict[str, Any]) -> Runtimes:
    """Whichever runtime a release needs; takes app and root of the place alone."""
    place = arguments["place"]
    sockets = Path(place.get("socket_directory") or Path("/run/slipway", place["app"]))
    ports = ports_of(place["app"], place.get("ports") or {})
    return Runtimes(place["app"], store_of(arguments).releases, directories=SlotDirectories(sockets), ports=ports)


def timers_of(arguments: dict[str, Any]) -> Timers:
    """The timers of the app's jobs; takes app and root of the place, and where singletons run."""
    place = arguments["place"]
    here, host = bool(place.get("singletons", True)), str(place.get("singleton_host") or "")
    return Timers(place["app"], store_of(arguments), here, host)


def edge_of(place: dict[str, Any], runtime: Runtimes) -> Edge:
    """The app at the edge of its host; by which door a slot is reached, its runtime tells."""
    edge = place["edge"]
    return Edge(edge["socket"], edge["backend"], edge["state_file"], by_port=lambda slot: runtime.port(slot) > 0)


def transaction_of(arguments: dict[str, Any], **changes: Any) -> Transaction:
    """The transaction that a verb's arguments describe; those that Request does not know are left out."""
    place = arguments["place"]
    known = {field.name for field in fields(Request)} - {"app", "gate", "singletons", "singleton_host"}
    given = {**arguments, **changes}
    gate = Gate(**{name: value for name, value in (place.get("gate") or {}).items() if value is not None})
    request = Request(
        app=place["app"],
        gate=gate,
        singletons=bool(place.get("singletons", True)),
        singleton_host=str(place.get("singleton_host") or ""),
        **{name: value for name, value in given.items() if name in known and value is not None},
    )
    sockets, store = Path(place["socket_directory"]), store_of(arguments)
    runtime, ports = runtime_of(arguments), ports_of(place["app"], place.get("ports") or {})

    def asked(
        slot: str, path: str, of: Gate, timeout: float, most: int, headers: Optional[Mapping[str, str]] = None
    ) -> Probe:
        if port := runtime.port(slot):
            return get_port(f"127.0.0.1:{ports[slot]}", port, path, timeout, of, most, headers)
        return get(str(socket_of(sockets, slot)), path, timeout, of, most, headers)

    def probe(slot: str, path: str, of: Gate) -> Probe:
        found = asked(slot, path, of, of.timeout, SHORT)
        return replace(found, body=staged(store.releases).text(found.body))

    def ask(
        slot: str, path: str, release: str, timeout: float, most: int, headers: Optional[Mapping[str, str]] = None
    ) -> Probe:
        return asked(slot, path, replace(gate, **store.gate(release)), timeout, most, headers)

    edge = edge_of(place, runtime)
    return Transaction(
        request,
        store,
        runtime,
        edge,
        probe,
        judge=judge_of(given, edge),
        contract=contract_of(given, store, ask),
        replay=replay_of(given, edge, ask),
        forget=forget_of(edge),
        hold=Leased(lease_of(arguments), arguments["run_id"]) if arguments.get("run_id") else None,
    )
