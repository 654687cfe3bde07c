"""What runs beside the slots comes and goes with its release, wherever its host dies; a singleton is alone."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged, SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Process, processes_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, TransactionError
from ansible_collections.slipway.fleet.plugins.module_utils.release.processes import STAYS_UP
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit import memory
from tests.unit.memory import Crash, Host, assert_whole, stage, transaction

no_sync = memory.no_sync
DECLARED: dict[str, dict[str, Any]] = {"worker": {"replicas": 2, "stop_grace": 300}, "beat": {"singleton": True}}


def staged(root: Path, release: str, declared: dict[str, Any] | None = None) -> None:
    stage(root, release)
    content = {name: {"command": ["run", name], **said} for name, said in (declared or DECLARED).items()}
    (root / "releases" / release / "processes.json").write_text(json.dumps(content))


def deploy(root: Path, host: Host, release: str, **request: Any) -> dict[str, Any]:
    staged(root, release)
    return transaction(root, host, release, **request).run()


def all_of(release: str) -> list[str]:
    return [f"{release}:beat", f"{release}:worker", f"{release}:worker"]


def assert_beside(root: Path, host: Host, release: str) -> None:
    """The release serves whole, with its processes and no others."""
    assert_whole(root, host, release)
    assert host.beside.running() == all_of(release)
    assert host.beside.twice == []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host()
    deploy(tmp_path, found, "one")
    found.served.clear()
    return found


def effects(**request: Any) -> int:
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        host = Host()
        deploy(Path(directory), host, "one")
        first = host.effects
        host.beside.dies = {("two", name) for name in request.pop("dies", ())}
        with suppress(TransactionError):
            deploy(Path(directory), host, "two", **request)
        return host.effects - first


def test_they_come_with_the_release_and_go_with_it(tmp_path: Path, host: Host) -> None:
    assert_beside(tmp_path, host, "one")
    result = deploy(tmp_path, host, "two")
    assert [phase["phase"] for phase in result["phases"]][:4] == ["start", "gate", "edge", "processes"]
    assert_beside(tmp_path, host, "two")
    assert sorted(host.beside.signals) == ["1-beat-0", "1-worker-0", "1-worker-1"], "once each"
    assert not deploy(tmp_path, host, "two")["changed"]


def test_an_app_without_any_has_no_such_phase(tmp_path: Path) -> None:
    host = Host()
    result = memory.deploy(tmp_path, host, "one")
    assert "processes" not in [phase["phase"] for phase in result["phases"]]


def test_the_last_of_them_go_with_a_release_that_declares_none(tmp_path: Path, host: Host) -> None:
    memory.deploy(tmp_path, host, "two")
    assert host.beside.running() == []


def test_a_long_task_is_finished_and_does_not_hold_up_the_roll(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 250.0}
    begin = host.seconds
    deploy(tmp_path, host, "two")
    deploy(tmp_path, host, "three")
    deploy(tmp_path, host, "four")
    assert host.seconds - begin < 60
    assert_beside(tmp_path, host, "four")
    ending = [one for one in host.beside.instances() if one.ending and not one.gone]
    assert sorted(one.release for one in ending) == ["one", "one", "three", "three", "two", "two"]
    assert len(host.beside.signals) == len(set(host.beside.signals)), "a second SIGTERM would end a task in hand"
    host.seconds += 300
    transaction(tmp_path, host, "four").prune()
    assert [one.release for one in host.beside.instances()] == ["four", "four", "four"]


def test_a_release_is_kept_while_a_process_of_it_ends(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 250.0}
    for release in ("two", "three", "four"):
        deploy(tmp_path, host, release, keep=1)
    assert Store(tmp_path).has("one")
    host.seconds += 300
    deploy(tmp_path, host, "five", keep=1)
    assert not Store(tmp_path).has("one")


def test_the_old_singleton_has_ended_before_the_new_one_starts(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"beat": 30.0}
    begin = host.seconds
    deploy(tmp_path, host, "two")
    assert host.seconds - begin > 30
    assert_beside(tmp_path, host, "two")


def test_a_singleton_that_does_not_end_refuses_the_release(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"beat": 1e9}
    with pytest.raises(TransactionError, match="beat of release one did not end within 105 s; find out"):
        deploy(tmp_path, host, "two")
    assert host.serving() == "one"
    assert host.beside.twice == []


def test_another_host_than_that_of_the_singletons_never_starts_one(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one", singletons=False)
    assert host.beside.running() == ["one:worker", "one:worker"]
    assert not deploy(tmp_path, host, "one", singletons=False)["changed"]


def test_a_singleton_that_moves_away_ends_and_comes_back_without_a_new_release(tmp_path: Path, host: Host) -> None:
    assert deploy(tmp_path, host, "one", singletons=False)["changed"]
    assert host.beside.running() == ["one:worker", "one:worker"]
    assert deploy(tmp_path, host, "one")["changed"]
    assert_beside(tmp_path, host, "one")


def test_what_becomes_a_singleton_has_ended_before(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 20.0}
    staged(tmp_path, "two", {"worker": {"singleton": True}})
    begin = host.seconds
    transaction(tmp_path, host, "two").run()
    assert host.seconds - begin > 20
    assert host.beside.running() == ["two:worker"]


@pytest.mark.parametrize("name", ["worker", "beat"])
def test_one_that_does_not_stay_up_refuses_the_release(tmp_path: Path, host: Host, name: str) -> None:
    host.beside.dies = {("two", name)}
    with pytest.raises(TransactionError, match=f"the process {name} of the new release ended") as caught:
        deploy(tmp_path, host, "two")
    assert "ModuleNotFoundError: No module named 'celery'" in caught.value.cause
    assert "starting" in caught.value.evidence["log"]
    assert host.served == {"one"}, "no request went to the new release"
    assert_beside(tmp_path, host, "one")
    record = Store(tmp_path).releases_recorded()[-1]
    assert (record["release"], record["result"]) == ("two", "failed")
    assert f"process {name}" in record["cause"]


def test_one_that_is_killed_for_memory_is_told_by_the_number_to_raise(tmp_path: Path, host: Host) -> None:
    work = transaction(tmp_path, host, "one")
    (one, *_) = host.beside.instances()
    memory_of = replace(one, out_of_memory=True, restarts=1)
    assert "raise its memory_mib in fastapi_app_processes" in work._refusal(memory_of, "while it was starting").cause


def test_one_that_ends_in_the_soak_takes_the_release_back(tmp_path: Path, host: Host) -> None:
    def end() -> None:
        if host.enabled["green"] and not host.enabled["blue"]:
            there = host.beside.there
            there.update({key: replace(one, restarts=1) for key, one in there.items() if one.release == "two"})

    host.waits.append(end)
    with pytest.raises(TransactionError, match="ended soon after the switch"):
        deploy(tmp_path, host, "two", soak=30.0)
    assert None not in host.served
    assert_beside(tmp_path, host, "one")


def test_a_sick_slot_takes_its_processes_along(tmp_path: Path, host: Host) -> None:
    host.sick_after["two"] = host.seconds + 12
    with pytest.raises(TransactionError, match="got sick"):
        deploy(tmp_path, host, "two", soak=30.0)
    assert_beside(tmp_path, host, "one")


def test_a_slot_that_never_passes_its_gate_has_none_started(tmp_path: Path, host: Host) -> None:
    host.sick["two"] = Probe(500, "broken")
    with pytest.raises(TransactionError):
        deploy(tmp_path, host, "two")
    assert host.beside.signals == []
    assert_beside(tmp_path, host, "one")


def test_a_restart_starts_them_anew(tmp_path: Path, host: Host) -> None:
    before = set(host.beside.there)
    transaction(tmp_path, host, "one", restart=True).run()
    assert_beside(tmp_path, host, "one")
    assert not before & {one.id for one in host.beside.instances() if not one.ending}


def test_a_way_back_does_not_wait_for_what_ends_there(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 250.0}
    deploy(tmp_path, host, "two")
    begin = host.seconds
    deploy(tmp_path, host, "one")
    assert host.seconds - begin < 30
    assert_beside(tmp_path, host, "one")


def test_a_process_that_somebody_removed_is_started_again(tmp_path: Path, host: Host) -> None:
    del host.beside.there["1-worker-1"]
    before = host.running.copy()
    assert deploy(tmp_path, host, "one")["changed"]
    assert_beside(tmp_path, host, "one")
    assert host.running == before, "what serves is left alone"


def test_a_removal_waits_until_they_have_ended(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 100.0}
    begin = host.seconds
    transaction(tmp_path, host, "").remove()
    assert host.seconds - begin >= 100
    assert host.beside.there == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects() + 1))
@pytest.mark.parametrize("then", ["one", "two", "three"])
def test_a_crash_anywhere_leaves_no_two_and_a_rerun_converges(
    tmp_path: Path, host: Host, point: int, after: bool, then: str
) -> None:
    host.crash_at, host.crash_after = host.effects + point, after
    with pytest.raises(Crash):
        deploy(tmp_path, host, "two")
    host.crash_at = 0
    deploy(tmp_path, host, then)
    assert_beside(tmp_path, host, then)
    assert None not in host.served


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects(dies=["beat"]) + 1))
def test_a_crash_anywhere_in_a_refusal_converges(tmp_path: Path, host: Host, point: int, after: bool) -> None:
    host.beside.dies = {("two", "beat")}
    host.crash_at, host.crash_after = host.effects + point, after
    with pytest.raises(Crash):
        deploy(tmp_path, host, "two")
    host.crash_at = 0
    transaction(tmp_path, host, "one").reconcile()
    deploy(tmp_path, host, "one")
    assert_beside(tmp_path, host, "one")


@pytest.mark.parametrize("error", [RuntimeFailed("no daemon"), OSError(28, "No space left on device")], ids=["d", "o"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects(soak=2.0) + 1))
def test_any_effect_may_fail(tmp_path: Path, host: Host, point: int, after: bool, error: Exception) -> None:
    host.fail_from, host.crash_after, host.fails_with = host.effects + point, after, error
    good = True
    try:
        deploy(tmp_path, host, "two", soak=2.0)
    except (SlipwayError, OSError):
        good = False
    host.fail_from, host.crash_after = 0, False
    assert host.serving() == ("two" if good else "one")
    assert host.beside.twice == []
    if not good:
        transaction(tmp_path, host, "one").reconcile()
        assert host.beside.running() == all_of("one"), "a refused release leaves the old processes running"
    deploy(tmp_path, host, "two")
    assert_beside(tmp_path, host, "two")


def test_a_daemon_that_is_away_for_a_moment_is_waited_for(tmp_path: Path, host: Host) -> None:
    def away() -> None:
        soaking = host.enabled["green"] and not host.enabled["blue"]
        host.unseen = {"runtime"} if soaking and 15 < host.seconds < 25 else set()

    host.waits.append(away)
    deploy(tmp_path, host, "two", soak=40.0)
    host.waits.clear()
    assert_beside(tmp_path, host, "two")


def test_it_is_watched_for_a_while_where_there_is_no_soak(tmp_path: Path) -> None:
    host = Host()

    def end() -> None:
        if host.seconds > STAYS_UP / 2:
            there = host.beside.there
            there.update({key: replace(one, running=False, exit_code=3) for key, one in there.items()})

    host.waits.append(end)
    with pytest.raises(TransactionError, match="ended with exit code 3 while it was starting"):
        deploy(tmp_path, host, "one")
    assert host.serving() is None
    assert host.beside.running() == []


def test_it_is_looked_at_no_more_often_than_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look is two calls to Docker."""
    host = Host()
    looks: list[float] = []
    instances = host.beside.instances

    def counted() -> Any:
        looks.append(host.seconds)
        return instances()

    monkeypatch.setattr(host.beside, "instances", counted)
    deploy(tmp_path, host, "one")
    assert 8 <= len(looks) <= 16, looks


