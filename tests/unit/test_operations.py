"""The verbs of a host: who may, what is answered, and what becomes of a transaction whose run went away."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release import lease as lease_module
from ansible_collections.slipway.fleet.plugins.module_utils.release import operations
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import port_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import Lease
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Draining, Probe
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import Adapter, RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtimes import Runtimes
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.timers import Timers
from ansible_collections.slipway.fleet.plugins.module_utils.release.volumes import Volumes
from ansible_collections.slipway.fleet.plugins.module_utils.release.wiring import Leased

from tests.templates.rendering import Role
from tests.unit import test_release_timers as of_timers
from tests.unit.memory import Host, deploy, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here


class World:
    """One host in memory, asked by verbs; what is detached runs in a thread, what drains not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = Host()
        self.place = {"app": "links", "root": str(root), "edge": {"socket": "", "backend": "", "state_file": ""}}
        self.drains = 0
        self.lease = Lease("links", root)
        self.images = {"links:1": "there"}

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        return operations.VERBS[verb]({"place": self.place, **arguments}, lambda event: None)

    def hold(self, run: str) -> dict[str, Any]:
        return self.ask("hold", run={"id": run, "who": run, "from": "ci", "what": "a deploy"})

    def made(self, arguments: dict[str, Any], **changes: Any) -> Any:
        known = ("release", "soak", "expects", "keep", "about", "restart")
        given = {name: value for name, value in {**arguments, **changes}.items() if name in known}
        work = transaction(self.root, self.host, given.pop("release", "") or "", **given)
        if run := arguments.get("run_id"):
            work.hold = Leased(self.lease, run)
        return work


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(lease_module.Lease.__init__, "__defaults__", (tmp_path / "locks", 120))
    root = tmp_path / "links"
    root.mkdir()
    found = World(root)
    deploy(root, found.host, "one")

    def here(work: Any, log: Path, tell: Any, after: Any = lambda: None) -> Any:
        found.drains += 1
        return work(tell)

    monkeypatch.setattr(operations, "run_detached", here)
    monkeypatch.setattr(operations, "transaction_of", found.made)
    return found


def test_a_run_takes_a_host_to_a_release_and_lets_it_go(world: World) -> None:
    held = world.hold("ann")
    assert held["serving"] == {"release": "one", "slot": "blue"}
    assert held["state"]["release"] == "one"
    stage(world.root, "two")
    result = world.ask("activate", run_id="ann", release="two", expects="one", about={"who": "ann"})
    assert (result["changed"], result["release"], result["was"]) == (True, "two", "one")
    assert world.ask("renew", run_id="ann") == {"held": True, "frozen": ""}
    ended = world.ask("let_go", run_id="ann")
    assert ended["now"]["serving"] == {"release": "two", "slot": "green"}
    assert ended["now"]["drift"] == []
    assert world.ask("renew", run_id="ann") == {"held": False, "frozen": ""}


def test_timers_that_a_run_moves_are_no_difference_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "the job nightly has no timer"
    monkeypatch.setattr(operations, "seen_jobs", lambda timers, release: ([], [said]))
    monkeypatch.setattr(operations, "surroundings", lambda *around: {"drift": []})
    monkeypatch.setattr(operations, "runtime_of", lambda arguments: SimpleNamespace(volumes=Volumes("links")))
    assert said in world.ask("observe")["drift"]
    world.hold("ann")
    assert said not in world.ask("observe")["drift"]
    world.ask("let_go", run_id="ann")
    assert said in world.ask("observe")["drift"]


@pytest.mark.parametrize("of", [{"run": {"id": "ann"}}, {"run_id": "ann"}], ids=["who held", "who renewed"])
def test_a_run_whose_controller_is_gone_holds_the_host_a_little_longer(world: World, of: dict[str, Any]) -> None:
    world.hold("ann")
    assert world.ask("fade", **of) == {"held": True}
    with pytest.raises(SlipwayError, match=r"deploy by ann.*frees itself in at most (30|29|2\d) s"):
        world.hold("bob")
    assert world.ask("renew", run_id="ann")["held"]
    world.ask("let_go", run_id="ann")
    assert world.ask("fade", **of) == {"held": False}


