"""What is pending runs on a restored set first, and what was measured there is told, or refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.events import Progress
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.unit.fleet.memory import Fleet, fleet
from tests.unit.fleet.test_alembic import ADDS, asked, said
from tests.unit.fleet.test_saving import Saver, saved

TOLD = {
    "set": "set1",
    "time": "2026-01-01T00:00:00Z",
    "applied": ["0004"],
    "seconds": 1.2,
    "locks": [
        {"table": "public.links", "mode": "AccessExclusiveLock", "seconds": 0.7},
        {"table": "public.links", "mode": "ShareLock", "seconds": 0.7},
        {"table": "public.hits", "mode": "ShareLock", "seconds": 0.4},
        {"table": "public.hits", "mode": "ShareRowExclusiveLock", "seconds": 0.2},
    ],
    "rewritten": [{"table": "public.links", "rows": 1000}],
    "changed": [],
    "release": "old",
    "refusal": "",
    "unproven": "",
}


class Stage(Saver):
    """A host that makes sets and rehearses."""

    told: dict[str, Any]

    async def call(self, verb: str, arguments: Any, on_event: Any = None) -> dict[str, Any]:
        found = await super().call(verb, arguments, on_event)
        return self.told if arguments["verb"] == "rehearse" else found


def rehearsed(
    told: dict[str, Any] | None = None, errors: list[Exception] | None = None, **more: Any
) -> tuple[Fleet, Stage]:
    stage = Stage(errors=errors or [])
    stage.told = {**TOLD, **(told or {})}
    pending = {**said("0003", ADDS), "empty": False}
    return saved(stage, pending, said("0004"), rehearse=True, **{"backup": "none", **more}), stage


def test_what_is_pending_runs_on_a_set_before_the_database() -> None:
    there, stage = rehearsed(backup="required")
    assert there.run().word == "good"
    made, order = stage.asked
    assert (made["verb"], order["verb"]) == ("backup", "rehearse")
    assert (order["app"], order["release"], order["timeout"]) == ("app", "new", 300.0)
    assert json.loads(order["command"][3]) == {"directory": "./backend", "allowed": ["0004"], "measure": True}
    assert len(asked(there)) == 2
    about = there.hosts[0].asked("activate")[0]["about"]
    assert about["rehearsal"]["rewritten"] == [{"table": "public.links", "rows": 1000}]
    assert about["backup"] == "set1 of db1"


def test_it_is_told_a_line_each() -> None:
    there, _ = rehearsed()
    there.run()
    (event,) = there.told("rehearsed")
    assert [line for line, _ in Progress().lines(event)] == [
        "db1: rehearsed on set set1 of 2026-01-01T00:00:00Z: 0004 in 1.2 s",
        "db1: rehearsed: public.links is locked against reads and writes for 0.7 s at most",
        "db1: rehearsed: public.hits is locked against writes for 0.4 s at most",
        "db1: rehearsed: public.links is written anew, 1000 rows",
        "db1: rehearsed: release old, which serves, passes its gate on the migrated copy",
    ]


@pytest.mark.parametrize(
    ("told", "errors", "why"),
    [
        ({"seconds": 61.0}, [], "took 61.0 s on set set1 of db1, and fastapi_app_rehearse_limit is 60 s"),
        ({"refusal": "GET /readyz answered 503"}, [], "release old, which serves, does not pass its gate"),
        ({}, [Refused("the migrations fail there:\nIntegrityError")], "the migrations fail there"),
        ({}, [Unreachable("timed out")], "on db1 before anything is applied: cannot be reached: timed out"),
    ],
)
def test_what_refuses_changes_nothing(told: dict[str, Any], errors: list[Exception], why: str) -> None:
    there, _ = rehearsed(told, errors)
    report = there.run()
    assert (report.word, there.serving, len(asked(there))) == ("refused", ["old"] * 3, 1)
    assert why in report.message
    assert [host.holder for host in there.hosts] == ["", "", ""]


def test_more_may_be_allowed() -> None:
    there, _ = rehearsed({"seconds": 61.0}, rehearse_limit=100.0)
    assert there.run().word == "good"
    there, _ = rehearsed({"refusal": "GET /readyz answered 503"}, allow_destructive=True)
    assert there.run().word == "good"
    assert "does not pass its gate" in str(there.told("warning"))


def test_nobody_rehearses_without_sets() -> None:
    there, _ = rehearsed()
    there.savers = {}
    report = there.run()
    assert "fastapi_app_rehearse is true, and no host of this run backs a database up" in report.message
    assert "-e fastapi_app_rehearse=false" in report.message


def test_where_the_database_has_a_host_of_its_own_a_host_of_the_app_rehearses() -> None:
    there, data = rehearsed()
    web, asked_of_it = there.hosts[0], []

    async def call(verb: str, arguments: Any, on_event: Any = None) -> dict[str, Any]:
        if verb != "backup":
            return await type(web).call(web, verb, arguments, on_event)
        asked_of_it.append(arguments)
        return {**TOLD, "of": "db1"}

    web.call = call  # type: ignore[method-assign]
    assert there.run(rehearsers={"db1": web.name}).word == "good"
    (order,) = asked_of_it
    assert (order["verb"], order["of"], order["release"]) == ("rehearse", "db1", "new")
    assert data.asked == []
    (event,) = there.told("rehearsed")
    first = next(iter(Progress().lines(event)))[0]
    assert first == f"{web.name}: rehearsed on set set1 of db1, of 2026-01-01T00:00:00Z: 0004 in 1.2 s"
    there, _ = rehearsed()
    assert "web9 rehearses on the sets of db1 (backup_drill_of), and is not in this run" in (
        there.run(rehearsers={"db1": "web9"}).message
    )


def test_a_command_of_the_app_s_own_is_rehearsed_as_it_is() -> None:
    stage = Stage()
    stage.told = TOLD
    there = fleet(1, schemas={"old": "0002"})
    there.usual, there.savers = {"rehearse": True}, {"db1": stage}
    assert there.run().word == "good"
    assert [asked["verb"] for asked in stage.asked] == ["backup", "rehearse"]
    assert stage.asked[1]["command"] == ["migrate"]


def test_the_plan_says_that_it_runs_first() -> None:
    there, _ = rehearsed(backup="required")
    assert (
        "what is pending runs on it first, and is refused where that takes over 60 s" in there.run(check_mode=True).plan
    )
