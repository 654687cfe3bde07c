"""Words of the release transaction: slots, observed states, requests and failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

from ..host.errors import RELEASE, SlipwayError

SLOTS = ("blue", "green")


def other(slot: str) -> str:
    """The slot that is not `slot`."""
    return SLOTS[1] if slot == SLOTS[0] else SLOTS[0]


@dataclass(frozen=True)
class Gate:
    """When a started slot counts as good. Times in seconds."""

    path: str = "/readyz"
    version_path: str = "/version"
    passes: int = 3
    interval: float = 1.0
    timeout: float = 5.0
    deadline: float = 60.0


@dataclass(frozen=True)
class Request:
    """What the caller wants of this host. Times in seconds.

    `soak` is how long the new release must stay well after the switch, with the old one still running beside it.
    `restart` starts the release anew although it serves already.
    """

    app: str
    release: str = ""
    gate: Gate = field(default_factory=Gate)
    drain: float = 30.0
    soak: float = 0.0
    stop_grace: float = 45.0
    restart: bool = False
    keep: int = 5
    log_lines: int = 200
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """The last completed transaction: which release serves, from which slot."""

    release: str
    slot: str
    since: str
    previous: Optional[str] = None


@dataclass(frozen=True)
class Intent:
    """A transaction under way.

    `switched` is written only after the edge sends requests to `slot`; `returning` before they go back to the old one.
    """

    release: str
    slot: str
    was: Optional[str]
    started: str
    switched: bool = False
    returning: bool = False


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
    """One answer of a slot; `error` is set when there was none."""

    status: int = 0
    body: str = ""
    error: str = ""


class TransactionError(SlipwayError):
    """The release was refused; the release that served before still serves.

    `cause` is one sentence for people, `evidence` what was seen (log tail, health body, sockets).
    """

    kind = RELEASE

    def __init__(self, cause: str, evidence: Optional[dict[str, Any]] = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.evidence = evidence or {}