@pytest.mark.parametrize(
    ("verb", "arguments", "said"),
    [
        ("activate", {"release": "two", "about": {"who": "bob"}}, "release two by bob"),
        ("let_go", {}, "the end of a run by ann"),
    ],
)
def test_who_meets_a_transaction_is_told_whose_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch, verb: str, arguments: dict[str, Any], said: str
) -> None:
    world.hold("ann")
    met: list[str | None] = []
    begin = Store.lock

    def lock(self: Store, holder: str, *more: Any) -> Any:
        met.append(holder)
        return begin(self, holder, *more)

    monkeypatch.setattr(Store, "lock", lock)
    stage(world.root, "two")
    world.ask(verb, run_id="ann", **arguments)
    assert met == [f"{said}, pid {os.getpid()}"]


def test_a_plan_is_told_what_a_release_breaks_that_ran_here_before(world: World) -> None:
    store = Store(world.root)
    about: dict[str, Any] = {"release": "two", "files": [], "contents": {}, "was": "one"}
    warned = {"path": "/openapi.json", "breaking": "warn"}

    def told(contract: Any = warned, **more: Any) -> Any:
        return world.ask("stage", check_mode=True, contract=contract, **{**about, **more})["api"]

    stage(world.root, "two")
    store.keep_openapi("one", json.dumps({"openapi": "3.1.0", "paths": {"/a": {"get": {}}}}))
    assert told() is None, "it never ran here"
    store.keep_openapi("two", json.dumps({"openapi": "3.1.0", "paths": {}}))
    assert told() == {"breaks": ["GET /a is gone"], "more": 0, "note": ""}
    assert told({**warned, "breaking": "refuse"}) == told()
    unasked = [told({**warned, "breaking": "ignore"}), told({**warned, "path": ""}), told(was=None)]
    assert [*unasked, told(release="three")] == [None] * 4
    world.hold("ann")
    assert "api" not in world.ask("stage", run_id="ann", contract=warned, **about), "activate asks the app itself"


CHANGING = {
    "stage": {"release": "two", "files": [], "contents": {}},
    "run": {"release": "one", "command": ["true"], "purpose": "the check"},
    "activate": {"release": "two"},
    "settle": {"return_to": "two"},
    "remove": {},
}


@pytest.mark.parametrize(("verb", "arguments"), CHANGING.items(), ids=CHANGING.keys())
def test_a_run_that_does_not_hold_the_host_changes_nothing(world: World, verb: str, arguments: dict[str, Any]) -> None:
    stage(world.root, "two")
    before = world.host.effects
    world.hold("bob")
    with pytest.raises(SlipwayError, match="does not hold the app on this host any more, a deploy by bob") as caught:
        world.ask(verb, run_id="ann", **arguments)
    assert caught.value.kind == "fenced"
    assert world.host.effects == before
    assert world.host.serving() == "one"


def test_to_let_go_of_what_another_run_holds_only_looks(world: World) -> None:
    world.hold("bob")
    before = world.host.effects
    assert world.ask("let_go", run_id="ann")["now"]["serving"]["release"] == "one"
    assert world.host.effects == before
    assert world.ask("renew", run_id="bob")["held"]


def test_the_end_of_a_run_keeps_all_good_releases_where_it_is_not_told_how_many(world: World) -> None:
    world.hold("ann")
    for number in range(8):
        deploy(world.root, world.host, f"r{number}", keep=100)
    world.ask("let_go", run_id="ann")
    assert len(Store(world.root).staged()) == 9


def test_a_freeze_in_the_middle_stops_the_next_switch_and_not_the_way_back(world: World) -> None:
    world.hold("ann")
    stage(world.root, "two", "three")
    world.ask("activate", run_id="ann", release="two", expects="one")
    world.lease.freeze("the sale", {"who": "bob", "from": "desk", "since": "now"})
    with pytest.raises(SlipwayError, match="frozen meanwhile by bob: the sale") as caught:
        world.ask("activate", run_id="ann", release="three", expects="two")
    assert caught.value.kind == "fenced"
    assert world.host.serving() == "two"


def test_a_refused_release_says_what_goes_on_serving(world: World) -> None:
    world.hold("ann")
    stage(world.root, "two")
    world.host.ended.add("two")
    with pytest.raises(SlipwayError, match=r"release two was refused: .*; release one goes on serving") as caught:
        world.ask("activate", run_id="ann", release="two")
    assert caught.value.kind == "release"
    assert caught.value.details["serving"] == "one"
    assert {"cause", "evidence", "phases"} <= caught.value.details.keys()


