"""The release transaction against a host in memory: every crash point, every refusal."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.host import durable
from ansible_collections.slipway.fleet.plugins.module_utils.release import store as store_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import Slot, Verdict
from ansible_collections.slipway.fleet.plugins.module_utils.release.contract import Kept
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import (
    SLOTS,
    Gate,
    Probe,
    TransactionError,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.observe import observe
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit.memory import (  # noqa: F401 - a fixture of every test here
    Crash,
    FakeClock,
    FakeJudge,
    Host,
    assert_whole,
    deploy,
    effects_of_a_release,
    no_sync,
    stage,
    transaction,
)  # X: F401 - a fixture of every test here


def test_first_second_and_same_release(tmp_path: Path) -> None:
    host = Host()
    assert deploy(tmp_path, host, "one")["slot"] == "blue"
    host.served.clear()
    assert deploy(tmp_path, host, "two") | {"phases": []} == {
        "changed": True, "release": "two", "was": "one", "slot": "green", "phases": [], "recovered": None,
        "canary": None, "api": None, "replay": None, "gap": None, "draining": None, "warnings": [],
    }  # fmt: skip
    assert_whole(tmp_path, host, "two")
    assert host.served == {"one", "two"}
    before = host.effects
    assert deploy(tmp_path, host, "two")["changed"] is False
    assert host.effects == before


def test_a_slot_that_others_reach_without_the_edge_is_told_of(tmp_path: Path) -> None:
    host = Host()
    host.opens = ["tcp port 20010"]
    result = deploy(tmp_path, host, "one")
    assert result["changed"]
    (warning,) = result["warnings"]
    assert warning.startswith("slot blue listens on tcp port 20010 of every address of this host, so whoever reaches")
    assert "have the app listen on 127.0.0.1, as the variable HOST tells it (@PORT@ in fastapi_app_command" in warning
    host.opens = ["tcp port 8080 at 10.0.0.5", "tcp port 9100"]
    (warning,) = deploy(tmp_path, host, "two")["warnings"]
    assert "listens on tcp port 8080 at 10.0.0.5 and tcp port 9100 of every address of this host, so" in warning


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects_of_a_release() + 1))
@pytest.mark.parametrize("then", ["one", "two", "three"])
def test_a_crash_anywhere_keeps_serving_and_a_rerun_converges(
    tmp_path: Path, point: int, after: bool, then: str
) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.served.clear()
    host.crash_at, host.crash_after = host.effects + point, after
    with pytest.raises(Crash):
        deploy(tmp_path, host, "two")
    assert host.serving() in ("one", "two")
    host.crash_at = 0
    deploy(tmp_path, host, then)
    assert_whole(tmp_path, host, then)
    assert None not in host.served, "there was a moment in which nothing served"
    starts = [(entry["release"], entry["start"]) for entry in Store(tmp_path).ledger()]
    assert len(starts) == len(set(starts)), "a release was recorded twice"


@pytest.mark.parametrize("point", range(1, effects_of_a_release() + 1))
def test_two_crashes_in_a_row_converge(tmp_path: Path, point: int) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.served.clear()
    for offset in (point, 2):
        host.crash_at = host.effects + offset
        try:
            deploy(tmp_path, host, "two")
        except Crash:
            continue
    host.crash_at = 0
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")
    assert None not in host.served


REFUSALS = {
    "500 on readiness": ({"sick": Probe(500, '{"status":"broken"}')}, 'answered 500: {"status":"broken"}'),
    "other port": (
        {
            "sick": Probe(error="/run/slipway/links/green.sock does not exist", nobody=True),
            "listens": ["tcp port 9000"],
        },
        "listens on tcp port 9000 and not on the slot's socket",
    ),
    "import error": (
        {"sick": Probe(error="nothing listens"), "log": "Traceback\nImportError: no module 'nope'\n"},
        "ImportError: no module 'nope'",
    ),
    "it says why and ends": (
        {"sick": Probe(error="nothing listens"), "log": "starting\nGUNICORN_WORKERS is 'many'\n", "ends": True},
        "GUNICORN_WORKERS is 'many' (the new release ended",
    ),
    "it says why in JSON": (
        {"sick": Probe(error="nothing listens"), "log": '{"level": "critical", "message": "no way"}\n', "ends": True},
        "no way (the new release ended",
    ),
    "out of memory": ({"sick": Probe(error="nothing listens"), "oom": True}, "out of memory"),
    "a worker out of memory, though the others answer": (
        {"oom": True},
        "(a process of the new release was killed while it was starting; raise fastapi_app_memory_mib",
    ),
    "another release answers": (
        {"sick": Probe(200, '{"release":"zero"}'), "gate": Gate(version_path="/version")},
        "does not name release two",
    ),
    "the edge cannot reach it": (
        {"edge_blind": "two", "edge_got": {"two": "L4CON Permission denied"}},
        "it got L4CON Permission denied; look at owner and mode",
    ),
    "the edge takes other statuses": (
        {"edge_blind": "two", "edge_got": {"two": "L7STS 204 No Content"}},
        "it got L7STS 204 No Content where GET /readyz of the slot answers well",
    ),
}


@pytest.mark.parametrize(("fault", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refused_release_is_taken_away_and_its_cause_named(tmp_path: Path, fault: dict[str, Any], words: str) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.served.clear()
    if "sick" in fault:
        host.sick["two"] = fault["sick"]
    host.log["two"] = fault.get("log", "")
    host.listens = fault.get("listens", [])
    host.edge_blind, host.edge_got = fault.get("edge_blind", ""), fault.get("edge_got", {})
    if fault.get("ends"):
        host.ended.add("two")
    if "oom" in fault:
        host.out_of_memory.add("two")
    with pytest.raises(TransactionError, match=re.escape(words)):
        deploy(tmp_path, host, "two", gate=fault.get("gate", Gate()))
    assert host.served == {"one"}
    assert_whole(tmp_path, host, "one")
    assert Store(tmp_path).ledger()[-1]["result"] == "failed"


def soaked_and_sick(root: Path, host: Host) -> None:
    """A release that passes the gate and gets sick 10 s later, while it soaks for 30 s."""
    host.sick_after["two"] = host.seconds + 10
    deploy(root, host, "two", soak=30.0)


def test_a_release_that_gets_sick_while_it_soaks_is_taken_back(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.served.clear()
    with pytest.raises(TransactionError, match=r"got sick soon after the switch: GET /readyz answered 500: sick"):
        soaked_and_sick(tmp_path, host)
    assert_whole(tmp_path, host, "one")
    assert host.served >= {"one", "two"}
    assert Store(tmp_path).ledger()[-1]["result"] == "failed"


def test_a_release_whose_worker_is_killed_for_memory_while_it_soaks_is_taken_back(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two", soak=30.0)
    work.tell = lambda event: host.out_of_memory.add("two") if event.get("phase") == "soak" else None
    with pytest.raises(TransactionError, match=r"out of memory: .* was killed soon after the switch; raise"):
        work.run()
    assert_whole(tmp_path, host, "one")


def test_a_release_that_stays_well_is_kept_and_the_old_one_stopped_after_the_soak(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    result = deploy(tmp_path, host, "two", soak=30.0)
    assert [phase["phase"] for phase in result["phases"]] == [
        "start",
        "gate",
        "edge",
        "switch",
        "drain",
        "soak",
        "stop",
    ]
    assert host.seconds >= 30
    assert_whole(tmp_path, host, "two")


def judged(root: Path, host: Host, judge: FakeJudge) -> dict[str, Any]:
    deploy(root, host, "one")
    stage(root, "two")
    work = transaction(root, host, "two", soak=5.0)
    work.judge = judge
    return work.run()


@pytest.mark.parametrize("more", [{}, {"restart": True}])
def test_who_is_not_judged_leaves_no_figures_of_another_release(tmp_path: Path, more: dict[str, Any]) -> None:
    """Or the release after it would be compared with them."""
    host = Host()
    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    forgotten: list[str] = []
    work = transaction(tmp_path, host, "two", **more)
    work.forget = forgotten.append
    result = work.run()
    assert forgotten == [result["slot"]]


def test_a_release_that_is_judged_worse_is_taken_back(tmp_path: Path) -> None:
    host, judge = Host(), FakeJudge(Verdict("worse", "9.1% of 330 requests failed"))
    with pytest.raises(TransactionError, match="worse than the old one: 9.1% of 330") as caught:
        judged(tmp_path, host, judge)
    assert_whole(tmp_path, host, "one")
    assert judge.began == 1
    assert caught.value.details["canary"]["word"] == "worse"
    assert Store(tmp_path).ledger()[-1]["canary"]["word"] == "worse"


UNJUDGED = Verdict("unknown", "12 new and 30 old requests tell too little", Slot(12, 1), Slot(30, 0))


@pytest.mark.parametrize("unknown", ["go", "hold"])
def test_a_release_that_cannot_be_judged_serves(tmp_path: Path, unknown: str) -> None:
    host = Host()
    told = judged(tmp_path, host, FakeJudge(UNJUDGED, unknown))
    assert_whole(tmp_path, host, "two")
    assert told["canary"]["new"] == {"requests": 12, "errors": 1, "p50": None, "p95": None}
    assert Store(tmp_path).ledger()[-1]["canary"] == told["canary"] == UNJUDGED.as_dict()


def test_a_release_that_cannot_be_judged_goes_back_where_that_is_wanted(tmp_path: Path) -> None:
    host = Host()
    with pytest.raises(
        TransactionError, match="is unknown, and fastapi_app_canary_unknown says revert: 12 new"
    ) as caught:
        judged(tmp_path, host, FakeJudge(UNJUDGED, "revert"))
    assert_whole(tmp_path, host, "one")
    assert caught.value.details["canary"] == Store(tmp_path).ledger()[-1]["canary"] == UNJUDGED.as_dict()


def test_a_release_that_breaks_the_api_is_told_and_serves(tmp_path: Path) -> None:
    host, asked = Host(), []

    def compared(slot: str, release: str, was: str | None) -> Kept:
        asked.append((slot, release, was))
        assert all(host.running.values()), "both slots run"
        assert host.serving() == "one"
        return Kept(("GET /a is gone",), 2)

    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two")
    work.contract = compared
    told = {"breaks": ["GET /a is gone"], "more": 2, "note": ""}
    result = work.run()
    assert (result["api"], asked) == (told, [("green", "two", "one")])
    assert [phase["phase"] for phase in result["phases"]][:5] == ["start", "gate", "edge", "api", "switch"]
    assert_whole(tmp_path, host, "two")
    assert Store(tmp_path).last_record("two")["api"] == told


def test_a_release_that_may_not_break_the_api_gets_no_request(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    host.served.clear()
    work = transaction(tmp_path, host, "two")
    work.contract = lambda slot, release, was: Kept(tuple(f"GET /{name} is gone" for name in "abcd"), 3, refused=True)
    with pytest.raises(TransactionError) as caught:
        work.run()
    assert caught.value.cause == (
        "it breaks the API of release one: GET /a is gone; GET /b is gone; GET /c is gone; and 4 more. Have the app "
        "serve that again (what is marked as deprecated may go in a later release), or deploy it with "
        "-e fastapi_app_breaking_api=warn"
    )
    assert_whole(tmp_path, host, "one")
    assert host.served == {"one"}
    assert len(caught.value.details["api"]["breaks"]) == 4
    assert Store(tmp_path).ledger()[-1]["api"]["more"] == 3


def test_an_api_that_is_kept_is_not_told(tmp_path: Path) -> None:
    host = Host()
    stage(tmp_path, "one")
    work = transaction(tmp_path, host, "one")
    work.contract = lambda slot, release, was: Kept()
    assert work.run()["api"] is None
    assert "api" not in Store(tmp_path).ledger()[-1]


def test_a_restart_does_not_compare_a_release_with_itself(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    work = transaction(tmp_path, host, "one", restart=True)
    work.contract = lambda slot, release, was: pytest.fail("it is the same")
    assert work.run()["changed"]


def effects_of_a_return() -> int:
    with tempfile.TemporaryDirectory() as directory:
        host = Host()
        deploy(Path(directory), host, "one")
        first = host.effects
        with pytest.raises(TransactionError):
            soaked_and_sick(Path(directory), host)
        return host.effects - first


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects_of_a_return() + 1))
@pytest.mark.parametrize("then", ["one", "three"])
def test_a_crash_anywhere_in_a_return_converges(tmp_path: Path, point: int, after: bool, then: str) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.crash_at, host.crash_after = host.effects + point, after
    with pytest.raises(Crash):
        soaked_and_sick(tmp_path, host)
    host.crash_at = 0
    deploy(tmp_path, host, then)
    assert_whole(tmp_path, host, then)
    starts = [(entry["release"], entry["start"]) for entry in Store(tmp_path).ledger()]
    assert len(starts) == len(set(starts)), "a release was recorded twice"


@pytest.mark.parametrize("point", [0, *range(1, effects_of_a_release() + 1)])
def test_a_restart_serves_the_same_release_from_the_other_slot(tmp_path: Path, point: int) -> None:
    host = Host()
    deploy(tmp_path, host, "zero")
    deploy(tmp_path, host, "one")
    host.served.clear()
    host.crash_at = host.effects + point if point else 0
    try:
        assert transaction(tmp_path, host, "one", restart=True).run()["changed"]
    except Crash:
        host.crash_at = 0
        transaction(tmp_path, host, "one").run()
    assert_whole(tmp_path, host, "one")
    assert host.served <= {"one"}, "at no moment nothing"
    state = Store(tmp_path).state()
    assert state is not None
    assert state.previous == "zero", "a restart is no release"


def test_a_dead_live_slot_is_replaced_by_the_same_release(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.running["blue"] = None
    assert deploy(tmp_path, host, "one")["slot"] == "green"
    assert_whole(tmp_path, host, "one")


def test_a_release_that_is_not_staged_is_refused(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    with pytest.raises(TransactionError, match="release two is not on this host"):
        transaction(tmp_path, host, "two").run()
    assert_whole(tmp_path, host, "one")


def test_a_reload_of_the_edge_during_the_drain_is_undone(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.sessions = 1

    class Reloading(FakeClock):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            if host.running == {"blue": "one", "green": "two"} and host.sessions:
                host.enabled = dict.fromkeys(SLOTS, True)
                host.sessions = 0

    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two", drain=5.0)
    work.clock = Reloading(host)
    work.run()
    assert_whole(tmp_path, host, "two")


def test_pruning_keeps_good_releases_whatever_failed_since(tmp_path: Path) -> None:
    host = Host()
    for number in range(1, 8):
        deploy(tmp_path, host, f"good{number}", keep=3)
    for number in range(1, 6):
        host.sick[f"bad{number}"] = Probe(500, "")
        with pytest.raises(TransactionError):
            deploy(tmp_path, host, f"bad{number}", keep=3)
    deploy(tmp_path, host, "good8", keep=3)
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["good6", "good7", "good8"]


@pytest.mark.parametrize("keep", [0, 1])
def test_finishing_an_interrupted_release_prunes_neither_it_nor_the_wanted_one(tmp_path: Path, keep: int) -> None:
    host = Host()
    deploy(tmp_path, host, "one", keep=5)
    host.crash_at, host.crash_after = host.effects + 5, True  # the edge has just switched to two
    with pytest.raises(Crash):
        deploy(tmp_path, host, "two", keep=5)
    assert host.enabled["green"]
    host.crash_at = 0
    work = transaction(tmp_path, host, "one", keep=keep)
    work.reconcile()
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["one", "two"]
    work.run()
    assert_whole(tmp_path, host, "one")


def test_plan_changes_nothing(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    before = host.effects
    assert transaction(tmp_path, host, "two").plan() == {
        "changed": True, "release": "two", "was": "one", "slot": "green", "unfinished": False,
    }  # fmt: skip
    assert transaction(tmp_path, host, "one").plan()["changed"] is False
    assert host.effects == before


def test_observe_names_each_difference(tmp_path: Path) -> None:
    host = Host()
    assert observe(transaction(tmp_path, host, ""))["drift"] == ["nothing was released yet"]
    deploy(tmp_path, host, "one")
    assert observe(transaction(tmp_path, host, ""))["drift"] == []
    host.running["green"] = "zero"
    host.enabled["blue"] = False
    assert observe(transaction(tmp_path, host, ""))["drift"] == [
        "slot green runs too (release zero)",
        "HAProxy sends nothing to slot blue",
    ]


@pytest.mark.parametrize("release", ["two", "sick"])
def test_what_a_transaction_does_is_no_drift_while_it_holds_the_app(tmp_path: Path, release: str) -> None:
    """Every status of a deploy called it interrupted, and what it told to do was refused."""
    host, looks = Host(), []
    deploy(tmp_path, host, "one")
    stage(tmp_path, release)
    host.sick["sick"] = Probe(500, "sick")
    effect = host.effect

    def watched(do: Callable[[], None]) -> None:
        effect(do)
        look = observe(transaction(tmp_path, host, ""), only_looks=True)
        looks.append((look["drift"], look["under_way"]))

    host.effect = watched  # type: ignore[method-assign]
    with suppress(TransactionError), Store(tmp_path).lock("release two by ada, pid 7"):
        transaction(tmp_path, host, release).run()
    assert len(looks) > 6
    assert [drift for drift, _ in looks if drift] == []
    assert {under_way["by"] for _, under_way in looks} == {"release two by ada, pid 7"}
    assert any((under_way["since"] or "").startswith("2026-01-01T") for _, under_way in looks)


def test_a_transaction_is_interrupted_once_nobody_holds_the_app_for_it(tmp_path: Path) -> None:
    """The end of a drain holds it as well, and goes on with no transaction."""
    host = Host()
    deploy(tmp_path, host, "one")
    stage(tmp_path, "two")
    host.crash_at = host.effects + 5
    with pytest.raises(Crash):
        transaction(tmp_path, host, "two").run()
    host.crash_at = 0
    looking = transaction(tmp_path, host, "")
    interrupted = "an interrupted transaction to two waits; deploy again to finish or undo it"
    assert observe(looking, only_looks=True)["drift"] == [interrupted, "slot green runs too (release two)"]
    with Store(tmp_path).lock(store_module.ENDING):
        assert observe(looking, only_looks=True)["drift"][0] == interrupted
    with Store(tmp_path).lock("release two by ada, pid 7"):
        assert observe(looking, only_looks=True)["drift"] == []
        # A run takes the host for good only when that has ended.
        assert observe(looking)["drift"] == [
            "a transaction to two is under way (release two by ada, pid 7); wait until it has ended",
            "slot green runs too (release two)",
        ]


def test_a_slot_that_does_not_answer_is_drift_while_a_transaction_is_under_way_beside_it(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.sick["one"] = Probe(500, "sick")
    with Store(tmp_path).lock("release two by ada, pid 7"):
        assert observe(transaction(tmp_path, host, ""), only_looks=True)["drift"] == ["unhealthy: 500 sick"]
        host.running["blue"] = None  # it made way
        assert observe(transaction(tmp_path, host, ""), only_looks=True)["drift"] == []


def test_what_gets_requests_and_answers_none_does_not_serve_whatever_is_recorded(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    host.running["green"], host.enabled = "zero", {"blue": False, "green": True}
    work = transaction(tmp_path, host, "")
    assert observe(work)["serving"] == {"release": "zero", "slot": "green"}
    host.sick["zero"] = Probe(500, "sick")
    seen = observe(work)
    assert seen["serving"] is None
    assert "slot green gets requests and is unhealthy: 500 sick" in seen["drift"]


def test_where_two_releases_get_requests_none_is_said_to_serve(tmp_path: Path) -> None:
    """A transaction that died in its switch, and nobody who may finish it."""
    host = Host()
    deploy(tmp_path, host, "one")
    host.running["green"], host.enabled["green"] = "two", True
    seen = observe(transaction(tmp_path, host, ""))
    assert (seen["serving"], seen["twofold"]) == (None, True)
    assert "requests go to two releases; deploy again to finish or undo the switch" in seen["drift"]


@pytest.mark.parametrize(("missed", "healthy"), [(0, True), (2, True), (3, False)])
def test_a_slot_is_unhealthy_when_it_answers_badly_three_times(tmp_path: Path, missed: int, healthy: bool) -> None:
    """A host that is busy for a moment would otherwise get its release anew."""
    host = Host()
    deploy(tmp_path, host, "one")
    work = transaction(tmp_path, host, "")
    answers = [Probe(error="TimeoutError")] * missed + [Probe(200, "{}")] * 3
    work.probe = lambda slot, path, gate: answers.pop(0)
    assert observe(work)["drift"] == ([] if healthy else ["unhealthy: TimeoutError"])


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ValueError, match=r"state\.json is damaged"):
        Store(tmp_path).state()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    durable.write_durably(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write_durably(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_a_look_at_the_lock_writes_nothing(tmp_path: Path) -> None:
    store = store_module.Store(tmp_path)
    assert store.holder() is None
    assert not (tmp_path / "lock").exists()
    with store.lock("release two by ci"):
        assert store.holder() == "release two by ci"
    assert store.holder() is None
    assert (tmp_path / "lock").read_text() == "release two by ci"


def test_a_release_waits_for_the_end_of_a_drain_and_for_no_other_release(tmp_path: Path) -> None:
    """What drains is stopped within the app's grace; a deploy of that moment was refused."""
    store = Store(tmp_path)
    held, free, order = threading.Event(), threading.Event(), []

    def end() -> None:
        with store.lock(store_module.ENDING, 0.0):
            held.set()
            free.wait(30)
            order.append("drained")

    drainer = threading.Thread(target=end)
    drainer.start()
    assert held.wait(30)
    with pytest.raises(store_module.Busy, match="the end of a drain"), store.lock("another drainer", 0.0):
        pass
    threading.Timer(0.5, free.set).start()
    with store.lock("release two", 0.1):
        order.append("released")
        with pytest.raises(store_module.Busy, match="release two"), store.lock("release three", 0.1):
            pass
    drainer.join(30)
    assert order == ["drained", "released"]


