"""A repository and a database server in memory, for backups, drills and restores without restic and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.backup.likeness import Likeness
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import EMPTY, BackupError, Database, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import CONTENT, SET, Snapshot
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage, Unfit


class Repository:
    """What restic keeps, by snapshot: the files of it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.kept: dict[str, tuple[Snapshot, dict[str, tuple[bytes, int]]]] = {}
        self.there = False
        self.spared: list[str] = []
        self.gone: list[str] = []
        self.pruned: list[bool] = []
        self.fails: dict[str, BackupError] = {}

    def _may(self, what: str) -> None:
        if error := self.fails.get(what):
            raise error

    def make(self) -> None:
        self.there = True

    def unlock(self) -> bool:
        return self.there

    def sets(self) -> list[Snapshot]:
        return [snapshot for snapshot, _ in self.kept.values() if SET in snapshot.tags]

    def find(self, wanted: str = "latest") -> Snapshot:
        found = [entry for entry in self.sets() if wanted == "latest" or entry.id.startswith(wanted)]
        if not found:
            raise BackupError(EMPTY, "no set")
        return found[-1]

    def content_of(self, found: Snapshot) -> Snapshot | None:
        parts = [snapshot for snapshot, _ in self.kept.values() if CONTENT in snapshot.tags]
        return next((part for part in parts if part.stamp == found.stamp), None)

    def save(
        self, paths: Sequence[str], kind: str, stamp: str, excluded: Iterable[str] = (), more: Iterable[str] = ()
    ) -> tuple[str, int]:
        self._may(f"save {kind}")
        found: dict[str, tuple[bytes, int]] = {}
        for path in map(Path, paths):
            for file in [path] if path.is_file() else sorted(path.rglob("*")):
                if file.is_file():
                    found[str(file)] = (file.read_bytes(), file.stat().st_mtime_ns)
        name = f"{len(self.kept):064x}"[::-1]
        self.kept[name] = (Snapshot(name, f"2026-01-01T00:00:{len(self.kept):02}Z", "h", (kind, stamp, *more)), found)
        return name, sum(len(data) for data, _ in found.values())

    def listing(self, snapshot: str, into: Path) -> Iterator[tuple[str, int, int]]:
        into.touch()
        for path, (data, changed) in self.kept[snapshot][1].items():
            yield path, len(data), changed

    def read(self, snapshot: str, path: str, into: Path) -> None:
        into.write_bytes(self.kept[snapshot][1][path][0])

    def restore(self, snapshot: str, target: Path, only: Iterable[str] = ()) -> None:
        self._may("restore")
        wanted = tuple(only)
        for path, (data, _) in self.kept[snapshot][1].items():
            if not wanted or any(path == name or path.startswith(f"{name}/") for name in wanted):
                file = Path(f"{target}{path}")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)

    def tidy(self, protected: Iterable[str] = (), more: Sequence[str] = (), prune: bool = True) -> list[str]:
        self._may("tidy")
        self.spared, self.gone = list(protected), list(more)
        self.pruned.append(prune)
        return []

    def check(self, part: int, parts: int) -> None:
        self._may("check")