def test_to_settle_ends_a_transaction_in_its_soak(world: World) -> None:
    """Its run lost the channel to it; the host is told to return, and not waited for."""
    world.hold("ann")
    stage(world.root, "two")
    soaking = threading.Event()

    def in_real_time() -> None:
        if world.host.enabled["green"] and not world.host.enabled["blue"]:
            soaking.set()
        time.sleep(0.01)

    world.host.waits.append(in_real_time)
    refused: list[SlipwayError] = []

    def activate() -> None:
        try:
            world.ask("activate", run_id="ann", release="two", soak=100_000.0)
        except SlipwayError as error:
            refused.append(error)

    thread = threading.Thread(target=activate)
    thread.start()
    assert soaking.wait(60)
    result = world.ask("settle", run_id="ann", return_to="one", about={"who": "ann"})
    thread.join(60)
    assert not thread.is_alive()
    assert "taken back, as ann wants" in str(refused[0])
    assert result["changed"]
    assert result["now"]["serving"] == {"release": "one", "slot": "blue"}
    assert result["now"]["drift"] == []


def test_to_settle_returns_a_host_that_had_finished(world: World) -> None:
    world.hold("ann")
    stage(world.root, "two")
    world.ask("activate", run_id="ann", release="two")
    result = world.ask("settle", run_id="ann", return_to="one")
    assert result["changed"]
    assert result["now"]["serving"]["release"] == "one"
    assert world.ask("settle", run_id="ann", return_to="one")["changed"] is False


def test_to_settle_without_a_way_back_tells_what_serves(world: World) -> None:
    world.hold("ann")
    result = world.ask("settle", run_id="ann", return_to=None)
    assert (result["changed"], result["now"]["serving"]["release"]) == (False, "one")


def test_how_long_nobody_answered_is_told_also_where_the_release_was_not_what_ended_it(world: World) -> None:
    world.hold("ann")
    stage(world.root, "two")
    (world.root / "releases/two/keeps.json").write_text('{"overlap": false}')

    def in_the_gap() -> None:
        if world.host.running["green"] == "two":
            world.lease.free()

    world.host.waits.append(in_the_gap)
    with pytest.raises(SlipwayError, match="given up before the switch") as caught:
        world.ask("activate", run_id="ann", release="two")
    assert caught.value.details["gap"] > 0
    assert caught.value.details["phases"]


def test_a_host_gives_up_its_singletons_for_the_run_that_holds_it(world: World) -> None:
    path = world.root / "releases/two/processes.json"
    stage(world.root, "two")
    path.write_text('{"beat": {"command": ["beat"], "singleton": true}, "worker": {"command": ["work"]}}')
    deploy(world.root, world.host, "two")
    with pytest.raises(SlipwayError):
        world.ask("give_up", run_id="bob")
    world.hold("ann")
    assert world.ask("give_up", run_id="ann") == {"changed": True}
    assert world.host.beside.running() == ["two:worker"]
    assert world.ask("give_up", run_id="ann") == {"changed": False}
    world.ask("let_go", run_id="ann")
    assert world.host.beside.running() == ["two:worker"]
    world.hold("ann")
    world.ask("let_go", run_id="ann", processes=True)
    assert world.host.beside.running() == ["two:beat", "two:worker"], "as the run says that nobody else has it"


@pytest.fixture
def timers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> of_timers.Systemd:
    """Timers of the host in memory; release two has a job."""
    (tmp_path / "units").mkdir()
    systemd = of_timers.Systemd(tmp_path / "units")

    def made(arguments: dict[str, Any]) -> Timers:
        here = arguments["place"].get("singletons", True)
        units = (tmp_path / "units", tmp_path / "stamps")
        return Timers("links", Store(world.root), here, "web1", systemd, *units, lambda: b"program")

    monkeypatch.setattr(operations, "timers_of", made)
    stage(world.root, "two")
    (world.root / "releases/two/jobs.json").write_text('{"nightly": {"command": ["count"], "schedule": "daily"}}')
    world.hold("ann")
    return systemd


NIGHTLY = {"slipway-links@job-nightly.timer"}