def test_who_is_not_root_cannot_hold_the_lock(tmp_path: Path) -> None:
    """Whoever can open a file can lock it, and let every release wait for ever."""
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o644)  # as an earlier version left it
    with Store(tmp_path).lock("release two"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_the_lock_names_its_holder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock("release two by ci"), pytest.raises(store_module.Busy, match="release two by ci"), store.lock("me"):
        pass
    with store.lock("me again"):
        pass


def test_a_look_at_the_same_moment_does_not_refuse_a_transaction(tmp_path: Path) -> None:
    store = Store(tmp_path)
    looking = (tmp_path / "lock").open("a+")
    fcntl.flock(looking, fcntl.LOCK_SH)
    over = threading.Timer(0.2, looking.close)
    over.start()
    with store.lock("a release"):
        assert store.holder() == "a release"
    over.join()


def record(store: Store, release: str, result: str = "good", **more: Any) -> None:
    store.record({"release": release, "result": result, "start": f"{len(store.ledger())}", **more})


def test_what_was_rolled_back_from_is_no_place_to_go_back_to(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for release in ("one", "two", "three"):
        record(store, release)
    record(store, "four", result="failed")
    store.record({"event": "the lock was broken", "start": "now"})
    assert store.good() == ["one", "two", "three"]
    record(store, "two", operation="rollback")
    assert store.good() == ["one", "two"]
    assert store.skipped() == ["three"]
    record(store, "three", operation="deploy")
    record(store, "three", operation="restart")
    assert store.good() == ["one", "two", "three"]
    record(store, "five")
    record(store, "three", operation="revert")
    assert store.good() == ["one", "two", "three"]


def test_a_return_keeps_what_the_release_is_made_of(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one", about={"image": "app:one", "migration": "0001", "operation": "deploy"})
    deploy(tmp_path, host, "two", about={"image": "app:two", "migration": "0002", "operation": "deploy"})
    transaction(tmp_path, host, "one", about={"operation": "rollback", "who": "ann"}).run()
    last = Store(tmp_path).ledger()[-1]
    assert (last["image"], last["migration"], last["operation"], last["who"]) == ("app:one", "0001", "rollback", "ann")


@pytest.mark.parametrize(("status", "serves"), [(404, True), (503, False)])
def test_a_release_with_another_health_path_serves_all_the_same(tmp_path: Path, status: int, serves: bool) -> None:
    """The edge knows its path, and its check passes; what this request asks for belongs to another release."""
    host = Host()
    deploy(tmp_path, host, "one")
    work = transaction(tmp_path, host, "two")
    work.probe = lambda slot, path, gate: Probe(status, "")
    seen = observe(work)
    assert bool(seen["serving"]) == serves
    assert seen["drift"] == [f"unhealthy: {status} "]


def test_a_file_changed_by_hand_is_drift(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    (tmp_path / "releases/one/compose.yaml").write_text("something else")
    assert observe(transaction(tmp_path, host, ""))["drift"] == ["compose.yaml of release one was changed by hand"]
    (tmp_path / "releases/one/compose.yaml").write_text("")
    assert observe(transaction(tmp_path, host, ""))["drift"] == []


@pytest.mark.parametrize("gone", ["the backend", "every release"])
def test_an_app_can_be_removed_although_a_part_of_it_is_gone(tmp_path: Path, gone: str) -> None:
    class WithoutBackend(Host):
        def set_state(self, slot: str, state: str, beside: str = "") -> None:
            raise EdgeError("no such backend")

    host = Host()
    root = tmp_path / "links"
    root.mkdir()
    deploy(root, host, "one")
    if gone == "every release":
        shutil.rmtree(root / "releases")
    else:
        host = WithoutBackend(running=host.running)
    transaction(root, host, "").remove()
    assert not root.exists()
    assert host.running == {"blue": None, "green": None}


def test_a_removed_app_leaves_nothing(tmp_path: Path) -> None:
    host = Host()
    root = tmp_path / "links"
    root.mkdir()
    deploy(root, host, "one")
    transaction(root, host, "").remove()
    assert host.serving() is None
    assert host.running == dict.fromkeys(SLOTS)
    assert not root.exists()
