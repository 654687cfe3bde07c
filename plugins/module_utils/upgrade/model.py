"""What an upgrade goes from and to, how it is remembered, and what it asks of whoever runs the server."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

from ..host.durable import read_json, write_durably
from ..host.errors import SlipwayError
from ..postgres.admitting import UPGRADE

if TYPE_CHECKING:
    from ..backup.postgres import Server

# How far a run is: the new server is filled while the old one is what serves; apps are let into the new one; the run
# was taken back, apps are let into the old one, and what was made of the new one is still to go.
FILLING, OPENING, TIDYING = "filling", "opening", "tidying"
UPGRADING, GOING_BACK = "upgrade", "back"


class UpgradeError(SlipwayError):
    """The database is not of the wanted version; the text says what serves, and what to do."""


@dataclass(frozen=True)
class Side:
    """A server's data with what it is run by.

    `name` is the volume or the cluster, `image` the image of a container, `files` the texts of the files that are put
    in place for it, by their path below the server's directory. `since` is when something else took its place. `aside`
    is the name that a cluster which is in the way of this one is given.
    """

    major: int
    name: str
    image: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    since: str = ""
    aside: str = ""


@dataclass(frozen=True)
class Offer:
    """What the wanted version has on this host; locales as `locale -a` writes them."""

    major: int
    version: str
    extensions: frozenset[str] = frozenset()
    locales: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Run:
    """An upgrade, or a way back, that is under way or was cut; `names` are the databases whose it is."""

    verb: str
    old: Side
    new: Side
    phase: str = FILLING
    names: Sequence[str] = ()


class State:
    """What is remembered of upgrades: a run that is under way, and what the last one has kept."""

    def __init__(self, root: Path) -> None:
        self._path = root / UPGRADE

    def run(self) -> Optional[Run]:
        """Raises Damaged and OSError."""
        found = (read_json(self._path) or {}).get("run")
        return Run(**{**found, "old": Side(**found["old"]), "new": Side(**found["new"])}) if found else None

    def kept(self) -> Optional[Side]:
        """Raises Damaged and OSError."""
        found = (read_json(self._path) or {}).get("kept")
        return Side(**found) if found else None

    def note(self, run: Optional[Run], kept: Optional[Side]) -> None:
        """Remember both, durably. Settings of a server may be private. Raises OSError."""
        told: dict[str, Any] = {"run": asdict(run) if run else None, "kept": asdict(kept) if kept else None}
        write_durably(self._path, json.dumps(told, indent=1, sort_keys=True) + "\n", mode=0o600)


def gone(side: Side) -> str:
    return f"what was kept of PostgreSQL {side.major}, {side.name}, is gone"


class Provider(Protocol):
    """Whoever runs the server of a host. Each verb may be the last one of a run, and be said again by the next."""

    # Lines of pg_hba.conf by which the programs of the new version reach a server that is closed.
    door: str

    def server(self) -> Server:
        """The one in place, as its superuser reaches it."""

    def now(self) -> Side:
        """What is in place. Raises UpgradeError where that cannot be told."""

    def offer(self) -> Optional[Offer]:
        """What the wanted version has; None while it is not on the host."""

    def new(self, major: int) -> Side:
        """What the inventory wants, to be made."""

    def disk(self) -> Path:
        """A directory on the disk that gets the new data."""

    def make(self, side: Side) -> Server:
        """Have an empty server that nobody else reaches. Raises UpgradeError."""

    def accepts(self, side: Side) -> str:
        """Why that server would not start with the settings of `side`; empty where it would."""

    def source(self) -> tuple[str, ...]:
        """The words before the new version's pg_dump that have it reach the server in place."""

    def rest(self, side: Side) -> None:
        """Stop the server that nobody else reaches, with all of its data on the disk. Raises UpgradeError."""

    def discard(self, side: Side) -> None:
        """Take away what was made of a side that never was in place, and nothing else. Raises UpgradeError."""

    def put(self, side: Side, other: Side) -> None:
        """Stop what runs, and put `side` in the place of `other`, by one last step. Raises UpgradeError and OSError."""

    def placed(self, run: Run) -> bool:
        """Whether that last step was done for the new side."""

    def start(self, side: Side, other: Side) -> None:
        """Have the one in place run, until its superuser gets an answer, and with the host, instead of the other one.

        Raises UpgradeError.
        """

    def lacking(self, side: Side) -> str:
        """What is not there any more of a side that was kept, and how it comes back; empty where all is there."""

    def removal(self, side: Side) -> str:
        """The command that removes a side that is not needed any more."""