def test_timers_are_those_of_what_serves(world: World, timers: of_timers.Systemd) -> None:
    world.ask("activate", run_id="ann", release="two")
    assert timers.active == NIGHTLY
    assert world.ask("let_go", run_id="ann")["now"]["drift"] == []
    world.hold("ann")
    timers.stop(list(NIGHTLY))
    result = world.ask("activate", run_id="ann", release="two")
    assert (result["changed"], timers.active) == (True, NIGHTLY)
    assert world.ask("activate", run_id="ann", release="two")["changed"] is False
    world.ask("settle", run_id="ann", return_to="one")
    assert timers.active == set()


def test_a_refused_release_leaves_the_timers_alone(world: World, timers: of_timers.Systemd) -> None:
    world.ask("activate", run_id="ann", release="two")
    stage(world.root, "three")
    world.host.running["blue"] = None
    world.host.sick["three"] = Probe(503, "no")
    with pytest.raises(SlipwayError, match="was refused"):
        world.ask("activate", run_id="ann", release="three")
    assert timers.active == NIGHTLY


def test_what_systemd_does_not_do_is_told_and_takes_no_release_back(world: World, timers: of_timers.Systemd) -> None:
    timers.enable = lambda units: (_ for _ in ()).throw(RuntimeFailed("no bus"))  # type: ignore[method-assign]
    result = world.ask("activate", run_id="ann", release="two")
    assert result["warnings"] == ["the timers of jobs could not be set: no bus"]
    drift = world.ask("let_go", run_id="ann")["now"]["drift"]
    assert drift == ["the timer of the job nightly does not run; deploy again"]


def test_a_host_gives_up_its_timers_unless_a_job_runs(world: World, timers: of_timers.Systemd) -> None:
    world.ask("activate", run_id="ann", release="two")
    store = Store(world.root)
    with store.only_one(store.job_lock("nightly"), "since noon", 0.0):
        with pytest.raises(SlipwayError, match=r"the job nightly \(since noon\) runs here; run again"):
            world.ask("give_up", run_id="ann")
        assert timers.active == NIGHTLY
    assert world.ask("give_up", run_id="ann") == {"changed": True}
    assert timers.active == set()


def test_a_removal_takes_the_timers_first(world: World, timers: of_timers.Systemd) -> None:
    world.ask("activate", run_id="ann", release="two")
    world.ask("remove", run_id="ann")
    assert (timers.active, list(timers.units.iterdir())) == (set(), [])
    assert not world.root.exists()


