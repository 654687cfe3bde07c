"""What serves counts, whatever is recorded and whatever fails: the release transaction on a host in memory."""

from __future__ import annotations

import errno
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import NotStored
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Fenced, SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import Verdict
from ansible_collections.slipway.fleet.plugins.module_utils.release.drainer import Drainer
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import (
    SLOTS,
    Gate,
    Probe,
    Recalled,
    TransactionError,
    other,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.observe import observe
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit.memory import Crash, FakeJudge, Host, assert_whole, deploy, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here

LONG_SOAK = {"soak": 600.0}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host that serves release one from slot blue."""
    found = Host()
    deploy(tmp_path, found, "one")
    found.served.clear()
    return found


def crash_in_the_soak(root: Path, host: Host, release: str) -> None:
    def crash() -> None:
        if host.enabled["green"] and not host.enabled["blue"] and host.seconds > 10:
            host.waits.clear()
            raise Crash

    host.waits.append(crash)
    with pytest.raises(Crash):
        deploy(root, host, release, **LONG_SOAK)
    assert host.running == {"blue": "one", "green": release}


@pytest.mark.parametrize("ill", ["sick", "ended"])
@pytest.mark.parametrize("then", ["one", "two", "three"])
def test_a_crash_in_the_soak_of_a_release_that_is_not_well_returns(
    tmp_path: Path, host: Host, ill: str, then: str
) -> None:
    crash_in_the_soak(tmp_path, host, "two")
    if ill == "sick":
        host.sick["two"] = Probe(500, "sick")
    else:
        host.running["green"] = None
    stage(tmp_path, "three")
    work = transaction(tmp_path, host, then)
    work.reconcile()
    assert host.serving() == "one"
    assert host.running["green"] != "two"
    assert Store(tmp_path).ledger()[-1]["result"] == "failed"
    if then != "two":
        transaction(tmp_path, host, then).run()
        assert_whole(tmp_path, host, then)


def test_slots_that_start_after_a_reboot_are_waited_for(tmp_path: Path, host: Host) -> None:
    crash_in_the_soak(tmp_path, host, "two")
    begin = host.seconds
    host.sick = {"one": Probe(503, "starting"), "two": Probe(503, "starting")}
    host.waits.append(lambda: host.sick.clear() if host.seconds > begin + 15 else None)
    assert transaction(tmp_path, host, "two").run()["recovered"] == "finished the interrupted switch to two"
    assert_whole(tmp_path, host, "two")


def test_a_settle_after_a_crash_in_the_soak_returns_without_stopping_what_served(tmp_path: Path, host: Host) -> None:
    crash_in_the_soak(tmp_path, host, "two")
    starts = host.effects
    transaction(tmp_path, host, "one").run()
    assert_whole(tmp_path, host, "one")
    assert host.running["blue"] == "one", "it was never stopped and started again"
    assert host.effects - starts < 12


@pytest.mark.parametrize("at", range(12))
def test_a_reload_of_the_edge_at_any_wait_leaves_the_new_release_serving(tmp_path: Path, host: Host, at: int) -> None:
    """The worker that comes has the states from before the switch."""
    before = dict(host.enabled)
    waits = iter(range(1000))

    def reload() -> None:
        if next(waits) == at:
            host.enabled = dict(before)

    host.waits.append(reload)
    deploy(tmp_path, host, "two")
    if host.enabled == before:  # after the last look; the end of the run looks once more
        transaction(tmp_path, host, "two").reconcile()
    assert_whole(tmp_path, host, "two")
    assert None not in host.served


def test_an_edge_that_never_keeps_the_switch_gives_the_old_release_back(tmp_path: Path, host: Host) -> None:
    def forget() -> None:
        host.enabled = {"blue": True, "green": False}

    host.waits.append(forget)
    with pytest.raises(TransactionError, match="HAProxy did not send requests to slot green alone"):
        deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "one")


DAMAGES: dict[str, Any] = {
    "gone": None,
    "torn": '{"release": "one", "sl',
    "of another kind": "[]",
    "without a slot": '{"release": "one"}',
    "of no slot": '{"release": "one", "slot": "red", "since": ""}',
}


@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES.keys())
def test_without_a_readable_state_what_serves_is_not_touched(tmp_path: Path, content: str | None) -> None:
    host = Host()
    for release in ("zero", "one"):  # one serves from green, and blue is the first slot that comes to mind
        deploy(tmp_path, host, release)
    host.served.clear()
    state = tmp_path / "state.json"
    state.unlink()
    if content is not None:
        state.write_text(content)
    assert any("state" in said or "recorded" in said for said in observe(transaction(tmp_path, host, ""))["drift"])
    host.sick["bad"] = Probe(500, "")
    with pytest.raises(TransactionError):
        deploy(tmp_path, host, "bad")
    assert host.served == {"one"}
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")
    assert host.served == {"one", "two"}


def test_records_of_a_newer_version_are_read(tmp_path: Path, host: Host) -> None:
    path = tmp_path / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "novelty": {"deep": 1}}))
    assert deploy(tmp_path, host, "one")["changed"] is False
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")


def test_a_damaged_intent_is_no_reason_to_stop(tmp_path: Path, host: Host) -> None:
    (tmp_path / "intent.json").write_text("{")
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")


@pytest.mark.parametrize("old", ["dies", "stays"])
def test_a_release_that_gets_sick_after_the_old_one_died_brings_that_one_back(
    tmp_path: Path, host: Host, old: str
) -> None:
    host.sick_after["two"] = host.seconds + 15

    def kill() -> None:
        if old == "dies" and host.seconds > 8 and host.running["green"] == "two":
            host.running["blue"] = None
            host.waits.clear()

    host.waits.append(kill)
    with pytest.raises(TransactionError, match="got sick soon after the switch"):
        deploy(tmp_path, host, "two", soak=60.0)
    assert_whole(tmp_path, host, "one")


def test_where_neither_can_serve_nothing_is_stopped(tmp_path: Path, host: Host) -> None:
    host.sick_after["two"] = host.seconds + 10

    def kill() -> None:
        if host.seconds > 8 and host.running["green"] == "two":
            host.running["blue"] = None
            host.sick["one"] = Probe(500, "its database is gone")

    host.waits.append(kill)
    with pytest.raises(TransactionError, match="the earlier release one could not be started again, so both slots"):
        deploy(tmp_path, host, "two", soak=60.0)
    host.waits.clear()
    host.sick.clear()
    host.sick_after.clear()
    assert host.running["green"] == "two"
    assert host.enabled["green"], "it gets requests as soon as it is well"
    transaction(tmp_path, host, "one").run()
    assert_whole(tmp_path, host, "one")


def test_a_worker_that_has_not_checked_the_new_slot_leaves_the_old_one_its_requests(tmp_path: Path, host: Host) -> None:
    """HAProxy reloads between the last look at the new slot and the switch."""

    class Reloading(Host):
        def set_state(self, slot: str, state: str, beside: str = "") -> None:
            super().set_state(slot, state, beside)
            if (slot, state) == ("green", "ready") and not self.waits:
                self.edge_blind, seen_at = "two", self.seconds + 2
                self.waits.append(lambda: self.look(seen_at))

        def look(self, seen_at: float) -> None:
            assert self.enabled["blue"] or not self.edge_blind
            if self.seconds >= seen_at:
                self.edge_blind = ""

    host.__class__ = Reloading
    deploy(tmp_path, host, "two")
    assert host.waits
    assert_whole(tmp_path, host, "two")


def test_the_old_slot_gets_requests_again_while_the_edge_does_not_see_the_new_one(tmp_path: Path, host: Host) -> None:
    """Such as after a reload in the soak; both may answer, and neither is well for nobody."""
    seen: list[dict[str, bool]] = []

    def blind() -> None:
        host.edge_blind = "two" if 8 < host.seconds < 12 else ""
        if 8.5 < host.seconds < 12:
            seen.append(dict(host.enabled))

    host.waits.append(blind)
    deploy(tmp_path, host, "two", soak=20.0)
    assert seen
    assert all(enabled["blue"] for enabled in seen)
    host.waits.clear()
    assert_whole(tmp_path, host, "two")


def test_an_old_slot_that_ends_while_requests_of_the_new_one_end_is_started_again(tmp_path: Path, host: Host) -> None:
    """The new one serves until it is back, and is stopped only then."""
    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two", soak=60.0)
    work.judge = FakeJudge(Verdict("worse", "it answers worse"))
    host.sessions_of["two"] = 2

    def end() -> None:
        if host.enabled == {"blue": True, "green": False} and host.running["green"] and host.seconds > 60:
            host.running["blue"] = None
            host.waits.clear()

    host.waits.append(end)
    served: list[str | None] = []
    start = host.start

    def starting(slot: str, release: str) -> None:
        served.append(host.serving())
        start(slot, release)

    host.start = starting  # type: ignore[method-assign]
    with pytest.raises(TransactionError, match="it answers worse"):
        work.run()
    assert not host.waits
    assert served == ["one", "two"], "what served when two was started, and when one was started again"
    assert_whole(tmp_path, host, "one")


def test_a_new_slot_that_is_well_serves_where_the_old_one_is_dead_for_good(tmp_path: Path, host: Host) -> None:
    """Although its run has given up before the switch."""

    def die() -> None:
        if host.running["green"] == "two":
            host.running["blue"] = None
            Store(tmp_path).recall("ann")

    host.waits.append(die)
    start = host.start

    def refuse(slot: str, release: str) -> None:
        if release == "one":
            raise RuntimeFailed("no space left on device")
        start(slot, release)

    host.start = refuse  # type: ignore[method-assign]
    with pytest.raises(Recalled, match="one could not be started again, so both slots are left as they are"):
        deploy(tmp_path, host, "two")
    host.waits.clear()
    assert host.serving() == "two"
    assert Store(tmp_path).ledger()[-1]["result"] == "failed"
    transaction(tmp_path, host, "two").run()
    assert_whole(tmp_path, host, "two")


def test_what_is_left_of_a_slot_is_started_without_being_made_anew(tmp_path: Path, host: Host) -> None:
    """A disk that is full may have no room for another container; one that came back and ended is made anew."""
    crash_in_the_soak(tmp_path, host, "two")
    host.running["green"] = None
    host.ended.add("one")
    stopped: list[str] = []
    stop, start = host.stop, host.start

    def stopping(slot: str, grace: float) -> None:
        stopped.append(slot)
        stop(slot, grace)

    def starting(slot: str, release: str) -> None:
        host.ended.clear()
        start(slot, release)

    host.stop, host.start = stopping, starting  # type: ignore[method-assign]
    assert transaction(tmp_path, host, "one").reconcile() == "took back the interrupted two"
    assert stopped == ["green"]
    assert host.serving() == "one"


def test_requests_go_back_before_it_is_explained_why(tmp_path: Path, host: Host) -> None:
    host.sick_after["two"] = host.seconds + 10
    stage(tmp_path, "two")
    order: list[str] = []

    class Slow(Host):
        def logs(self, slot: str, lines: int) -> str:
            order.append(f"explained while {self.serving()} serves and {self.running[slot]} runs")
            return ""

    host.__class__ = Slow
    with pytest.raises(TransactionError):
        deploy(tmp_path, host, "two", soak=60.0)
    assert order == ["explained while one serves and two runs"]


def effects(release: str, **request: Any) -> int:
    with tempfile.TemporaryDirectory() as directory:
        host = Host()
        deploy(Path(directory), host, "one")
        first = host.effects
        deploy(Path(directory), host, release, **request)
        return host.effects - first


ERRORS: dict[str, Exception] = {
    "full disk": OSError(errno.ENOSPC, "No space left on device", "/opt/slipway/links/x"),
    "edge": NotStored("the state file cannot be written"),
    "runtime": RuntimeFailed("Cannot connect to the Docker daemon"),
}


@pytest.mark.parametrize("failures", [1, 3, 1000], ids=["once", "for a while", "until it ends"])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, effects("two", soak=2.0) + 1))
def test_any_effect_may_fail_with_any_error(
    tmp_path: Path, host: Host, point: int, after: bool, error: Exception, failures: int
) -> None:
    host.fail_from, host.crash_after, host.failures = host.effects + point, after, failures
    host.fails_with = error
    said = ""
    try:
        good = deploy(tmp_path, host, "two", soak=2.0)["release"] == "two"
    except (SlipwayError, OSError) as caught:
        good, said = False, f"{caught} {caught.__cause__}"
    words = error.strerror if isinstance(error, OSError) else str(error)
    assert good or str(words) in said, "it is named"
    host.fail_from, host.crash_after = 0, False
    assert None not in host.served, "there was a moment in which nothing served"
    assert host.serving() == ("two" if good else "one") or failures > 1
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")
    assert None not in host.served


@pytest.mark.parametrize("blind", ["runtime", "edge"])
def test_a_daemon_that_restarts_in_the_soak_is_waited_for(tmp_path: Path, host: Host, blind: str) -> None:
    def restart() -> None:
        soaking = host.enabled["green"] and not host.enabled["blue"] and host.running["green"]
        host.unseen = {blind} if soaking and 20 < host.seconds < 30 else set()

    host.waits.append(restart)
    assert deploy(tmp_path, host, "two", soak=60.0)["release"] == "two"
    host.waits.clear()
    assert host.seconds > 60
    assert_whole(tmp_path, host, "two")


@pytest.mark.parametrize("blind", ["runtime", "edge"])
def test_a_daemon_that_stays_away_stops_no_slot(tmp_path: Path, host: Host, blind: str) -> None:
    def hang() -> None:
        if host.enabled["green"] and not host.enabled["blue"] and host.running["green"] and host.seconds > 5:
            host.unseen = {blind}

    host.waits.append(hang)
    if blind == "edge":
        with pytest.raises(SlipwayError, match="HAProxy does not answer"):
            deploy(tmp_path, host, "two", soak=10.0)
    else:
        assert deploy(tmp_path, host, "two", soak=10.0)["warnings"]
    assert host.running == {"blue": "one", "green": "two"}
    host.waits.clear()
    host.unseen = set()
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")


def when_soaking(host: Host, seconds: float, do: Any) -> None:
    def happens() -> None:
        if host.enabled["green"] and not host.enabled["blue"] and host.seconds > seconds:
            host.waits.clear()
            do()

    host.waits.append(happens)


def test_a_transaction_is_told_to_return_and_does_at_once(tmp_path: Path, host: Host) -> None:
    when_soaking(host, 5, lambda: Store(tmp_path).recall("ann"))
    with pytest.raises(Recalled, match="taken back, as ann wants"):
        deploy(tmp_path, host, "two", **LONG_SOAK)
    assert host.seconds < 30
    assert_whole(tmp_path, host, "one")
    assert transaction(tmp_path, host, "two").run()["changed"], "it is not for the next one"


def test_one_is_told_to_return_while_it_starts(tmp_path: Path, host: Host) -> None:
    host.sick["two"] = Probe(503, "starting")
    host.waits.append(lambda: Store(tmp_path).recall("ann"))
    with pytest.raises(Recalled):
        deploy(tmp_path, host, "two")
    assert host.seconds < 5
    assert_whole(tmp_path, host, "one")


class Lease:
    """What the lease of the run says, and how often it was asked."""

    def __init__(self) -> None:
        self.gone = ""
        self.asked = 0

    def lost(self) -> str:
        self.asked += 1
        return self.gone


def test_a_run_that_lost_its_lease_gives_up_before_the_switch(tmp_path: Path, host: Host) -> None:
    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two")
    work.hold = lease = Lease()
    host.sick["two"] = Probe(503, "starting")

    def take() -> None:
        if host.seconds > 20:
            lease.gone = "the app is held by bob now"

    host.waits.append(take)
    with pytest.raises(Fenced, match="given up before the switch: the app is held by bob now"):
        work.run()
    assert host.seconds < 30
    assert host.served == {"one"}
    assert_whole(tmp_path, host, "one")


def test_one_that_lost_it_after_the_switch_finishes_what_it_began(tmp_path: Path, host: Host) -> None:
    stage(tmp_path, "two")
    work = transaction(tmp_path, host, "two", soak=60.0)
    work.hold = lease = Lease()
    when_soaking(host, 5, lambda: setattr(lease, "gone", "frozen"))
    work.run()
    assert lease.asked > 5, "it was renewed meanwhile"
    assert_whole(tmp_path, host, "two")


def test_another_release_than_was_expected_is_left_alone(tmp_path: Path, host: Host) -> None:
    stage(tmp_path, "two")
    before = host.effects
    for expects in ("zero", ""):
        with pytest.raises(Fenced, match="release one serves on this host, expected was"):
            transaction(tmp_path, host, "two", expects=expects).run()
    assert host.effects == before
    assert transaction(tmp_path, host, "two", expects="one").run()["changed"]
    assert not transaction(tmp_path, host, "two", expects="one").run()["changed"], "asked twice, the channel broke"


def gate_seconds(root: Path, host: Host, release: str, **request: Any) -> float:
    phases = deploy(root, host, release, **request)["phases"]
    return next(float(phase["seconds"]) for phase in phases if phase["phase"] == "gate")


def test_three_passes_take_about_a_second(tmp_path: Path, host: Host) -> None:
    assert gate_seconds(tmp_path, host, "two") <= 1.0
    slow = gate_seconds(tmp_path, host, "three", gate=Gate(interval=5.0))
    assert slow <= 1.0, "an interval for what is slow does not slow down what is not"


def test_a_soak_has_waited_for_the_worker_that_comes_in_a_reload(tmp_path: Path, host: Host) -> None:
    begin = host.seconds
    deploy(tmp_path, host, "two")
    assert 1.5 <= host.seconds - begin <= 3.0, "the old slot is not stopped sooner"
    begin = host.seconds
    deploy(tmp_path, host, "three", soak=10.0)
    assert host.seconds - begin <= 11.5, "and no later where it soaked"


def test_looks_get_rarer_while_a_release_is_slow(tmp_path: Path, host: Host) -> None:
    host.sick["two"] = Probe(503, "starting")
    asked: list[float] = []
    work = transaction(tmp_path, host, "two")
    stage(tmp_path, "two")
    probe = work.probe

    def asking(slot: str, path: str, gate: Gate) -> Probe:
        asked.append(host.seconds)
        return probe(slot, path, gate)

    work.probe = asking
    with pytest.raises(TransactionError, match="not ready within 60 s"):
        work.run()
    pauses = [after - before for before, after in itertools.pairwise(asked)]
    assert pauses[0] <= 0.2
    assert pauses[-2] == pytest.approx(1.0)
    assert len(asked) < 80


@pytest.mark.parametrize(
    ("status", "cause", "least", "most"),
    [
        (404, "the same for 10 s: GET /readyz answered 404", 10, 15),
        (307, "the same for 10 s: GET /readyz answered 307", 10, 15),
        (429, "not ready within 60 s: GET /readyz answered 429", 60, 70),
        (503, "not ready within 60 s: GET /readyz answered 503", 60, 70),
    ],
)
def test_one_that_says_no_is_believed(
    tmp_path: Path, host: Host, status: int, cause: str, least: float, most: float
) -> None:
    host.sick["two"] = Probe(status, "no")
    with pytest.raises(TransactionError, match=cause):
        deploy(tmp_path, host, "two")
    assert least <= host.seconds <= most
    assert_whole(tmp_path, host, "one")


def test_one_that_says_no_for_a_while_is_waited_for(tmp_path: Path, host: Host) -> None:
    well = dict(host.sick)
    host.sick["two"] = Probe(404, "the routes come later")

    def later() -> None:
        if host.seconds > 8:
            host.sick = well

    host.waits.append(later)
    deploy(tmp_path, host, "two")
    assert host.serving() == "two"


@pytest.mark.parametrize("after", [59.0, 59.5, 59.9])
def test_one_that_is_ready_in_the_last_second_gets_its_passes(tmp_path: Path, host: Host, after: float) -> None:
    """It was refused for no reason once: the last look was good, and there was nothing to say."""
    well, begin = dict(host.sick), host.seconds
    host.sick["two"] = Probe(503, "starting")

    def later() -> None:
        if host.seconds - begin > after:
            host.sick = well

    host.waits.append(later)
    deploy(tmp_path, host, "two", gate=Gate(passes=5))
    assert host.serving() == "two"


def test_one_that_listens_elsewhere_is_refused_at_once(tmp_path: Path, host: Host) -> None:
    host.sick["two"] = Probe(error="/run/x/green.sock does not exist", nobody=True)
    host.listens = ["tcp port 9000"]
    with pytest.raises(TransactionError, match="it listens on tcp port 9000 and not on the slot's socket"):
        deploy(tmp_path, host, "two")
    assert host.seconds < 5
    assert_whole(tmp_path, host, "one")


def test_one_whose_port_comes_before_its_socket_is_waited_for(tmp_path: Path, host: Host) -> None:
    host.sick["two"] = Probe(error="/run/x/green.sock does not exist", nobody=True)
    host.listens = ["tcp port 9000"]

    def open_socket() -> None:
        if host.seconds > 1.2:
            host.sick.clear()

    host.waits.append(open_socket)
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")


# What the old slot still answers


def with_websockets(root: Path, host: Host, **request: Any) -> dict[str, Any]:
    host.sessions_of["one"] = 3
    return deploy(root, host, "two", **request)


def assert_drains(root: Path, host: Host) -> None:
    """Two serves, one still answers what it has, and nobody calls that a difference."""
    assert host.running == {"blue": "one", "green": "two"}
    assert host.enabled == {"blue": False, "green": True}
    assert host.retired == {"blue"}, "it does not come back at a boot"
    seen = observe(transaction(root, host, ""))
    assert seen["drift"] == []
    assert (seen["draining"]["slot"], seen["draining"]["sessions"]) == ("blue", 3)
    assert seen["serving"] == {"release": "two", "slot": "green"}


def test_websockets_do_not_hold_up_a_release(tmp_path: Path, host: Host) -> None:
    begin = host.seconds
    result = with_websockets(tmp_path, host)
    assert host.seconds - begin < 3
    assert result["draining"] == {"slot": "blue", "release": "one"}
    assert_drains(tmp_path, host)
    assert deploy(tmp_path, host, "two")["changed"] is False


def test_what_drains_is_stopped_when_it_has_ended(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host)
    begin = host.seconds
    host.waits.append(lambda: host.sessions_of.update(one=0) if host.seconds > begin + 20 else None)
    assert Drainer(transaction(tmp_path, host, "")).run() == 0
    assert 20 <= host.seconds - begin < 25
    assert_whole(tmp_path, host, "two")
    assert Store(tmp_path).ledger()[-1]["cut"] == 0
    assert Store(tmp_path).good()[-1] == "two", "a drain is no release"


def test_what_does_not_end_is_cut_and_counted(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host, drain_websockets=120.0)
    begin = host.seconds
    assert Drainer(transaction(tmp_path, host, "")).run() == 3
    assert 119 <= host.seconds - begin < 125
    assert_whole(tmp_path, host, "two")
    assert Store(tmp_path).ledger()[-1]["cut"] == 3


@pytest.mark.parametrize(("on_draining", "least", "most"), [("cut", 28, 35), ("wait", 298, 305)])
def test_the_next_release_waits_for_requests_and_then_cuts_or_waits(
    tmp_path: Path, host: Host, on_draining: str, least: float, most: float
) -> None:
    with_websockets(tmp_path, host)
    begin = host.seconds
    told: list[dict[str, Any]] = []
    stage(tmp_path, "three")
    work = transaction(tmp_path, host, "three", on_draining=on_draining)
    work.tell = told.append
    work.run()
    assert least <= host.seconds - begin <= most
    assert told[0]["phase"] == "clear"
    assert_whole(tmp_path, host, "three")
    assert [entry["cut"] for entry in Store(tmp_path).ledger() if "cut" in entry] == [3]
    assert Drainer(transaction(tmp_path, host, "")).run() is None


def test_a_drainer_that_meets_a_transaction_leaves_the_slot_to_it(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host, drain_websockets=60.0)

    def deploy_another() -> None:
        host.waits.clear()
        deploy(tmp_path, host, "three")

    host.waits.append(deploy_another)
    assert Drainer(transaction(tmp_path, host, "")).run() is None
    assert_whole(tmp_path, host, "three")


def test_a_drainer_stops_nothing_while_a_transaction_holds_the_app(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host, drain_websockets=60.0)
    begin = host.seconds
    locked = Store(tmp_path).lock("a release")
    locked.__enter__()

    def let_go() -> None:
        if host.seconds > begin + 100:
            host.waits.clear()
            locked.__exit__(None, None, None)

    host.waits.append(let_go)
    assert Drainer(transaction(tmp_path, host, "")).run() == 3
    assert host.seconds > begin + 100


def test_the_only_slot_that_is_well_is_not_stopped_because_it_drains(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host, drain_websockets=60.0)
    host.running["green"] = None
    assert Drainer(transaction(tmp_path, host, "")).run() is None
    assert host.running["blue"] == "one"
    assert transaction(tmp_path, host, "").reconcile() == "sent requests to slot blue again"
    assert host.serving() == "one"


def test_after_a_reboot_nothing_drains(tmp_path: Path, host: Host) -> None:
    with_websockets(tmp_path, host)
    host.running["blue"] = None
    assert deploy(tmp_path, host, "three")["release"] == "three"
    assert_whole(tmp_path, host, "three")
    assert Store(tmp_path).draining() is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, 16))
def test_a_crash_anywhere_with_websockets_converges(tmp_path: Path, host: Host, point: int, after: bool) -> None:
    host.crash_at, host.crash_after = host.effects + point, after
    try:
        with_websockets(tmp_path, host)
        Drainer(transaction(tmp_path, host, "")).run()
    except Crash:
        pass
    host.crash_at = 0
    assert host.serving() in ("one", "two")
    deploy(tmp_path, host, "two")
    Drainer(transaction(tmp_path, host, "")).run()
    assert_whole(tmp_path, host, "two")
    assert None not in host.served
    deploy(tmp_path, host, "three")
    assert_whole(tmp_path, host, "three")


def test_releases_that_nobody_tried_do_not_stay_for_ever(tmp_path: Path, host: Host) -> None:
    for number in range(20):
        stage(tmp_path, f"night{number:02}")
    transaction(tmp_path, host, "one").prune()
    there = sorted(path.name for path in (tmp_path / "releases").iterdir())
    assert "one" in there
    assert len(there) == 4
    deploy(tmp_path, host, "night19")
    assert_whole(tmp_path, host, "night19")


@pytest.mark.parametrize("slot", SLOTS)
def test_a_slot_that_is_left_running_is_drained_before_it_is_used(tmp_path: Path, host: Host, slot: str) -> None:
    """Such as one that could not be stopped, or that somebody started by hand."""
    if slot == "blue":
        deploy(tmp_path, host, "one-b")
    live = "blue" if host.running["blue"] else "green"
    host.running[other(live)] = "stranger"
    host.enabled[other(live)] = False
    host.served.clear()
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")
    assert None not in host.served
