"""From the parameters of a module to a transaction of this host; several modules take the same ones."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from .edge import EDGE_ARGUMENT, Edge
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


def transaction_of(parameters: dict[str, Any], **changes: Any) -> Transaction:
    """The transaction that a module's parameters describe; those that Request does not know are left out."""
    known = {field.name for field in fields(Request)} - {"gate"}
    given = {**parameters, **changes}
    gate = Gate(**(parameters["gate"] or {}))
    request = Request(
        gate=gate, **{name: value for name, value in given.items() if name in known and value is not None}
    )
    store = Store(Path(parameters["root"]))
    edge = parameters["edge"]
    sockets = Path(parameters["socket_directory"])
    return Transaction(
        request,
        store,
        Runtimes(parameters["app"], store.releases),
        Edge(edge["socket"], edge["backend"], edge["state_file"]),
        lambda slot, path: get(str(sockets / f"{slot}.sock"), path, gate.timeout),
    )