def test_a_job_is_run_now_by_its_name(world: World, timers: of_timers.Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        code = 0

        def admit(self, release: str) -> None:
            """It may be there."""

        def run(self, release: str, words: list[str], timeout: float, name: str, together: bool) -> Ran:
            return Ran(tuple(words), self.code, f"{release} {' '.join(words)}\n")

    runtime = Runtime()
    monkeypatch.setattr(operations, "runtime_of", lambda arguments: runtime)
    with pytest.raises(SlipwayError, match="this host has no timer of a job 'nightly'; there are: none"):
        world.ask("run", run_id="ann", job="nightly", purpose="the job")
    world.ask("activate", run_id="ann", release="two")
    assert world.ask("run", run_id="ann", job="nightly", purpose="the job")["stdout"] == "two count\n"
    runtime.code = 3
    with pytest.raises(SlipwayError, match="the job nightly of release two failed: exit code 3\ntwo count"):
        world.ask("run", run_id="ann", job="nightly", purpose="the job")


def test_a_command_runs_with_no_more_than_the_place_of_the_app(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the module `oneoff` asks, which knows nothing of the edge."""
    asked: list[str] = []

    class Runtime:
        def run(self, release: str, words: list[str], timeout: float, name: str) -> Ran:
            asked.append(f"{release} {' '.join(words)} {timeout:.0f} {name}")
            return Ran(tuple(words), 0, "42\n")

    monkeypatch.setattr(operations, "runtime_of", lambda arguments: Runtime())
    place = {"app": "links", "root": str(world.root)}
    arguments = {"place": place, "release": "", "command": ["count"], "purpose": "the command", "timeout": 9.0}
    assert operations.run(arguments, lambda event: None)["stdout"] == "42\n"
    assert asked == ["one count 9 the-command"]
    assert not list(world.root.glob("oneoff*.log"))


@pytest.mark.parametrize("verb", ["hold", "renew", "freeze", "shown", "free"])
def test_the_lock_needs_no_more_than_that_either(world: World, verb: str) -> None:
    place = {"app": "links", "root": str(world.root)}
    run = {"id": "ann", "who": "ann", "from": "ci", "what": "a deploy"}
    assert operations.VERBS[verb]({"place": place, "run": run, "run_id": "ann", "reason": "x"}, lambda event: None)


class Kept:
    """A runtime with volumes on a real file system."""

    def __init__(self, host: Host, volumes: Volumes) -> None:
        self.status, self.beside, self.volumes = host.status, host.beside, volumes


@pytest.fixture
def kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volumes:
    """Two volumes, one of which what runs has."""
    volumes = Volumes("links", tmp_path / "var")
    volumes.have({"uploads": "/up", "old": "/old"}, (os.getuid(), os.getgid()), lambda path, to: None)
    (world.root / "releases/one/keeps.json").write_text('{"volumes": {"uploads": "/up"}}')
    monkeypatch.setattr(operations, "runtime_of", lambda arguments: Kept(world.host, volumes))
    return volumes


def test_a_volume_is_deleted_by_its_name_and_never_one_that_is_in_use(world: World, kept: Volumes) -> None:
    with pytest.raises(SlipwayError, match="volume uploads is used by release one, which runs here; take it out of"):
        world.ask("remove_volume", volume="uploads")
    with pytest.raises(SlipwayError, match="no volume 'odl' of this app on this host; there are: old, uploads"):
        world.ask("remove_volume", volume="odl")
    assert world.ask("remove_volume", volume="old", check_mode=True) == {"changed": True, "former": []}
    assert kept.names() == ["old", "uploads"]
    assert world.ask("remove_volume", volume="old") == {"changed": True, "former": []}
    assert kept.names() == ["uploads"]


def test_what_restores_have_put_aside_of_a_volume_stays_and_is_named(world: World, kept: Volumes) -> None:
    older, newer, another = (
        kept.directory / f".slipway-before-2026-11-{of}"
        for of in ("26T10:00:00Z-old", "27T20:22:59Z-old", "27T20:22:59Z-very-old")
    )
    for path in (newer, older, another, kept.directory / ".slipway-restoring-old"):
        path.mkdir()
    assert world.ask("remove_volume", volume="old") == {"changed": True, "former": [str(older), str(newer)]}
    assert newer.is_dir()
    assert world.ask("remove")["former"] == [str(older), str(newer), str(another)]


def test_a_volume_is_not_deleted_under_what_ends_still(world: World, kept: Volumes) -> None:
    worker = Instance("1-worker-0", "worker", "green", "one", 1, ending=True)
    stage(world.root, "two")
    world.host.running["blue"] = "two"
    world.host.beside.there = {worker.id: worker}
    with pytest.raises(SlipwayError, match="used by process worker of release one, which ends still; wait until"):
        world.ask("remove_volume", volume="uploads", check_mode=True)
    world.host.beside.there = {worker.id: replace(worker, gone=True)}
    world.host.running["green"] = "one"
    Store(world.root).write_draining(Draining("one", "green", 0.0, 1e12))
    with pytest.raises(SlipwayError, match="used by slot green of release one, which ends still"):
        world.ask("remove_volume", volume="uploads")
    world.host.running["green"] = None
    assert world.ask("remove_volume", volume="uploads")["changed"]


def test_a_volume_is_not_deleted_under_a_job(world: World, kept: Volumes) -> None:
    stage(world.root, "two")
    world.host.running["blue"] = "two"
    with (
        Store(world.root).in_use("one"),
        pytest.raises(SlipwayError, match="used by a job or command of release one, which ends still"),
    ):
        world.ask("remove_volume", volume="uploads")
    assert world.ask("remove_volume", volume="uploads")["changed"]
    assert kept.names() == ["old"]


def test_whether_a_volume_is_used_is_looked_at_while_nobody_can_start_anything(
    world: World, kept: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(world.root, "two")
    world.host.running["blue"] = "two"

    @contextmanager
    def after_a_deploy(store: Store, holder: str) -> Iterator[None]:
        world.host.running["blue"] = "one"
        yield

    monkeypatch.setattr(Store, "lock", after_a_deploy)
    with pytest.raises(SlipwayError, match="used by release one, which runs here"):
        world.ask("remove_volume", volume="uploads")
    assert kept.names() == ["old", "uploads"]


def test_a_release_that_cannot_write_to_its_volume_is_refused_first_and_returned_to_all_the_same(
    world: World, kept: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept.directory / "uploads/file").touch()
    stranger = cast("Adapter", SimpleNamespace(owner=lambda release: (os.getuid() + 1, 1)))
    found = Runtimes("links", world.root / "releases", {"compose": stranger}, volumes=kept)
    monkeypatch.setattr(operations, "runtime_of", lambda arguments: found)
    world.hold("ann")
    deploy(world.root, world.host, "two")
    before = world.host.effects
    with pytest.raises(SlipwayError, match=f"volume uploads belong to uid {os.getuid()}, and this release runs"):
        world.ask("activate", run_id="ann", release="one")
    assert world.host.effects == before
    assert world.ask("settle", run_id="ann", return_to="one")["now"]["serving"]["release"] == "one"


def test_the_removal_of_an_app_leaves_its_volumes_and_says_where(world: World, kept: Volumes) -> None:
    left = [str(kept.directory / name) for name in ("old", "uploads")]
    assert world.ask("remove") == {"changed": True, "volumes": left, "former": []}
    assert not world.root.exists()
    assert kept.names() == ["old", "uploads"]
    world.host.running["blue"] = None
    assert world.ask("remove_volume", volume="uploads")["changed"]


def records(world: World) -> list[tuple[str, str, str]]:
    told = world.ask("history")["records"]
    return [(entry["operation"], entry["what"], entry["result"]) for entry in told if entry.get("id")]


RECORD = {"run": "r1", "who": "ann", "from": "ci"}


def test_a_command_of_an_operator_is_in_the_ledger_and_a_check_is_not(world: World, monkeypatch: Any) -> None:
    answers = [Ran((), 0, "", ""), Ran((), 3, "", "no"), Ran((), 0, "", "")]
    monkeypatch.setattr(world.host, "run", lambda *asked: answers.pop(0))
    monkeypatch.setattr(operations, "runtime_of", lambda arguments: world.host)
    record = {"root": str(world.root), **RECORD}
    asked = {"command": ["tool", "--token", "hunter2"], "purpose": "the command", "alone": False}
    world.ask("run", **asked, record=record)
    with pytest.raises(SlipwayError, match="exit code 3"):
        world.ask("run", **asked, record=record)
    world.ask("run", **asked)
    line = "tool --token ********"
    assert records(world) == [("run", line, "done"), ("run", line, "failed")]
    done, failed = world.ask("history")["records"][-2:]
    assert (done["rc"], done["serving"], done["who"]) == (0, "one", "ann")
    cause = "the command of release one failed: exit code 3"
    assert (failed["rc"], failed["serving"], failed["cause"].partition(";")[0]) == (3, "one", cause)


def test_a_freeze_and_its_end_are_in_the_ledger(world: World) -> None:
    by = {"id": "r1", "who": "ann", "from": "ci", "what": "a freeze"}
    world.ask("free", run=by)
    world.ask("freeze", run=by, reason="the sale")
    world.ask("freeze", run=by, reason="the sale")
    world.ask("free", run=by)
    world.hold("bob")
    world.ask("free", run=by)
    assert records(world) == [
        ("lock", "frozen: the sale", "done"),
        ("lock", "the freeze was lifted", "done"),
        ("lock", "the lock was broken", "done"),
    ]
    assert all((entry["who"], entry["run"]) == ("ann", "r1") for entry in world.ask("history")["records"][1:])


def test_a_volume_that_is_deleted_is_in_the_ledger(world: World, kept: Volumes) -> None:
    record = {"root": str(world.root), **RECORD}
    for check_mode in (True, False):
        world.ask("remove_volume", volume="old", record=record, check_mode=check_mode)
    assert records(world) == [("remove_volume", "old", "done")]


class TestLeaks:
    """An image that has a secret of its release in it."""

    FILES = ("gate.json", "compose.yaml", "secrets/PAYMENT_KEY")

    @pytest.fixture
    def asked(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        found: list[Any] = []

        def leaks(image: str, secrets: dict[str, str]) -> list[str]:
            found.append((image, secrets))
            return ["PAYMENT_KEY (file /srv/.env)"]

        monkeypatch.setattr(operations, "leaks", leaks)
        monkeypatch.setattr(operations, "image_there", lambda image, check_mode: {"image": world.images.get(image)})
        world.hold("ann")
        return found

    def stage(self, world: World, **more: Any) -> dict[str, Any]:
        here = world.root / "releases/two"
        files = [{"dest": str(here / name), "mode": "0644", "secret": "secrets" in name} for name in self.FILES]
        contents = {"0": '{"port": 8000}', "1": "services:\n  web:\n    image: links:1\n", "2": "planted"}
        return world.ask("stage", run_id="ann", release="two", files=files, contents=contents, **more)

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_is_refused_before_a_file_is_written(self, world: World, asked: list[Any], check_mode: bool) -> None:
        words = r"the image links:1 has secrets .*: PAYMENT_KEY \(file /srv/.env\)\. .*_in_image: warn"
        with pytest.raises(SlipwayError, match=words):
            self.stage(world, check_mode=check_mode)
        assert asked == [("links:1", {"PAYMENT_KEY": "planted"})]
        assert not (world.root / "releases/two").exists()

    def test_is_a_warning_or_not_looked_for_where_the_inventory_says_so(self, world: World, asked: list[Any]) -> None:
        (warning,) = self.stage(world, leaks="warn", check_mode=True)["warnings"]
        assert "PAYMENT_KEY (file /srv/.env)" in warning
        assert self.stage(world, leaks="ignore", check_mode=True)["warnings"] == []
        assert len(asked) == 1

    def test_is_not_looked_for_by_a_dry_run_before_the_image_is_there(self, world: World, asked: list[Any]) -> None:
        world.images.clear()
        assert self.stage(world, check_mode=True)["warnings"] == []
        assert asked == []

    def test_is_not_looked_for_again_in_a_release_that_is_there(self, world: World, asked: list[Any]) -> None:
        stage(world.root, "two")
        assert self.stage(world, check_mode=True)["warnings"] == []
        assert asked == []


class TestByImage:
    """Where the app of an image listens that an inventory says nothing of."""

    @pytest.fixture
    def exposes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What the image of every release EXPOSEs; ports are had, and nothing is needed beside the files."""
        ports: list[str] = ["80/tcp"]
        nothing = SimpleNamespace(ports={}, admit=lambda _: None, prepare=lambda _: None, share=lambda _: None)
        monkeypatch.setattr(operations, "exposed_by", lambda image: ports)
        monkeypatch.setattr(operations, "image_there", lambda image, check_mode: {"image": image})
        monkeypatch.setattr(operations, "runtime_of", lambda arguments: nothing)
        monkeypatch.setattr(operations, "edge_of", lambda place, runtime: None)
        monkeypatch.setattr(operations, "port_problems", lambda *of: [])
        world.hold("ann")
        return ports

    def stage(self, world: World, release: str, **more: Any) -> dict[str, Any]:
        directory = world.root / "releases" / release
        compose = Role(
            "fastapi_app", fastapi_app_name="links", fastapi_app_image="links:1", fastapi_app_secrets={}
        ).render("compose.yaml.j2")
        files = [{"dest": str(directory), "state": "directory", "mode": "0755"}]
        files += [{"dest": str(directory / name), "mode": "0644"} for name in ("gate.json", "compose.yaml")]
        contents = {"1": json.dumps({"port": 0}), "2": compose}
        return world.ask("stage", run_id="ann", release=release, files=files, contents=contents, **more)

    def test_the_release_says_so_from_then_on(self, world: World, exposes: list[str]) -> None:
        assert self.stage(world, "two", check_mode=True)["port"] == 80
        assert not Store(world.root).has("two")
        assert self.stage(world, "two")["port"] == 80
        assert port_of(Store(world.root).releases, "two") == 80
        again = self.stage(world, "two")
        assert (again["port"], again["changed"]) == (80, False)

    def test_one_that_is_there_listens_where_it_did(self, world: World, exposes: list[str]) -> None:
        exposes.clear()
        assert self.stage(world, "two")["port"] == 0
        exposes.append("80/tcp")
        again = self.stage(world, "two")
        assert (again["port"], again["changed"]) == (0, False)
        assert port_of(Store(world.root).releases, "two") == 0

    def test_a_port_that_cannot_be_had_is_refused_before_a_file_is_written(
        self, world: World, exposes: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(operations, "port_problems", lambda *of: ["the edge has no door"])
        words = "the image EXPOSEs 80, so the app listens there, and the edge has no door. .*by_image: false"
        with pytest.raises(SlipwayError, match=words):
            self.stage(world, "two")
        assert not (world.root / "releases/two").exists()
