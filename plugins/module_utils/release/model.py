"""Words of the release transaction: slots, observed states, requests and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from ..host.errors import RELEASE, Damaged, SlipwayError
from ..host.reading import record_of

SLOTS = ("blue", "green")


def other(slot: str) -> str:
    """The slot that is not `slot`."""
    return SLOTS[1] if slot == SLOTS[0] else SLOTS[0]


@dataclass(frozen=True)
class Gate:
    """When a started slot counts as good. Times in seconds.

    `interval` is between two looks at a slot that is slow or serves; the first ones follow each other sooner. `edge` is
    how long HAProxy may take to see what the slot answers already.

    `statuses` are those of a good answer, as HAProxy's `http-check expect status` takes them: codes and ranges with
    commas between. `host` and `proto` are what the app is told of a request that came through the edge.
    """

    path: str = "/readyz"
    version_path: str = ""
    statuses: str = "200-299"
    host: str = "localhost"
    proto: str = "http"
    passes: int = 3
    interval: float = 1.0
    timeout: float = 5.0
    deadline: float = 60.0
    edge: float = 20.0

    @property
    def asked(self) -> str:
        """The path that names the release, else the one that tells whether the app is well."""
        return self.version_path or self.path

    def takes(self, status: int) -> bool:
        """Whether an answer with this status is a good one."""
        ranges = (part.partition("-") for part in self.statuses.split(","))
        return any(first <= str(status) <= (last or first) for first, _, last in ranges)


# What of a gate belongs to the release that is looked at, whatever the run wants that looks; the rest is the run's.
OF_THE_RELEASE = ("path", "version_path", "statuses", "host", "proto")


@dataclass(frozen=True)
class Request:
    """What the caller wants of this host. Times in seconds.

    `soak` is how long the new release must stay well after the switch, with the old one still running beside it.
    `restart` starts the release anew although it serves already. `expects` is the release that must serve before, ''
    for none; None for whatever does.

    Nobody cuts a request within `drain` after the switch. What is still there when the new release has soaked
    (websockets, streams, long requests) ends in its own time, for up to `drain_websockets`; the next transaction
    needs its slot sooner than that and cuts it (`on_draining` cut), or waits for it (wait).

    `singletons`: whether this is the host on which those of the fleet run; `singleton_host` is its name.
    """

    app: str
    release: str = ""
    gate: Gate = field(default_factory=Gate)
    drain: float = 30.0
    drain_websockets: float = 300.0
    singletons: bool = True
    singleton_host: str = ""
    on_draining: str = "cut"
    expects: Optional[str] = None
    soak: float = 0.0
    stop_grace: float = 45.0
    restart: bool = False
    keep: int = 5
    log_lines: int = 200
    about: dict[str, Any] = field(default_factory=dict)


Record = TypeVar("Record", "State", "Intent", "Draining")


def read_record(kind: type[Record], content: Mapping[str, Any], name: str) -> Record:
    """A record as this version knows it; what a newer one wrote besides is left out. Raises Damaged."""
    try:
        record = record_of(kind, content)
    except ValueError as error:
        raise Damaged(f"{name} is damaged ({error}); the next deploy asks what runs instead") from error
    if record.slot not in SLOTS or not record.release:
        raise Damaged(f"{name} is damaged (no slot or release); the next deploy asks what runs instead")
    return record


@dataclass(frozen=True)
class State:
    """The last completed transaction: which release serves, from which slot. A hint: what runs and answers counts."""

    release: str
    slot: str
    since: str
    previous: Optional[str] = None


@dataclass(frozen=True)
class Intent:
    """A transaction under way.

    `switched` is written only after the edge sends requests to `slot`; `returning` before they go back to the old one.
    `about` is what the ledger is to say of it, whoever brings it to its end.
    """

    release: str
    slot: str
    was: Optional[str]
    started: str
    switched: bool = False
    returning: bool = False
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draining:
    """A slot that gets nothing new and still answers; `since` (the switch) and `until` in seconds since the epoch."""

    release: str
    slot: str
    since: float
    until: float
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SlotStatus:
    """What the runtime says about one slot."""

    release: Optional[str] = None
    running: bool = False
    restarts: int = 0
    exit_code: Optional[int] = None
    out_of_memory: bool = False
    started: Optional[str] = None
    container: Optional[str] = None


@dataclass(frozen=True)
class Probe:
    """One answer of a slot; `error` is set when there was none, and `nobody` when nobody listens on its socket.

    `late` is whether somebody listens who did not answer in time, and `location` where a redirect leads.
    """

    status: int = 0
    body: str = ""
    error: str = ""
    nobody: bool = False
    late: bool = False
    location: str = ""


class TransactionError(SlipwayError):
    """The release was refused; the release that served before still serves.

    `cause` is one sentence for people, `evidence` what was seen (log tail, health body, sockets).
    """

    kind = RELEASE

    def __init__(self, cause: str, evidence: Optional[dict[str, Any]] = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.evidence = evidence or {}


class Recalled(TransactionError):
    """The run that began the transaction wants it taken back."""
