"""A host in memory for the tests of the release transaction: slots, edge, clock, and a store whose writes can fail."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError, Server
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import Verdict
from ansible_collections.slipway.fleet.plugins.module_utils.release.clock import Clock
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import (
    SLOTS,
    Draining,
    Gate,
    Probe,
    Request,
    SlotStatus,
    State,
    other,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.transaction import Transaction


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host in memory loses nothing that it wrote, and to wait for the disk is most of what these tests would do."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


class Crash(BaseException):
    """The process was killed here."""


@dataclass
class FakeJudge:
    """Finds what it is told to; `began` is how often a switch began."""

    found: Verdict
    unknown: str = "go"
    began: int = 0

    def begin(self, new: str) -> None:
        self.began += 1

    def verdict(self, new: str, old: str) -> Verdict:
        return self.found


@dataclass
class Beside:
    """The processes of a host. One that is told to end takes its `lasts`; what runs twice and may not is in `twice`."""

    host: Host
    there: dict[str, Instance] = field(default_factory=dict)
    lasts: dict[str, float] = field(default_factory=dict)  # name: seconds to its end after SIGTERM
    until: dict[str, float] = field(default_factory=dict)  # id: when it has ended
    dies: set[tuple[str, str]] = field(default_factory=set)  # (release, name) that ends and is started again
    says: str = "ModuleNotFoundError: No module named 'celery'"
    twice: list[str] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)  # ids that got SIGTERM, as often as they did

    def running(self, single: str = "") -> list[str]:
        """`release:name` of all that runs and was not told to end, and of a singleton also of what ends still."""
        return sorted(
            f"{one.release}:{one.name}"
            for one in self.instances()
            if not one.gone and (one.name == single if single else not one.ending)
        )

    def instances(self) -> list[Instance]:
        if "runtime" in self.host.unseen:
            raise RuntimeFailed("Cannot connect to the Docker daemon")
        for key, until in list(self.until.items()):
            if self.host.seconds >= until and key in self.there:
                self.there[key] = replace(self.there[key], running=False, gone=True)
        return list(self.there.values())

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        for name, number in replicas.items():
            for count in range(number):
                key = f"{group}-{name}-{count}"
                again = 1 if (release, name) in self.dies else 0
                one = Instance(key, name, slot, release, group, restarts=again)
                self.host.effect(lambda key=key, one=one: self._started(key, one))  # type: ignore[misc]

    def _started(self, key: str, one: Instance) -> None:
        if key in self.there and not self.there[key].gone:
            return
        if one.name == "beat" and self.running("beat"):
            self.twice.append(f"{one.release} beside {self.running('beat')}")
        self.there[key] = one

    def end(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.host.effect(lambda one=one: self._ended(one))  # type: ignore[misc]

    def _ended(self, one: Instance) -> None:
        self.signals.append(one.id)
        self.there[one.id] = replace(self.there[one.id], ending=True)
        self.until.setdefault(one.id, self.host.seconds + self.lasts.get(one.name, 0.0))

    def kill(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.host.effect(lambda one=one: self.until.update({one.id: self.host.seconds}))  # type: ignore[misc]

    def forget(self, instances: Sequence[Instance]) -> None:
        for one in instances:
            self.host.effect(lambda one=one: self._forgotten(one))  # type: ignore[misc]

    def _forgotten(self, one: Instance) -> None:
        assert self.there[one.id].gone, "only what has ended is forgotten"
        del self.there[one.id]
        self.until.pop(one.id, None)

    def logs(self, instance: Instance, lines: int) -> str:
        return f"starting\n{self.says}\n"


@dataclass
class Host:
    """A host: slots, edge and clock. Dies at its `crash_at`-th effect, before or after the effect happened."""

    running: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(SLOTS))
    enabled: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(SLOTS, True))
    sessions: int = 0
    sick: dict[str, Probe] = field(default_factory=dict)
    log: dict[str, str] = field(default_factory=dict)
    out_of_memory: set[str] = field(default_factory=set)
    listens: list[str] = field(default_factory=list)
    opens: list[str] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    edge_blind: str = ""  # a release whose check does not pass at the edge
    edge_got: dict[str, str] = field(default_factory=dict)  # release: what the edge's check of it got, in its words
    paths: dict[str, str] = field(default_factory=dict)  # release: its health path; else /readyz
    checks: dict[str, str] = field(default_factory=dict)  # slot: the path that the edge asks for
    sessions_of: dict[str, int] = field(default_factory=dict)  # release: what it still answers; else `sessions`
    retired: set[str] = field(default_factory=set)
    sick_after: dict[str, float] = field(default_factory=dict)  # release: seconds on the clock from when it is sick
    effects: int = 0
    crash_at: int = 0
    crash_after: bool = False
    fail_from: int = 0  # effects from this one on raise `fails_with`, as many as `failures`
    failures: int = 1
    fails_with: Exception = field(default_factory=lambda: OSError(28, "No space left on device"))
    unseen: set[str] = field(default_factory=set)  # "runtime", "edge": what does not answer
    waits: list[Callable[[], None]] = field(default_factory=list)  # what happens in each sleep
    seconds: float = 0.0
    served: set[str | None] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.beside = Beside(self)

    def effect(self, do: Callable[[], None]) -> None:
        self.effects += 1
        if self.effects == self.crash_at and not self.crash_after:
            raise Crash
        failing = self.fail_from and self.fail_from <= self.effects < self.fail_from + self.failures
        if failing and not self.crash_after:
            raise self.fails_with
        do()
        self.served.add(self.serving())
        if self.effects == self.crash_at:
            raise Crash
        if failing:
            raise self.fails_with

    def serving(self) -> str | None:
        """A release that gets requests and answers them, None in an outage."""
        return next((self.running[s] for s in SLOTS if self.enabled[s] and self.running[s] and self.healthy(s)), None)

    def healthy(self, slot: str) -> bool:
        release = self.running[slot]
        return release is not None and release not in self.sick and not self.turned_sick(release)

    def turned_sick(self, release: str) -> bool:
        return self.seconds >= self.sick_after.get(release, self.seconds + 1)

    # runtime
    def start(self, slot: str, release: str) -> None:
        self.effect(lambda: self.running.update({slot: release}))

    def stop(self, slot: str, grace: float) -> None:
        self.effect(lambda: self.running.update({slot: None}))

    def status(self) -> dict[str, SlotStatus]:
        if "runtime" in self.unseen:
            raise RuntimeFailed("Cannot connect to the Docker daemon")
        return {
            slot: SlotStatus(
                release=self.running[slot],
                running=self.running[slot] is not None and self.running[slot] not in self.ended,
                out_of_memory=self.running[slot] in self.out_of_memory,
            )
            for slot in SLOTS
        }

    def logs(self, slot: str, lines: int) -> str:
        return self.log.get(self.running[slot] or "", "")

    def listening(self, slot: str) -> list[str]:
        return self.listens

    def past_edge(self, slot: str) -> list[str]:
        return self.opens

    def discard(self, releases: list[str]) -> None:
        self.effect(lambda: None)

    def retire(self, slot: str) -> None:
        self.effect(lambda: self.retired.add(slot))

    def there(self, releases: list[str]) -> list[str]:
        return releases

    def run(self, release: str, words: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        raise AssertionError("the transaction runs no one-off commands")

    # edge
    def servers(self) -> dict[str, Server]:
        if "edge" in self.unseen:
            raise EdgeError("HAProxy does not answer")
        return {
            slot: Server(
                self.enabled[slot],
                self.healthy(slot) and not self.edge_sees_not(slot),
                self.left(slot),
                self.edge_got.get(self.running[slot] or "", ""),
            )
            for slot in SLOTS
        }

    def edge_sees_not(self, slot: str) -> bool:
        wrong_path = self.checks.get(slot, self.path_of(slot)) != self.path_of(slot)
        return self.running[slot] == self.edge_blind or wrong_path

    def path_of(self, slot: str) -> str:
        """The one path where the release in a slot tells how it is."""
        return self.paths.get(self.running[slot] or "", "/readyz")

    def left(self, slot: str) -> int:
        return self.sessions_of.get(self.running[slot] or "", self.sessions) if self.running[slot] else 0

    def set_state(self, slot: str, state: str, beside: str = "") -> None:
        if "edge" in self.unseen:
            raise EdgeError("HAProxy does not answer")
        servers = self.servers()
        if beside and servers[slot].enabled and servers[slot].answers and not servers[beside].answers:
            raise EdgeError(f"HAProxy's check of slot {beside} does not pass, so slot {slot} keeps its requests")
        self.effect(lambda: self.enabled.update({slot: state == "ready"}))

    def set_check(self, slot: str, path: str, host: str, proto: str) -> None:
        if "edge" in self.unseen:
            raise EdgeError("HAProxy does not answer")
        self.checks[slot] = path

    def keep_checks(self) -> None:
        return

    # probe
    def probe(self, slot: str, path: str, gate: Gate) -> Probe:
        release = self.running[slot]
        if release is None:
            return Probe(error=f"/run/slipway/links/{slot}.sock does not exist", nobody=True)
        if path not in (self.path_of(slot), "/version"):
            return Probe(404, "Not Found")
        if release in self.sick:
            return self.sick[release]
        if self.turned_sick(release):
            return Probe(500, "sick")
        return Probe(200, json.dumps({"release": release}))


class FakeClock(Clock):
    def __init__(self, host: Host) -> None:
        self.host = host

    def monotonic(self) -> float:
        return self.host.seconds

    def sleep(self, seconds: float) -> None:
        self.host.seconds += seconds
        for happens in self.host.waits:
            happens()

    def time(self) -> float:
        return 1_000_000 + self.host.seconds

    def now(self) -> str:
        return f"2026-01-01T00:00:{self.host.effects:02d}+00:00"


class CrashingStore(Store):
    """A store whose writes are effects of the host as well."""

    def __init__(self, root: Path, host: Host) -> None:
        super().__init__(root)
        self.host = host

    def write_state(self, state: State) -> None:
        self.host.effect(lambda: Store.write_state(self, state))

    def write_intent(self, intent: Any) -> None:
        self.host.effect(lambda: Store.write_intent(self, intent))

    def drop_intent(self) -> None:
        self.host.effect(lambda: Store.drop_intent(self))

    def write_draining(self, draining: Draining) -> None:
        self.host.effect(lambda: Store.write_draining(self, draining))

    def drop_draining(self) -> None:
        self.host.effect(lambda: Store.drop_draining(self))

    def record(self, entry: dict[str, Any]) -> None:
        self.host.effect(lambda: Store.record(self, entry))

    def remove(self, releases: list[str]) -> None:
        self.host.effect(lambda: Store.remove(self, releases))


def stage(root: Path, *releases: str, **gate: str) -> None:
    """Files of releases; with how they are looked at, where that is given."""
    for release in releases:
        directory = root / "releases" / release
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "compose.yaml").write_text("")
        if gate:
            (directory / "gate.json").write_text(json.dumps(gate))


def transaction(root: Path, host: Host, release: str, **request: Any) -> Transaction:
    return Transaction(
        Request("links", release, **request), CrashingStore(root, host), host, host, host.probe, FakeClock(host)
    )


def deploy(root: Path, host: Host, release: str, **request: Any) -> dict[str, Any]:
    stage(root, release)
    return transaction(root, host, release, **request).run()


def assert_whole(root: Path, host: Host, release: str) -> None:
    """One release serves, alone, and all records say so."""
    state = Store(root).state()
    assert state is not None
    assert (state.release, host.serving()) == (release, release)
    assert host.running[other(state.slot)] is None
    assert not host.enabled[other(state.slot)]
    assert Store(root).intent() is None
    assert [entry["release"] for entry in Store(root).releases_recorded() if entry["result"] == "good"][-1] == release


def effects_of_a_release() -> int:
    """How many effects a release beside another one has: at each a process can die."""
    with tempfile.TemporaryDirectory() as directory:
        host = Host()
        deploy(Path(directory), host, "one")
        first = host.effects
        deploy(Path(directory), host, "two")
        return host.effects - first