def test_what_waits_for_a_transaction_knows_how_long_a_process_may_take_to_end(tmp_path: Path, host: Host) -> None:
    staged(tmp_path, "damaged")
    (tmp_path / "releases/damaged/processes.json").write_text("[]")
    assert transaction(tmp_path, host, "one").longest_grace() == 300.0
    assert transaction(tmp_path, Host(), "one", stop_grace=400.0).longest_grace() == 400.0


def test_what_a_release_declares_is_read_as_far_as_this_version_knows_it(tmp_path: Path) -> None:
    staged(tmp_path, "one", {"worker": {"replicas": 3, "of_a_newer_version": 1}})
    assert processes_of(tmp_path / "releases", "one") == {"worker": Process(["run", "worker"], replicas=3)}
    assert processes_of(tmp_path / "releases", "none") == {}
    path = tmp_path / "releases/one/processes.json"
    for text in ('{"worker": {}}', '{"worker": 1}', "[]", "{"):
        path.write_text(text)
        with pytest.raises(Damaged, match=r"processes\.json is damaged"):
            processes_of(tmp_path / "releases", "one")


def test_a_host_gives_up_its_singletons_and_goes_on_with_the_rest(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"beat": 20.0}
    begin = host.seconds
    work = transaction(tmp_path, host, "one", singletons=False)
    assert work.singletons() == ["beat"]
    assert work.give_up()
    assert host.seconds - begin >= 20
    assert work.singletons() == []
    assert host.beside.running() == ["one:worker", "one:worker"]
    assert not work.give_up()


