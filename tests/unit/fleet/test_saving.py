"""A set before what is pending is applied: made by the hosts that back the database up, or in the way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.unit.fleet.memory import Fleet, fleet
from tests.unit.fleet.test_alembic import ADDS, DROPS, asked, said, with_alembic

BUSY = Refused("nothing was done: a drill is under way on this host; wait for its end", details={"fault": "busy"})


@dataclass
class Saver:
    """A host that backs the database up; each error once, one after the other."""

    name: str = "db1"
    errors: list[Exception] = field(default_factory=list)
    asked: list[Mapping[str, Any]] = field(default_factory=list)
    at_work: list[str] = field(default_factory=list)

    async def call(self, verb: str, arguments: Mapping[str, Any], on_event: Any = None) -> dict[str, Any]:
        assert verb == "backup"
        self.asked.append(arguments)
        await asyncio.sleep(3)
        if self.errors:
            raise self.errors.pop(0)
        return {"set": f"set{len(self.asked)}", "seconds": 3.0, "bytes": 1000}


def saved(saver: Saver, *answers: Any, **more: Any) -> Fleet:
    there = with_alembic(*answers, **more)
    there.savers = {saver.name: saver}
    return there


def test_a_set_is_made_of_what_is_pending_and_named_in_the_record() -> None:
    saver = Saver()
    there = saved(saver, {**said("0003", ADDS), "empty": False}, said("0004"))
    assert there.run().word == "good"
    assert asked(there) == [
        {"directory": "./backend", "allowed": [], "look": True},
        {"directory": "./backend", "allowed": ["0004"]},
    ]
    record = {"root": "/opt/slipway/app", "run": "run-1", "who": "ann", "from": "desk"}
    assert saver.asked == [{"verb": "backup", "reason": "before-a-migration", "record": record}]
    about = [host.asked("activate")[0]["about"] for host in there.hosts]
    assert [told["backup"] for told in about] == ["set1 of db1"] * 3
    assert there.told("saved")[0].host == "db1"


@pytest.mark.parametrize(
    ("answers", "more"),
    [
        ([said("0003")], {}),
        ([{**said("", ADDS), "from": None, "empty": True}, said("0004")], {}),
        ([said("0003", ADDS), said("0004")], {"backup": "none"}),
    ],
    ids=["nothing is pending", "an empty database", "none is wanted"],
)
def test_no_set_is_made_for_nothing(answers: list[Any], more: dict[str, Any]) -> None:
    saver = Saver()
    there = saved(saver, *answers, **more)
    assert there.run().word == "good"
    assert saver.asked == []
    assert not there.hosts[0].asked("activate")[0]["about"].get("backup")


def test_what_is_refused_needs_no_set() -> None:
    saver = Saver()
    assert saved(saver, said("0003", DROPS)).run().word == "refused"
    assert saver.asked == []


def test_what_is_allowed_is_looked_at_before_all_of_it_is_applied() -> None:
    saver = Saver()
    there = saved(saver, {**said("0003", DROPS), "empty": False}, said("0005"), allow_destructive=True)
    assert there.run().word == "good"
    assert [told["allowed"] for told in asked(there)] == [None, None]
    assert len(saver.asked) == 1


@pytest.mark.parametrize("error", [Refused("the repository is damaged"), Unreachable("timed out")])
def test_a_set_that_cannot_be_made_stops_the_deploy_before_the_migration(error: Exception) -> None:
    there = saved(Saver(errors=[error]), said("0003", ADDS), said("0004"))
    report = there.run()
    assert (report.word, there.serving, len(asked(there))) == ("refused", ["old"] * 3, 1)
    assert report.message.startswith("nothing was switched; db1: no set could be made before the migrations: ")
    assert report.message.endswith("-e fastapi_app_backup_before_migrations=wanted")
    assert str(error) in report.message
    assert [host.holder for host in there.hosts] == ["", "", ""]


def test_a_set_that_is_only_wanted_is_missed_in_a_warning() -> None:
    saver = Saver(errors=[Refused("the repository is damaged")])
    there = saved(saver, said("0003", ADDS), said("0004"), backup="wanted")
    assert there.run().word == "good"
    assert "db1: no set was made before the migrations: the repository is damaged" in str(there.told("warning"))
    assert len(asked(there)) == 2


def test_another_backup_is_waited_for() -> None:
    saver = Saver(errors=[BUSY, BUSY])
    there = saved(saver, said("0003", ADDS), said("0004"))
    assert there.run().word == "good"
    assert len(saver.asked) == 3
    (told,) = there.told("warning")
    assert told.about["message"] == "db1: a drill is under way on this host; wait for its end; waiting for that"


def test_one_that_never_ends_is_not_waited_for_for_ever() -> None:
    report = saved(Saver(errors=[BUSY] * 1000), said("0003", ADDS), said("0004")).run()
    assert report.word == "refused"
    assert "a drill is under way" in report.message


@pytest.mark.parametrize(("since", "sets"), [("0002", 1), ("", 0)])
def test_a_command_has_a_set_where_its_pending_revisions_are_known(since: str, sets: int) -> None:
    saver = Saver()
    there = fleet(2, schemas={"old": since})
    there.savers = {"db1": saver}
    assert there.run().word == "good"
    assert len(saver.asked) == sets


@pytest.mark.parametrize("settled", [False, True], ids=["all change", "only the new host changes"])
def test_a_new_host_that_comes_first_hides_nothing_that_is_pending(settled: bool) -> None:
    saver = Saver()
    there = fleet(2, schemas={"old": "0002", "new": "0002"})
    there.hosts[0].serving, there.hosts[0].good = None, []
    if settled:
        there.hosts[1].serving, there.hosts[1].good = "new", ["old", "new"]
    there.savers = {"db1": saver}
    assert "Before migrations: a set of db1 is made" in there.run(check_mode=True).plan
    assert there.run().word == "good"
    assert len(saver.asked) == 1


def test_volumes_have_a_set_where_the_database_is_elsewhere_and_that_is_told_and_recorded() -> None:
    saver = Saver("web1")
    there = saved(saver, said("0003", ADDS), said("0004"))
    assert there.run(unsaved=["db1"]).word == "good"
    (told,) = there.told("warning")
    assert told.about["message"] == (
        "no set has the database, since it is elsewhere (postgres_provider: none on db1) and no host is told how it is "
        "dumped (backup_database_elsewhere); whoever runs it keeps it"
    )
    assert [asked["reason"] for asked in saver.asked] == ["before-a-migration"]
    about = [host.asked("activate")[0]["about"] for host in there.hosts]
    assert [one["backup"] for one in about] == ["set1 of web1, without the database, which is elsewhere"] * 3


def test_volumes_that_cannot_be_saved_stop_the_deploy_as_a_database_does() -> None:
    there = saved(Saver("web1", errors=[Refused("the disk is full")]), said("0003", ADDS), said("0004"))
    report = there.run(unsaved=["db1"])
    assert (report.word, len(asked(there))) == ("refused", 1)
    assert "web1: no set could be made before the migrations: the disk is full" in report.message


def test_the_plan_says_that_a_database_is_elsewhere() -> None:
    plan = saved(Saver("web1"), said("0003", ADDS)).run(check_mode=True, unsaved=["db1", "db2"]).plan
    assert (
        "Before migrations: a set of web1 is made; no set has the database, since it is elsewhere "
        "(postgres_provider: none on db1, db2)"
    ) in plan
    unwanted = saved(Saver("web1"), said("0003", ADDS), backup="none")
    assert "elsewhere" not in unwanted.run(check_mode=True, unsaved=["db1"]).plan


def test_the_plan_says_it_once() -> None:
    there = saved(Saver(), said("0003", ADDS))
    assert "Before migrations: a set of db1 is made" in there.run(check_mode=True).plan.splitlines()
    there.savers = {}
    without = there.run(check_mode=True).plan
    assert without.count("no set is made, since no host of data with a database has backup_repository") == 1
    assert "Before migrations" not in fleet(1).run("rollback", check_mode=True).plan
