"""The singletons of a fleet move from one host to another, and are never on both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.unit.fleet.memory import Fault, Fleet, drive, fleet

PLACE = {"app": "app", "root": "/opt/slipway/app"}


def moving(to: str, **answers: dict[str, Any]) -> Fleet:
    """Three hosts, of which one is to run the singletons; what each answers to `look` beside the usual."""
    found = fleet(3)
    found.targets = {host.name: {"place": {**PLACE, "singletons": host.name == to}} for host in found.hosts}
    for name, answer in answers.items():
        found.host(name).answers["look"] = answer
    return found


def test_who_has_them_gives_them_up_before_another_one_starts_them() -> None:
    found = moving("web2", web1={"singletons": ["beat"]})
    asked: list[str] = []
    found.host("web1").hooks["give_up"] = lambda: asked.append(f"web2 {found.host('web2').verbs[-1]}")
    assert found.run(batches=["100%"]).word == "good"
    assert asked == ["web2 stage"], "nothing was started there yet"
    assert "give_up" not in found.host("web2").verbs + found.host("web3").verbs


def test_where_they_are_already_nobody_is_asked() -> None:
    found = moving("web1", web1={"singletons": ["beat"], "singletons_at": {"host": "web1", "at": 1.0}})
    assert found.run().word == "good"
    assert not any("give_up" in host.verbs for host in found.hosts)


@pytest.mark.parametrize("error", [Unreachable("no route to host"), Refused("beat did not end within 105 s")])
def test_one_that_does_not_give_them_up_ends_the_run_before_another_one_starts_them(error: Exception) -> None:
    found = moving("web2", web1={"singletons": ["beat"]})
    found.host("web1").faults["give_up"] = Fault(error)
    report = found.run()
    assert "web1 runs beat and did not give that up" in report.message
    assert not any(host.asked("activate") for host in found.hosts)
    assert not any(host.holder for host in found.hosts), "all were let go"
    assert tended(found) == {}, "the one of web1 may run still"


def tended(found: Fleet) -> dict[str, Any]:
    """The hosts that are to see to their processes at the end, with where the singletons are for each."""
    asked = {host.name: host.asked("let_go")[-1] for host in found.hosts}
    return {name: said["place"] for name, said in asked.items() if said.get("processes")}


def test_where_no_host_is_begun_any_more_the_one_that_was_to_start_them_does_so_with_what_it_serves() -> None:
    found = moving("web2", web1={"singletons": ["beat"]})
    found.host("web1").bad = {"new"}
    assert found.run().word == "reverted"
    assert not found.host("web2").asked("activate")
    assert tended(found) == {"web2": {**PLACE, "singletons": True}}


def test_an_interrupted_run_leaves_none_behind_either() -> None:
    moments: list[float] = []
    found = moving("web2", web1={"singletons": ["beat"]})
    found.host("web1").hooks["give_up"] = lambda: moments.append(asyncio.get_running_loop().time())
    found.run()
    found = moving("web2", web1={"singletons": ["beat"]})
    assert drive(found.begin(), cancel_at=[moments[0] + 0.5]).word != "good"
    assert found.host("web1").asked("give_up")
    assert not any(host.asked("activate") for host in found.hosts)
    assert tended(found) == {"web2": {**PLACE, "singletons": True}}


def test_one_that_served_nothing_before_hands_them_back() -> None:
    found = moving("web2", web1={"singletons": ["beat"]})
    new = found.host("web2")
    new.serving, new.good, new.bad = None, [], {"new"}
    assert found.run(batches=["100%"]).word == "failed"
    assert new.asked("give_up"), "what it may have started of the new release has ended"
    assert tended(found) == {"web1": {**PLACE, "singletons": True, "singleton_host": "web1"}}


def test_they_stay_away_where_nobody_knows_that_the_new_one_runs_none() -> None:
    found = moving("web2", web1={"singletons": ["beat"]})
    new = found.host("web2")
    new.serving, new.good, new.bad = None, [], {"new"}
    new.faults["give_up"] = Fault(Refused("beat did not end within 105 s"))
    found.run(batches=["100%"])
    assert tended(found) == {}
    assert any("nobody runs the singletons until the next run" in str(event.about) for event in found.told("warning"))


def test_one_that_is_left_alone_is_held_while_it_gives_them_up() -> None:
    """Its singleton was told to end, as it serves and runs all that it should."""
    found = moving("web2", web1={"singletons": ["beat"]})
    found.host("web1").serving = "new"
    assert found.run().word == "good"
    assert found.host("web1").verbs == ["look", "hold", "give_up", "let_go"]
    assert not found.host("web1").holder


STRANGER = {"singletons_at": {"host": "web9", "at": 5.0}}


@pytest.mark.parametrize("gone", [[], ["web9"]])
def test_a_host_that_is_no_part_of_the_run_is_waited_for_until_somebody_says_that_it_is_lost(gone: list[str]) -> None:
    older = {"singletons_at": {"host": "web1", "at": 4.0}}
    found = moving("web2", web2=STRANGER, web3=older)
    found.usual["singletons_gone"] = gone
    report = found.run()
    if gone:
        assert report.word == "good"
        return
    assert "the singletons ran on web9 last, which is no host of this run" in report.message
    assert "-e '{fastapi_app_singletons_gone: [web9]}'" in report.message
    assert not any("hold" in host.verbs for host in found.hosts), "nothing was changed"


def test_what_an_older_record_says_counts_no_more() -> None:
    found = moving("web2", web1=STRANGER, web2={"singletons_at": {"host": "web2", "at": 6.0}})
    assert found.run().word == "good"


def test_where_no_release_has_had_any_since_nobody_is_waited_for() -> None:
    found = moving("web2", web1=STRANGER, web3={"singletons_at": {"host": "", "at": 6.0}})
    assert found.run().word == "good"


def test_a_run_that_starts_none_does_not_ask_where_they_are() -> None:
    assert moving("web8", web1=STRANGER).run().word == "good"


def test_who_has_timers_of_jobs_gives_them_up_too() -> None:
    found = moving("web2", web1={"jobs": ["nightly"]})
    assert found.run().word == "good"
    assert "give_up" in found.host("web1").verbs
    refused = moving("web2", web1={"jobs": ["nightly"]})
    refused.host("web1").faults["give_up"] = Fault(Refused("the job nightly runs here; run again when it has ended"))
    assert "web1 runs nightly and did not give that up (the job nightly runs here" in refused.run().message
    assert not any(host.asked("activate") for host in refused.hosts)


@pytest.mark.parametrize(("gone", "warned"), [([], 1), (["web9"], 0)])
def test_a_host_of_the_jobs_that_is_no_part_of_the_run_is_told_and_stops_nothing(gone: list[str], warned: int) -> None:
    found = moving("web2", web2={"jobs_at": {"host": "web9", "at": 5.0}}, web3={"jobs_at": {"host": "web1", "at": 4.0}})
    found.usual["singletons_gone"] = gone
    assert found.run().word == "good"
    said = [str(event.about["message"]) for event in found.events if event.kind == "warning"]
    assert (
        len([words for words in said if "the jobs ran on web9 last, which is no host of this run" in words]) == warned
    )