class Databases:
    """A server: rows by database and table. A dump is its JSON."""

    own = True

    def __init__(self, **databases: dict[str, list[str]]) -> None:
        self.have = databases
        self.made: list[str] = []
        self.closed: list[str] = []
        self.fails: dict[str, BackupError] = {}
        self.heads_of: dict[str, tuple[str, ...]] = {}
        self.members_of: dict[str, str] = {}
        self.size = 10
        self.scripts: list[str] = []
        self.shapes: list[dict[str, tuple[str, int]]] = []
        self.patience: list[float] = []
        self.warnings: list[str] = []
        self.ended = 0

    def _described(self, name: str) -> Database:
        return Database(name, "owner", "UTF8", "C", "C", self.size)

    def databases(self) -> list[Database]:
        return [self._described(name) for name in self.have if name not in self.closed]

    def dump(self, database: Database, into: Path, patience: float = 0.0) -> Database:
        if error := self.fails.get("dump"):
            raise error
        self.patience.append(patience)
        into.write_text(json.dumps(self.have[database.name]))
        return self.count(database, database.name)

    def globals(self, into: Path) -> None:
        into.write_text("CREATE ROLE owner;\nALTER ROLE owner WITH LOGIN;\n")

    def count(self, database: Database, name: str) -> Database:
        tables = {table: (len(rows), ",".join(sorted(rows))) for table, rows in self.have[name].items()}
        return replace(database, tables=tables, heads=self.heads(database.name))

    def likeness(self) -> Likeness:
        return Likeness("native", 17, "6543", ("10.0.0.20",))

    def heads(self, name: str) -> tuple[str, ...]:
        if error := self.fails.get("heads"):
            raise error
        return self.heads_of.get(name, ())

    def end_dumps(self) -> None:
        self.ended += 1

    def unwritable(self) -> str:
        return ""

    def disk(self) -> tuple[Path, int]:
        return Path("/"), 1 << 30

    def roles(self) -> set[str]:
        return {"postgres", *(["owner"] if self.scripts else [])}

    def logins(self) -> dict[str, str]:
        known = {"owner": "SCRAM-SHA-256$today", "postgres": "SCRAM-SHA-256$nobody", "other": "SCRAM-SHA-256$other"}
        return known | dict.fromkeys(self.members(), "SCRAM-SHA-256$member")

    def members(self) -> dict[str, str]:
        return self.members_of

    def run_globals(self, script: str) -> None:
        self.scripts.append(script)
        if len(self.scripts) == 1:
            assert "CREATE ROLE owner" in script

    def shape(self, name: str) -> dict[str, tuple[str, int]]:
        return dict(self.shapes.pop(0)) if self.shapes else {}

    def make(self, database: Database, name: str) -> None:
        self.have[name] = {}
        self.made.append(name)

    def fill(self, name: str, dump: Path) -> None:
        if error := self.fails.get("fill"):
            raise error
        self.have[name] = json.loads(dump.read_text())

    def drop(self, name: str) -> None:
        self.have.pop(name, None)

    def leftovers(self) -> list[str]:
        if error := self.fails.get("leftovers"):
            raise error
        return [name for name in self.have if name.startswith("slipway_restoring_")]

    def swap(self, names: Sequence[tuple[str, str, str]]) -> set[str]:
        if error := self.fails.get("swap"):
            raise error
        taken = set()
        for name, own, kept in names:
            if name in self.have:
                self.have[kept] = self.have.pop(name)
                self.closed.append(kept)
                taken.add(name)
            self.have[name] = self.have.pop(own)
        return taken


class Aside:
    """The server of a drill. `away` is what it says of somebody whom it does not let in."""

    away = ""

    disk = Path("/")
    stage = Stage(namespace="/run/netns/drill", sockets={"/run/postgresql": Path("/drill/socket")})

    def __init__(self, *_: Any) -> None:
        self.server = Databases(postgres={})

    def __enter__(self) -> Databases:
        return self.server

    def __exit__(self, *_: object) -> None:
        pass

    def turned_away(self) -> str:
        return self.away


class Started:
    """Releases that are started aside: why each does not pass its gate, and which cannot be started here."""

    def __init__(self, refusals: dict[str, str] | None = None, unfit: str = "", ran: Ran | None = None) -> None:
        self.refusals, self.unfit, self.ran = refusals or {}, unfit, ran
        self.asked: list[str] = []

    def __call__(self, app: str, root: Path, stage: Stage, place: Path) -> Any:
        self.stage, self.place = stage, place
        return self

    def require(self, release: str) -> None:
        if self.unfit:
            raise Unfit(self.unfit)

    def refusal(self, release: str, deadline: float) -> str:
        self.require(release)
        self.asked.append(release)
        return self.refusals.get(release, "")

    def run(self, release: str, words: Sequence[str], timeout: float) -> Ran:
        self.asked.append(f"{release}: {' '.join(words)}")
        assert self.ran
        return self.ran


def host(place: Path, live: Databases | None = None, name: str = "h") -> tuple[Host, Repository]:
    """A host with an app, a directory and a repository in memory."""
    uploads, app = place / "uploads", place / "apps" / "links"
    for directory in (uploads, app / "releases" / "r1" / "secrets", place / "state"):
        directory.mkdir(parents=True)
    (uploads / "a").write_text("first")
    (app / "ledger.jsonl").write_text("{}\n")
    (app / "state.json").write_text('{"release": "r1"}')
    (app / "releases" / "r1" / "secrets" / "KEY").write_text("hidden")
    settings = Settings(
        repository="s3:https://s3.example.com/sets",
        host=name,
        database="compose" if live else "none",
        directories=(str(uploads),),
        place=place / "state",
        apps=place / "apps",
    )
    repository = Repository(settings)
    made: Any = repository
    server: Any = live
    return Host(settings, made, server), repository
