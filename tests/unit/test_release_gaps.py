"""Releases that may not run beside each other, against a host in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import NotStored, Server
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance
from ansible_collections.slipway.fleet.plugins.module_utils.release.contract import Kept
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import SLOTS, Probe, TransactionError
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit.memory import Crash, Host, assert_whole, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here


class Alone(Host):
    """A host on which releases that may not run beside each other never do."""

    def start(self, slot: str, release: str) -> None:
        beside = {self.running[name] for name in SLOTS if name != slot} - {None}
        assert not beside, f"{release} is started beside {beside}"
        super().start(slot, release)


def deploy(root: Path, host: Host, release: str, alone: bool = True, **request: Any) -> dict[str, Any]:
    stage(root, release)
    keeps = root / "releases" / release / "keeps.json"
    keeps.write_text(json.dumps({"volumes": {}, "overlap": not alone}))
    made: dict[str, Any] = transaction(root, host, release, **request).run()
    return made


def last_record(root: Path) -> dict[str, Any]:
    return Store(root).releases_recorded()[-1]


def test_the_first_release_has_no_gap(tmp_path: Path) -> None:
    assert deploy(tmp_path, Alone(), "one")["gap"] is None
    assert "gap" not in last_record(tmp_path)


@pytest.mark.parametrize(("before", "after"), [(True, True), (False, True), (True, False)])
def test_one_is_stopped_before_the_other_starts_where_either_says_so(tmp_path: Path, before: bool, after: bool) -> None:
    host = Alone()
    deploy(tmp_path, host, "one", alone=before)
    made = deploy(tmp_path, host, "two", alone=after)
    assert made["gap"] > 0
    assert [phase["phase"] for phase in made["phases"]][:2] == ["make way", "start"]
    assert last_record(tmp_path)["gap"] == made["gap"]
    assert_whole(tmp_path, host, "two")


def test_others_run_beside_each_other_as_ever(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one", alone=False)
    host.served.clear()
    assert deploy(tmp_path, host, "two", alone=False)["gap"] is None
    assert None not in host.served


def test_a_refused_one_gives_the_place_back_and_its_log_is_told(tmp_path: Path) -> None:
    host = Alone()
    deploy(tmp_path, host, "one")
    host.sick["two"] = Probe(error="nothing listens")
    host.log["two"] = "Traceback\nImportError: no module 'nope'\n"
    with pytest.raises(TransactionError, match="no module 'nope'"):
        deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "one")
    record = last_record(tmp_path)
    assert (record["release"], record["result"]) == ("two", "failed")
    assert record["gap"] > 0


def test_one_that_gets_sick_in_its_soak_gives_the_place_back(tmp_path: Path) -> None:
    host = Alone()
    deploy(tmp_path, host, "one")
    host.sick_after["two"] = host.seconds + 8
    with pytest.raises(TransactionError, match="got sick soon after the switch"):
        deploy(tmp_path, host, "two", soak=60.0)
    assert_whole(tmp_path, host, "one")


class Full(Alone):
    """One whose edge can be told, and cannot store it from the moment on in which the new release is sick."""

    def set_state(self, slot: str, state: str, beside: str = "") -> None:
        super().set_state(slot, state, beside)
        if any(release and self.turned_sick(release) for release in self.running.values()):
            raise NotStored("the state file cannot be written")


def test_a_full_disk_keeps_the_earlier_one_from_nothing(tmp_path: Path) -> None:
    host = Full()
    deploy(tmp_path, host, "one")
    host.sick_after["two"] = host.seconds + 8
    with pytest.raises(TransactionError, match="got sick soon after the switch"):
        deploy(tmp_path, host, "two", soak=60.0)
    assert host.serving() == "one"


def test_one_that_was_told_ready_by_the_other_door_is_told_again(tmp_path: Path) -> None:
    """The edge looks at no door that is shut, so it would never see this one well."""

    class Doors(Alone):
        shut = ""

        def servers(self) -> dict[str, Server]:
            seen = super().servers()
            if self.shut:
                seen[self.shut] = replace(seen[self.shut], answers=False, shut=True)
            return seen

        def set_state(self, slot: str, state: str, beside: str = "") -> None:
            super().set_state(slot, state, beside)
            if self.running[slot] is None and state == "ready":
                self.shut = slot
            elif self.shut == slot:
                self.shut = ""

    host = Doors()
    deploy(tmp_path, host, "one")
    work = transaction(tmp_path, host, "one")
    host.stop("blue", 1.0)
    host.set_state("blue", "ready")
    host.start("blue", "one")
    work._confirm("blue", "green")
    assert (host.shut, host.serving()) == ("", "one")


def test_where_the_earlier_one_cannot_be_started_again_the_new_one_serves_if_it_is_well(tmp_path: Path) -> None:
    host = Alone()
    deploy(tmp_path, host, "one")
    host.edge_blind = "two"
    host.waits.append(
        lambda: host.sick.update({"one": Probe(error="nothing listens")}) if host.running["green"] else None
    )
    with pytest.raises(SlipwayError, match="could not be started again, so both slots are left"):
        deploy(tmp_path, host, "two")
    assert (host.running, host.enabled["green"]) == ({"blue": None, "green": "two"}, True)


def test_where_neither_comes_up_the_earlier_one_is_left_to_and_gets_the_requests_then(tmp_path: Path) -> None:
    host = Alone()
    deploy(tmp_path, host, "one")
    host.sick["two"] = Probe(error="nothing listens")

    def slow() -> None:
        if host.running["green"]:
            host.sick["one"] = Probe(error="nothing listens")

    host.waits.append(slow)
    with pytest.raises(TransactionError):
        deploy(tmp_path, host, "two")
    assert (host.running, host.enabled["blue"]) == ({"blue": "one", "green": None}, True)
    del host.sick["one"]
    assert host.serving() == "one"


def effects_of_a_release(tmp_path: Path) -> int:
    host = Alone()
    deploy(tmp_path, host, "one")
    first = host.effects
    deploy(tmp_path, host, "two")
    return host.effects - first


@pytest.mark.parametrize("then", ["one", "two", "three"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_anywhere_converges_and_nothing_ever_runs_beside(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, after: bool, then: str
) -> None:
    for point in range(1, effects_of_a_release(tmp_path) + 1):
        root, host = tmp_path_factory.mktemp("crash"), Alone()
        deploy(root, host, "one")
        host.crash_at, host.crash_after = host.effects + point, after
        with pytest.raises(Crash):
            deploy(root, host, "two")
        host.crash_at = 0
        deploy(root, host, then)
        assert_whole(root, host, then)


def breaks_the_api(slot: str, release: str, was: str | None) -> Kept:
    return Kept(("GET /b is gone",), refused=True) if was else Kept()


def deploy_refused(root: Path, host: Host) -> None:
    stage(root, "two")
    (root / "releases/two/processes.json").write_text(json.dumps(WITH_WORKERS))
    refused = transaction(root, host, "two")
    refused.contract = breaks_the_api
    with pytest.raises(TransactionError, match="GET /b is gone"):
        refused.run()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_anywhere_lets_nothing_through_that_is_to_be_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, after: bool
) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    first = host.effects
    deploy_refused(tmp_path, host)
    for point in range(1, host.effects - first + 1):
        root, host = tmp_path_factory.mktemp("crash"), AloneWithAll()
        deploy_with_workers(root, host, "one")
        host.crash_at, host.crash_after = host.effects + point, after
        with pytest.raises(Crash):
            deploy_refused(root, host)
        host.crash_at = 0
        deploy_refused(root, host)
        assert_beside(root, host, "one")
        assert "two" not in host.served


@pytest.mark.parametrize("text", ["{", "[]", '{"volumes": 5}'])
def test_one_whose_files_cannot_be_read_is_let_run_beside_none(tmp_path: Path, text: str) -> None:
    host = Alone()
    deploy(tmp_path, host, "one")
    (tmp_path / "releases/one/keeps.json").write_text(text)
    assert deploy(tmp_path, host, "two", alone=False)["gap"] > 0


WITH_WORKERS = {"worker": {"command": ["work"], "stop_grace": 300}, "beat": {"command": ["beat"], "singleton": True}}


class AloneWithAll(Alone):
    """One on which the processes of such a release run beside no other release either."""

    def effect(self, do: Callable[[], None]) -> None:
        def and_look() -> None:
            do()
            there = {release for release in self.running.values() if release}
            there |= {one.release for one in self.beside.instances() if not one.gone}
            assert len(there) < 2, f"{' and '.join(sorted(there))} run beside each other"

        super().effect(and_look)


def deploy_with_workers(root: Path, host: Host, release: str, **request: Any) -> dict[str, Any]:
    stage(root, release)
    (root / "releases" / release / "processes.json").write_text(json.dumps(WITH_WORKERS))
    return deploy(root, host, release, **request)


def assert_beside(root: Path, host: Host, release: str) -> None:
    assert_whole(root, host, release)
    assert host.beside.running() == [f"{release}:beat", f"{release}:worker"]


def test_its_processes_have_ended_before_the_other_one_starts_and_while_it_answers(tmp_path: Path) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    host.beside.lasts = {"worker": 200.0}
    made = deploy_with_workers(tmp_path, host, "two")
    assert host.seconds > 200
    assert made["gap"] < 30, "what a worker has in hand is finished beside a slot that answers"
    assert_beside(tmp_path, host, "two")


def test_a_restart_has_no_process_twice(tmp_path: Path) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    host.beside.lasts = {"worker": 20.0}
    most = []
    host.waits.append(lambda: most.append(sum(not one.gone for one in host.beside.instances())))
    deploy_with_workers(tmp_path, host, "one", restart=True)
    assert max(most) == len(WITH_WORKERS)
    assert_beside(tmp_path, host, "one")


@pytest.mark.parametrize("why", ["slot", "worker"])
def test_a_refused_one_gives_processes_their_place_back(tmp_path: Path, why: str) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    host.sick.update({"two": Probe(error="nothing listens")} if why == "slot" else {})
    host.beside.dies = {("two", "worker")} if why == "worker" else set()
    host.beside.lasts = {"worker": 20.0}
    with pytest.raises(TransactionError):
        deploy_with_workers(tmp_path, host, "two")
    assert_beside(tmp_path, host, "one")
    assert "two" not in host.served, "what is refused gets no requests, though nobody else answers them"


def test_where_nobody_answers_a_refused_one_s_processes_have_ten_seconds(tmp_path: Path) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    host.beside.dies = {("two", "beat")}
    host.waits.append(lambda: host.beside.lasts.update(worker=250.0 if "two" in host.running.values() else 0.0))
    with pytest.raises(TransactionError):
        deploy_with_workers(tmp_path, host, "two")
    assert 10 < last_record(tmp_path)["gap"] < 40
    assert_beside(tmp_path, host, "one")


def test_one_that_does_not_end_keeps_its_release_serving(tmp_path: Path) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    host.beside.lasts = {"worker": 1e9}
    host.served.clear()
    with pytest.raises(TransactionError, match="worker of release one did not end within 360 s"):
        deploy_with_workers(tmp_path, host, "two")
    assert host.served == {"one"}


def test_a_worker_that_ends_still_stops_no_slot_that_may_stay(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "two", alone=False)
    stage(tmp_path, "one")
    (tmp_path / "releases/one/keeps.json").write_text('{"overlap": false}')
    host.beside.there["1-worker-0"] = Instance("1-worker-0", "worker", "green", "one", 1, ending=True)
    host.beside.until["1-worker-0"] = host.seconds + 20
    host.served.clear()
    assert deploy_with_workers(tmp_path, host, "three", alone=False)["gap"] is None
    assert host.seconds > 20
    assert host.served <= {"two", "three"}


@pytest.mark.parametrize("then", ["one", "two", "three"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_anywhere_has_no_process_beside_another_release(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, after: bool, then: str
) -> None:
    host = AloneWithAll()
    deploy_with_workers(tmp_path, host, "one")
    first = host.effects
    deploy_with_workers(tmp_path, host, "two")
    for point in range(1, host.effects - first + 1):
        root, host = tmp_path_factory.mktemp("crash"), AloneWithAll()
        deploy_with_workers(root, host, "one")
        host.beside.lasts = {"worker": 20.0}
        host.crash_at, host.crash_after = host.effects + point, after
        with pytest.raises(Crash):
            deploy_with_workers(root, host, "two")
        host.crash_at = 0
        deploy_with_workers(root, host, then)
        assert_beside(root, host, then)