def test_where_they_run_is_remembered_on_every_host(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one", singletons=False, singleton_host="web1")
    store = Store(tmp_path)
    assert (store.singletons_at() or {})["host"] == "web1"
    deploy(tmp_path, host, "two", singletons=False, singleton_host="web2")
    assert (store.singletons_at() or {})["host"] == "web2"
    (tmp_path / "singletons.json").write_text("{}")
    assert store.singletons_at() is None


def test_where_they_ran_is_forgotten_with_the_last_release_that_had_any(tmp_path: Path) -> None:
    """Else a host on which nothing can run any more would stop the runs of those that have none of it."""
    host, store = Host(), Store(tmp_path)
    memory.deploy(tmp_path, host, "none")
    assert not (tmp_path / "singletons.json").exists()
    staged(tmp_path, "one", {"beat": {"singleton": True}})
    transaction(tmp_path, host, "one", singletons=False, singleton_host="web1").run()
    memory.deploy(tmp_path, host, "two", singletons=False, singleton_host="web1")
    assert (store.singletons_at() or {})["host"] == ""
    host.sick["three"] = Probe(error="nothing listens")
    transaction(tmp_path, host, "one", singletons=False, singleton_host="web1").run()
    memory.stage(tmp_path, "three")
    refused = transaction(tmp_path, host, "three", singletons=False, singleton_host="web1")
    refused.store.note_singletons("", 9.0)
    with pytest.raises(TransactionError):
        refused.run()
    assert (store.singletons_at() or {})["host"] == "web1", "the release that has some serves still"


def test_where_the_old_slot_has_died_the_new_one_serves_until_it_is_back(tmp_path: Path, host: Host) -> None:
    """A worker refuses the release whose slot is well, while nothing serves."""

    def die() -> None:
        if host.beside.running() and any(one.release == "two" for one in host.beside.there.values()):
            host.waits.clear()
            host.running["blue"] = None

    host.waits.append(die)
    host.beside.dies = {("two", "beat")}
    with pytest.raises(TransactionError, match="process beat"):
        deploy(tmp_path, host, "two")
    assert "two" in host.served
    assert_beside(tmp_path, host, "one")


def refused(root: Path, host: Host) -> None:
    with pytest.raises(TransactionError, match="process beat"):
        deploy(root, host, "two")


def one_that_dies_while_processes_end(root: Path, *sick: str) -> Host:
    """Its release dies in the seconds in which the singleton of a refused one ends; from then on some are `sick`."""
    host = Host()
    deploy(root, host, "one")
    host.served.clear()
    host.beside.dies, host.beside.lasts = {("two", "beat")}, {"beat": 5.0}

    def die() -> None:
        if any(one.release == "two" and one.ending and not one.gone for one in host.beside.there.values()):
            host.waits.clear()
            host.running["blue"] = None
            host.sick.update(dict.fromkeys(sick, Probe(500, "sick")))

    host.waits.append(die)
    return host


@pytest.mark.parametrize("sick", [(), ("two",)])
def test_where_the_earlier_one_dies_while_processes_end_it_is_started_again(
    tmp_path: Path, sick: tuple[str, ...]
) -> None:
    host = one_that_dies_while_processes_end(tmp_path, *sick)
    refused(tmp_path, host)
    assert ("two" in host.served) == (not sick)
    assert_beside(tmp_path, host, "one")


def test_where_it_cannot_be_both_are_left_and_the_next_run_tries_again(tmp_path: Path) -> None:
    host = one_that_dies_while_processes_end(tmp_path, "one", "two")
    with pytest.raises(TransactionError, match="could not be started again, so both slots are left as they are"):
        deploy(tmp_path, host, "two")
    host.waits.clear()
    host.sick.clear()
    refused(tmp_path, host)
    assert_beside(tmp_path, host, "one")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_refused_one_that_answered_meanwhile_is_never_taken_for_good(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, after: bool
) -> None:
    """Wherever the way back is cut. Before it is known that the earlier one died, the one that is well serves."""
    host = one_that_dies_while_processes_end(tmp_path)
    first, cut = host.effects, 0
    refused(tmp_path, host)
    for point in range(1, host.effects - first + 1):
        root = tmp_path_factory.mktemp("crash")
        host = one_that_dies_while_processes_end(root)
        host.crash_at, host.crash_after = host.effects + point, after
        with pytest.raises(Crash):
            deploy(root, host, "two")
        intent = Store(root).intent()
        if not (intent and intent.returning):
            continue
        host.crash_at, cut = 0, cut + 1
        refused(root, host)
        assert_beside(root, host, "one")
        assert "two" not in [entry["release"] for entry in Store(root).releases_recorded() if entry["result"] == "good"]
    assert cut > 5
