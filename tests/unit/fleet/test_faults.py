"""What goes wrong at any verb of any host: nothing is left half done, and the verdict names each host truly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    ContentError,
    FleetReport,
    Refused,
    Unreachable,
)

from tests.unit.fleet.memory import GONE, Fault, Fleet, fleet, outcomes

KINDS = ("held", "fenced", "busy", "release", "failed")
ERRORS: dict[str, Callable[[], Exception]] = {
    "unreachable": lambda: GONE,
    "unexpected": lambda: RuntimeError("wrong become password"),
    **{kind: lambda kind=kind: Refused(f"no: {kind}\nthe log", kind) for kind in KINDS},  # type: ignore[misc]
}
FOR_EVER = 1_000_000
# Before the switch, and how a message begins that says so.
EARLY = {
    "look": "nothing was changed; web2 ",
    "hold": "nothing was changed; web2",
    "stage": "nothing was switched; web2: ",
}


def at(verb: str, error: str, host: int = 1, times: int = FOR_EVER, late: bool = False) -> Fleet:
    there = fleet()
    there.hosts[host].faults[verb] = Fault(ERRORS[error](), late, times)
    return there


def is_true(there: Fleet, report: FleetReport) -> None:
    """Every row says what its host serves, or that nobody knows."""
    for host, row in zip(there.hosts, report.rows, strict=True):
        assert row["now"] in (host.serving, None)
        if row["now"] is None and host.serving:
            assert row["outcome"] in ("unreachable", "failed")
        assert (host.name in report.wrong) == (row["outcome"] not in ("good", "unchanged"))
    if report.word == "good":
        assert {row["outcome"] for row in report.rows} <= {"good", "unchanged"}
        assert all(row["now"] == report.release for row in report.rows)
    if report.word == "reverted":
        assert all(row["now"] == row["was"] for row in report.rows)


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("verb", EARLY)
def test_before_the_switch_it_ends_the_run(verb: str, error: str) -> None:
    there = at(verb, error)
    report = there.run()
    assert report.word == "refused"
    assert report.message.startswith(EARLY[verb]), report.message
    assert there.serving == ["old"] * 3
    assert not any(host.asked("activate") or host.asked("run") for host in there.hosts)
    assert all(host.asked("let_go") for host in there.hosts if host.asked("hold"))
    assert [host.holder for host in there.hosts] == ["", "", ""]
    assert report.rows[1]["outcome"] in ("failed", "unreachable")
    assert outcomes(report)[::2] == ["untouched", "untouched"]
    assert report.changed == (verb == "stage")
    is_true(there, report)


@pytest.mark.parametrize("error", ERRORS)
def test_a_migration_that_fails_switches_nothing(error: str) -> None:
    there = at("run", error, host=0)
    report = there.run()
    assert (report.word, there.serving) == ("refused", ["old"] * 3)
    assert report.message.startswith("nothing was switched; web1: ")
    assert [len(host.asked("run")) for host in there.hosts] == [1, 0, 0]
    assert [host.holder for host in there.hosts] == ["", "", ""]


def test_a_command_that_ends_with_an_exit_code_has_failed() -> None:
    there = fleet()
    there.hosts[0].answers["run"] = {"rc": 3, "stdout": "division by zero", "stderr": ""}
    report = there.run()
    assert report.message == "nothing was switched; web1: the migration of release new failed: exit code 3"
    assert "division by zero" in report.rows[0]["diagnosis"]


@pytest.mark.parametrize("error", ERRORS)
def test_at_the_activation_the_fleet_goes_back(error: str) -> None:
    there = at("activate", error)
    report = there.run(batches=[1])
    expected = {"unreachable": "failed"}.get(error, "failed")
    assert outcomes(report) == ["reverted", expected, "untouched"]
    assert (report.word, there.serving) == ("reverted", ["old"] * 3)
    assert not there.hosts[2].asked("activate")
    assert not there.hosts[2].asked("settle")
    assert len(there.told("batch")) == 2
    assert there.hosts[0].asked("settle")[0]["about"]["operation"] == "revert"
    assert there.hosts[0].asked("settle")[0]["return_to"] == "old"
    is_true(there, report)


def test_hosts_that_wait_for_their_turn_in_a_batch_are_not_begun_after_trouble() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    report = there.run(batches=["100%"], at_once=1)
    assert outcomes(report) == ["reverted", "failed", "untouched"]
    assert not there.hosts[2].asked("activate")


@pytest.mark.parametrize("kind", ["held", "fenced"])
def test_a_host_that_another_run_holds_is_not_taken_back(kind: str) -> None:
    there = at("activate", kind)
    there.run(batches=[1])
    assert not there.hosts[1].asked("settle")


def test_a_release_that_is_refused_has_its_cause_and_its_log() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1])
    row = report.rows[1]
    assert (row["outcome"], row["cause"]) == ("failed", "not ready within 2 s")
    assert row["diagnosis"] == "release new was refused: not ready within 2 s\nlog"
    assert [step["phase"] for step in row["steps"]] == ["start", "gate"]
    assert [(step["phase"], step["revert"]) for step in report.rows[0]["steps"]][-2:] == [
        ("switch", True),
        ("drain", True),
    ]
    assert (
        report.message
        == "release new was refused (web2: not ready within 2 s); every host serves what it served before"
    )
    assert report.wrong == {
        "web1": "serves old and not new: because of web2",
        "web2": "serves old and not new: not ready within 2 s",
        "web3": "serves old and not new: because of web2",
    }


def test_hold_leaves_it_and_says_so() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1], on_failure="hold")
    assert outcomes(report) == ["held", "failed", "untouched"]
    assert (report.word, there.serving) == ("held", ["new", "old", "old"])
    assert "fastapi_app_on_failure" in report.message
    assert not any(host.asked("settle") for host in there.hosts)
    there.hosts[1].bad = set()
    assert there.run().word == "good"


UNJUDGED = {"canary": {"word": "unknown", "sentence": "12 new and 30 old requests tell too little"}}


def undecided(unknown: str) -> Fleet:
    """A fleet on whose first host nobody can tell whether the release is worse."""
    there = fleet()
    there.usual["activate"] = {"soak": 5.0, "canary": {"judged": True, "unknown": unknown}}
    there.hosts[0].answers["activate"] = UNJUDGED
    return there


def test_what_cannot_be_judged_goes_on_or_holds_the_fleet() -> None:
    assert undecided("go").run(batches=[1]).word == "good"
    there = undecided("hold")
    report = there.run(batches=[1])
    assert outcomes(report) == ["held", "untouched", "untouched"]
    assert (report.word, there.serving) == ("held", ["new", "old", "old"])
    assert "is worse on web1 is unknown, and fastapi_app_canary_unknown says hold: 12 new" in report.message
    assert "on_failure" not in report.message
    assert not any(host.asked("settle") for host in there.hosts)
    there.hosts[0].answers.clear()
    assert (there.run().word, there.serving) == ("good", ["new"] * 3)


def test_trouble_beside_what_cannot_be_judged_takes_the_fleet_back() -> None:
    there = undecided("hold")
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[2])
    assert (outcomes(report), there.serving) == (["reverted", "failed", "untouched"], ["old"] * 3)


def test_after_hold_a_rollback_takes_back_those_that_went_on() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    there.run(batches=[1], on_failure="hold")
    report = there.run("rollback")
    assert (report.word, there.serving, report.release) == ("good", ["old"] * 3, "old")
    assert outcomes(report) == ["good", "unchanged", "unchanged"]


def test_a_first_release_that_fails_has_no_way_back() -> None:
    there = fleet(serving=None, good=[])
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1])
    assert outcomes(report) == ["good", "failed", "untouched"]
    assert (report.word, there.serving) == ("failed", ["new", None, None])
    assert not there.hosts[0].asked("settle")


def test_a_restart_that_fails_leaves_those_that_were_restarted() -> None:
    there = fleet()
    there.hosts[1].faults["activate"] = Fault(Refused("it ended", "release"))
    report = there.run("restart", batches=[1])
    assert outcomes(report) == ["good", "failed", "untouched"]
    assert (report.word, there.serving) == ("reverted", ["old"] * 3)


@pytest.mark.parametrize("error", ERRORS)
def test_a_host_that_cannot_be_taken_back_is_named(error: str) -> None:
    there = at("settle", error, host=0)
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1])
    assert outcomes(report) == ["unreachable" if error == "unreachable" else "failed", "failed", "untouched"]
    assert (report.word, there.serving) == ("failed", ["new", "old", "old"])
    assert report.rows[0]["now"] == "new"
    assert "not every host is back on what it served before" in report.message
    is_true(there, report)


@pytest.mark.parametrize("error", ERRORS)
def test_a_host_that_does_not_say_what_answers_is_no_good_end(error: str) -> None:
    there = at("let_go", error)
    report = there.run()
    assert report.word == "failed"
    assert outcomes(report) == ["good", "unreachable" if error == "unreachable" else "failed", "good"]
    assert report.rows[1]["now"] is None
    is_true(there, report)


def test_what_serves_counts_and_not_what_was_reported() -> None:
    there = fleet()
    there.hosts[1].hooks["let_go"] = lambda: setattr(there.hosts[1], "serving", None)
    report = there.run()
    assert (report.word, outcomes(report)) == ("failed", ["good", "failed", "good"])
    assert report.rows[1]["cause"] == "serves nothing and not new"
    assert report.wrong == {"web2": "serves nothing and not new"}


def test_drift_at_the_end_is_no_good_end() -> None:
    there = fleet()
    there.hosts[1].hooks["let_go"] = lambda: there.hosts[1].drift.append("slot blue was restarted 3 times")
    report = there.run()
    assert (report.word, report.rows[1]["outcome"]) == ("failed", "failed")
    assert report.rows[1]["cause"] == "serves new, but slot blue was restarted 3 times"
    assert report.rows[1]["drift"] == ["slot blue was restarted 3 times"]
    assert report.wrong == {"web2": "serves new, but slot blue was restarted 3 times"}
    assert "does not serve as it should on every host" in report.message


def test_a_restart_that_fails_is_told_as_that() -> None:
    """The release that serves is the one that it is about: `serves old and not old`."""
    there = fleet()
    there.hosts[1].bad = {"old"}
    report = there.run("restart", batches=[1])
    assert report.wrong == {
        "web2": f"serves old, and was not started anew: {report.rows[1]['cause']}",
        "web3": "serves old, and was not started anew: because of web2",
    }
    assert report.message.startswith("the restart was refused (web2: ")
    assert "release old" not in report.message.partition(" (web2")[0]


def test_a_restart_that_falls_short_says_to_restart_again() -> None:
    there = fleet()
    there.hosts[1].bad = {"old"}
    there.hosts[1].hooks["let_go"] = lambda: setattr(there.hosts[1], "serving", None)
    report = there.run("restart", batches=[1])
    assert report.word == "failed"
    assert report.message.startswith("the restart was refused (web2: ")
    assert report.message.endswith("that say so and restart again")


def test_what_a_host_says_of_its_files_is_no_word_about_the_run() -> None:
    """Its message had `nothing was changed` in it, after files and images of the release had come to other hosts."""
    there = fleet()
    said = "/a is refused by its validator `grep`, no file was changed: it is empty"
    there.hosts[1].faults["stage"] = Fault(Refused(said))
    report = there.run()
    assert "no file was changed" in report.message


def test_a_host_that_serves_the_release_already_and_was_not_begun_is_not_told_as_without_it() -> None:
    there = fleet()
    there.hosts[2].serving = "new"
    there.hosts[2].drift = ["slot green runs too"]
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1])
    assert report.wrong["web3"] == "serves new, but not as it should: because of web2"


def test_a_dead_host_is_never_reverted() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    there.hosts[0].hooks["let_go"] = lambda: setattr(there.hosts[0], "serving", None)
    report = there.run(batches=[1])
    assert (report.word, outcomes(report)) == ("failed", ["failed", "failed", "untouched"])
    assert report.rows[0]["cause"] == "serves nothing and not old again"


def test_a_host_that_was_not_begun_and_serves_something_else_is_named() -> None:
    there = fleet()
    there.hosts[1].bad = {"new"}
    there.hosts[2].hooks["let_go"] = lambda: setattr(there.hosts[2], "serving", "other")
    report = there.run(batches=[1])
    assert (report.word, outcomes(report)) == ("failed", ["reverted", "failed", "failed"])
    assert report.rows[2]["cause"] == "serves other and served old before, which this run did not do"


class TestUnreachable:
    def test_everything_that_is_wrong_anywhere_is_said_at_once(self) -> None:
        there = fleet(4)
        there.hosts[0].faults["look"] = Fault(Unreachable("no route"))
        there.hosts[1].problems = ["Docker is not installed", "the clock differs by 90 s"]
        there.hosts[2].faults["look"] = Fault(Unreachable("timed out"))
        report = there.run()
        assert report.message.splitlines() == [
            "nothing was changed; web1 cannot be reached: no route",
            (
                "web3 cannot be reached: timed out. Mend their connection, or leave them out of this run with "
                "--limit 'all:!web1:!web3'"
            ),
            "web2 cannot take a release: Docker is not installed; the clock differs by 90 s",
        ]
        assert outcomes(report) == ["unreachable", "failed", "unreachable", "untouched"]
        assert [host.verbs for host in there.hosts] == [["look"]] * 4

    def test_one_alone(self) -> None:
        there = at("look", "unreachable")
        assert there.run().message == (
            "nothing was changed; web2 cannot be reached: timed out. Mend its connection, or leave it out of this run "
            "with --limit 'all:!web2'"
        )

    def test_without_whom_there_is_no_other(self) -> None:
        there = fleet(1)
        there.hosts[0].faults["look"] = Fault(Unreachable("timed out"))
        assert there.run().message == "nothing was changed; web1 cannot be reached: timed out. Mend its connection"

    def test_while_it_is_held(self) -> None:
        """It may hold all the same, so it is let go like the others."""
        there = at("hold", "unreachable", late=True, times=1)
        report = there.run()
        assert report.message == "nothing was changed; web2 cannot be reached: timed out, so the fleet is not held"
        assert [host.holder for host in there.hosts] == ["", "", ""]

    def test_in_the_middle_and_back_on_the_release(self) -> None:
        there = at("activate", "unreachable", late=True)
        report = there.run(batches=[1])
        assert (report.word, there.serving) == ("good", ["new"] * 3)
        assert there.hosts[1].verbs.count("look") > 1
        assert there.told("lost")[0].host == "web2"

    def test_in_the_middle_and_refused_there(self) -> None:
        there = at("activate", "unreachable", late=True)
        there.hosts[1].bad = {"new"}
        report = there.run(batches=[1])
        assert outcomes(report) == ["reverted", "failed", "untouched"]
        assert "could not be reached in the middle of its turn (timed out), and serves old" in report.rows[1]["cause"]

    def test_in_the_middle_and_gone_for_ever(self) -> None:
        """It goes on by itself and ends on the new release, which nobody hears of any more."""
        there = at("activate", "unreachable", late=True)
        there.hosts[1].hooks["activate"] = lambda: away(there, "web2")
        report = there.run(batches=[1], reconnect=30.0)
        assert outcomes(report) == ["reverted", "unreachable", "untouched"]
        assert report.word == "failed"
        assert (there.serving, report.rows[1]["now"]) == (["old", "new", "old"], None)
        assert "release new was refused (web2: cannot be reached: timed out), and not every host" in report.message
        assert 30.0 < report.ended - report.began < 80.0

    def test_in_the_middle_and_back_before_the_end(self) -> None:
        """What it serves is found out, and it is taken back like the others."""
        there = at("activate", "unreachable", late=True)
        there.hosts[1].faults["look"] = Fault(GONE, times=0)
        there.hosts[1].hooks["activate"] = lambda: away(there, "web2", ("look",))
        report = there.run(batches=[1], reconnect=30.0)
        assert (outcomes(report), there.serving) == (["reverted", "unreachable", "untouched"], ["old"] * 3)
        assert report.word == "reverted"

    def test_in_the_middle_and_back_before_its_transaction_has_ended(self) -> None:
        """What answers in the middle of it is not the last word."""
        there = at("activate", "unreachable", late=True)
        there.hosts[1].hooks["activate"] = lambda: there.hosts[1].faults.update(look=Fault(GONE, times=2))
        report = there.run(batches=[1], reconnect=1.0, on_failure="hold")
        assert (outcomes(report), there.serving) == (["held", "unreachable", "untouched"], ["new", "new", "old"])
        assert report.rows[1]["now"] == "new"

    def test_after_its_turn(self) -> None:
        there = fleet()
        there.hosts[1].hooks["activate"] = lambda: away(there, "web1")
        report = there.run(batches=[1])
        assert outcomes(report) == ["unreachable", "good", "good"]
        assert there.serving == ["new"] * 3
        assert report.message.startswith("release new serves on every host that answers, but not all do (web1: cannot")

    def test_for_a_moment_at_the_end(self) -> None:
        there = at("let_go", "unreachable", times=3)
        assert there.run().word == "good"
        assert there.hosts[1].verbs.count("let_go") == 4


def away(there: Fleet, name: str, verbs: tuple[str, ...] = ("look", "renew", "settle", "let_go")) -> None:
    for verb in verbs:
        there.host(name).faults[verb] = Fault(GONE, times=FOR_EVER)


class TestLease:
    def test_of_two_runs_one_is_refused_and_leaves_nothing_held(self) -> None:
        there = fleet()
        there.hosts[2].holder = "run-2"
        report = there.run()
        assert report.message == "nothing was changed; web3: a deploy by bob is under way since noon on web3"
        assert [host.holder for host in there.hosts] == ["", "", "run-2"]
        assert report.word == "refused"

    def test_one_of_a_dead_run_is_waited_for(self) -> None:
        there = fleet()
        there.hosts[1].frees_in = [20.0, 5.0]
        report = there.run()
        assert report.word == "good"
        assert [len(host.asked("look")) for host in there.hosts] == [1, 3, 1]
        assert [event.about["message"] for event in there.told("warning")] == [
            "waiting 20 s for the lock of a run that seems to be gone",
            "waiting 5 s for the lock of a run that seems to be gone",
        ]

    def test_one_of_a_dead_run_is_waited_for_where_the_release_serves_already(self) -> None:
        """Its transaction went on without the controller, and its lock is refused there as anywhere."""
        there = fleet()
        there.hosts[1].serving, there.hosts[1].frees_in = "new", [20.0]
        report = there.run()
        assert report.word == "good"
        assert [event.about["message"] for event in there.told("warning")] == [
            "waiting 20 s for the lock of a run that seems to be gone"
        ]

    @pytest.mark.parametrize("frees_in", [[0.0], [20.0, 0.0], [20.0] * 9])
    def test_one_of_a_run_that_lives_is_not_waited_for_for_ever(self, frees_in: list[float]) -> None:
        there = fleet()
        there.hosts[1].frees_in = frees_in
        there.hosts[1].problems = ["a deploy by bob is under way"]
        report = there.run()
        assert report.message == "nothing was changed; web2 cannot take a release: a deploy by bob is under way"

    def test_the_first_host_is_held_before_the_others(self) -> None:
        there = fleet()
        there.hosts[0].holder = "run-2"
        there.run()
        assert [host.asked("hold") != [] for host in there.hosts] == [True, False, False]

    @pytest.mark.parametrize("how", ["renew", "refused"])
    def test_one_that_is_lost_in_the_middle_begins_no_further_host(self, how: str) -> None:
        there = fleet(6)
        if how == "renew":
            there.hosts[2].hooks["activate"] = lambda: setattr(there.hosts[5], "holder", "run-2")
        else:
            there.hosts[5].faults["renew"] = Fault(Refused("frozen by bob", "held"))
        report = there.run(batches=[1])
        assert report.word == "reverted"
        begun = [bool(host.asked("activate")) for host in there.hosts]
        assert begun in ([True] * 3 + [False] * 3, [True] * 4 + [False] * 2)
        assert there.serving == ["old"] * 6
        assert there.told("lost")[0].host == "web6"
        assert (
            "release new was stopped (web6 was freed or taken by somebody else while this run was under way"
            in report.message
        )
        assert there.hosts[5].holder in ("run-2", "")

    def test_one_that_is_lost_after_the_last_host_was_begun_takes_nothing_back(self) -> None:
        there = fleet(1)
        there.usual = {"migrate": []}
        there.hosts[0].answers["renew"] = {"held": False}
        there.hosts[0].faults["let_go"] = Fault(GONE, times=8)
        report = there.run()
        assert (report.word, there.serving) == ("good", ["new"])

    def test_a_freeze_in_the_middle_stops_the_run_and_what_was_begun_is_put_back_under_its_lease(self) -> None:
        there = fleet(4)
        there.hosts[3].answers["renew"] = {"held": True, "frozen": "the sale runs until Monday"}
        report = there.run(batches=[1])
        assert (report.word, there.serving) == ("reverted", ["old"] * 4)
        assert "web4 was frozen while this run was under way: the sale runs until Monday" in report.message
        assert not there.hosts[3].asked("activate")
        assert not there.told("lost")

    def test_one_that_cannot_be_renewed_for_another_reason_is_a_warning(self) -> None:
        there = fleet(4)
        there.hosts[3].faults["renew"] = Fault(Refused("sudo: a password is required", "failed"), times=FOR_EVER)
        assert there.run(batches=[1]).word == "good"
        assert "sudo" in there.told("warning")[0].about["message"]

    def test_a_rollback_whose_fleet_changed_before_it_was_held_is_refused(self) -> None:
        there = fleet()
        there.hosts[1].hooks["hold"] = lambda: setattr(there.hosts[1], "serving", "other")
        report = there.run("rollback")
        assert report.message.startswith("nothing was changed; web2 serves other and served old a moment ago")
        assert not any(host.asked("activate") for host in there.hosts)
        assert [host.holder for host in there.hosts] == ["", "", ""]


@pytest.mark.parametrize("step", ["identify", "look", "prepare", "put"])
def test_content_that_cannot_be_had_switches_nothing(step: str) -> None:
    there = fleet()
    there.content.faults[step] = ContentError("127.0.0.1:1/nobody:has-it cannot be pulled")
    report = there.run()
    assert (report.word, there.serving) == ("refused", ["old"] * 3)
    assert "127.0.0.1:1/nobody:has-it cannot be pulled" in report.message
    assert [host.holder for host in there.hosts] == ["", "", ""]
    assert not any(host.asked("stage") for host in there.hosts)
    assert all(host.verbs == [] for host in there.hosts) == (step == "identify")


def test_content_that_breaks_in_an_unexpected_way_is_no_crash() -> None:
    there = fleet()
    there.content.faults["identify"] = KeyError("Config")
    report = there.run()
    assert (report.word, report.changed) == ("refused", False)
    assert report.message == "nothing was changed; failed in an unexpected way, KeyError: 'Config'"


def test_a_new_host_that_was_not_begun_serves_nothing_as_before() -> None:
    there = fleet()
    there.hosts[2].serving, there.hosts[2].good = None, []
    there.hosts[1].bad = {"new"}
    report = there.run(batches=[1])
    assert (report.word, outcomes(report)) == ("reverted", ["reverted", "failed", "untouched"])


@pytest.mark.parametrize("batches", [[-1], ["-5%"], ["many"], [1, None], [0.5], [True]])
def test_batches_without_progress_are_refused(batches: list[Any]) -> None:
    there = fleet()
    report = there.run(batches=batches)
    assert report.word == "refused"
    assert report.message.startswith("nothing was changed; slipway_batches has ")
    assert [host.verbs for host in there.hosts] == [[]] * 3


class TestRollback:
    def test_one_that_no_host_can_do(self) -> None:
        there = fleet(good=["old"])
        report = there.run("rollback")
        assert (report.word, there.serving) == ("refused", ["old"] * 3)
        assert "there is no good release to return to before the one that serves (web1 serves old" in report.message

    def test_a_host_without_the_release_is_named_and_can_be_left_out(self) -> None:
        there = fleet()
        there.hosts[2].good = ["old"]
        report = there.run("rollback")
        assert report.message.startswith(
            "nothing was changed; there is no good release to which every host can return; of release older: web3 does "
            "not have it; leave it out of this run with --limit 'all:!web3'"
        )
        assert [host.verbs for host in there.hosts] == [["look"]] * 3

    def test_an_image_that_is_gone(self) -> None:
        there = fleet()
        there.hosts[1].gone = {"older"}
        assert "of release older: web2 has no longer its image or package" in there.run("rollback").message

    def test_one_that_an_operator_named_and_a_host_does_not_have(self) -> None:
        there = fleet()
        there.release = "0123456789ab"
        for host in there.hosts:
            host.answers["look"] = {"release": ""}
        report = there.run("rollback")
        assert "release 0123456789ab is no good release of this host; there are: older, old" in report.message
        assert there.serving == ["old"] * 3

    def test_one_that_an_operator_named_and_all_have(self) -> None:
        there = fleet(good=["first", "older", "old"])
        there.release = "first"
        assert (there.run("rollback").word, there.serving) == ("good", ["first"] * 3)

    def test_a_database_that_does_not_suit_it(self) -> None:
        there = fleet(schemas={"older": "0001", "old": "0004"})
        there.hosts[0].faults["run"] = Fault(Refused("it cannot be rolled back to 0001: revision 0004\nDROP COLUMN"))
        report = there.run("rollback")
        assert report.message == "nothing was changed; web1: it cannot be rolled back to 0001: revision 0004"
        assert there.serving == ["old"] * 3
        assert [host.holder for host in there.hosts] == ["", "", ""]
