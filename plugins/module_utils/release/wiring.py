"""From the arguments of a verb to a transaction of this host, and from the parameters of a module to such arguments."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, Optional

from ..edge.haproxy import EDGE_ARGUMENT, Edge
from .canary import Canary, Thresholds
from .model import Gate, Request
from .probe import get
from .runtimes import Runtimes
from .store import Store
from .transaction import Transaction

# Where the app is on the host and how it is looked at.
PLACE_ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "root": {"type": "path", "required": True},
    "socket_directory": {"type": "path", "required": True},
    "gate": {
        "type": "dict",
        "default": {},
        "options": {
            "path": {"type": "str", "default": "/readyz"},
            "version_path": {"type": "str", "default": "/version"},
            "passes": {"type": "int", "default": 3},
            "interval": {"type": "float", "default": 1.0},
            "timeout": {"type": "float", "default": 5.0},
            "deadline": {"type": "float", "default": 60.0},
        },
    },
    "edge": EDGE_ARGUMENT,
}


# When a release counts as worse than the one before; see Thresholds in canary.py.
CANARY_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "default": {},
    "options": {
        "judged": {"type": "bool", "default": True},
        "before": {"type": "float", "default": 300.0},
        "requests": {"type": "int", "default": 50},
        "errors": {"type": "int", "default": 3},
        "error_ratio": {"type": "float", "default": 2.0},
        "error_difference": {"type": "float", "default": 0.01},
        "ms_ratio": {"type": "float", "default": 3.0},
        "ms_difference": {"type": "float", "default": 200.0},
    },
}


def arguments_of(parameters: dict[str, Any]) -> dict[str, Any]:
    """What a verb of operations.py takes, from the flat parameters of a module without those that were not given."""
    given = {name: value for name, value in parameters.items() if value is not None}
    place = {name: given.pop(name) for name in PLACE_ARGUMENTS if name in given}
    return {**given, "place": place}


def judge_of(arguments: dict[str, Any]) -> Optional[Canary]:
    """The judge of a release that soaks; None where it is not to be judged."""
    limits = dict(arguments.get("canary") or {})
    if not limits.pop("judged", False) or not arguments.get("soak"):
        return None
    before = limits.pop("before")
    return Canary(arguments["place"]["edge"]["backend"], Thresholds(**limits), before)


def transaction_of(arguments: dict[str, Any], **changes: Any) -> Transaction:
    """The transaction that a verb's arguments describe; those that Request does not know are left out."""
    place = arguments["place"]
    known = {field.name for field in fields(Request)} - {"app", "gate"}
    given = {**arguments, **changes}
    gate = Gate(**(place.get("gate") or {}))
    request = Request(
        app=place["app"],
        gate=gate,
        **{name: value for name, value in given.items() if name in known and value is not None},
    )
    store = Store(Path(place["root"]))
    edge = place["edge"]
    sockets = Path(place["socket_directory"])
    return Transaction(
        request,
        store,
        Runtimes(place["app"], store.releases),
        Edge(edge["socket"], edge["backend"], edge["state_file"]),
        lambda slot, path: get(str(sockets / f"{slot}.sock"), path, gate.timeout),
        judge=judge_of(given),
    )
