"""An app with Alembic: asked in its own image, judged by the coordinator, changed after that alone."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import schema_changes
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.events import Progress

from tests.unit.fleet.memory import Fleet, fleet

ADDS = {"revision": "0004", "sql": "ALTER TABLE links ADD COLUMN note TEXT", "unread": ""}
DROPS = {"revision": "0005", "sql": "ALTER TABLE links DROP COLUMN note", "unread": ""}
ASKS = {"revision": "0006", "sql": "", "unread": "AttributeError: no connection"}


def with_alembic(*answers: dict[str, Any] | str, **more: Any) -> Fleet:
    """A fleet whose first host gives these answers one after the other, the last one again and again."""
    there = fleet()
    there.usual = {"migrate": [], "rollback_check": [], "migrations": "./backend", **more}
    waiting = list(answers)

    async def run(arguments: Any, _: Any) -> dict[str, Any]:
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        said = found if isinstance(found, str) else json.dumps({"migration": found})
        return {"rc": 0, "stdout": f"{said}\n", "stderr": "", "release": arguments["release"]}

    there.hosts[0]._run = run  # type: ignore[method-assign]
    return there


def said(to: str, *pending: dict[str, str]) -> dict[str, Any]:
    return {"from": "0003", "to": to, "applied": [], "dialect": "postgresql", "pending": list(pending)}


def asked(there: Fleet) -> list[Any]:
    """What the program was told in each start."""
    commands = [call["command"] for call in there.hosts[0].asked("run")]
    assert all(command[:2] == ["python3", "-c"] and len(command) == 4 for command in commands)
    return [json.loads(command[3]) for command in commands]


def test_where_nothing_is_pending_it_is_asked_once() -> None:
    there = with_alembic(said("0003"))
    assert there.run().word == "good"
    assert asked(there) == [{"directory": "./backend", "allowed": []}]
    assert [len(host.asked("run")) for host in there.hosts[1:]] == [0, 0]
    assert there.told("migrated")[0].about["migration"] == "0003"
    assert [host.asked("activate")[0]["about"]["migration"] for host in there.hosts] == ["0003"] * 3


def test_what_was_judged_is_applied_and_nothing_else() -> None:
    there = with_alembic(said("0003", ADDS), said("0004"))
    assert there.run().word == "good"
    assert [told["allowed"] for told in asked(there)] == [[], ["0004"]]
    assert [event.about["revisions"] for event in there.told("pending")] == [["0004"]]
    assert "web1: the database gets 0004" in [line for event in there.events for line, _ in Progress().lines(event)]
    assert there.told("migrated")[0].about["migration"] == "0004"


def test_a_plan_says_who_tells_what_is_pending_where_the_controller_has_no_source() -> None:
    """Of an image that is pulled, shipped or in a bundle."""
    words = "Migrations before the first host: its image tells them once it is there"
    there = with_alembic(said("0003", ADDS))
    there.pending = None
    assert words in there.run(check_mode=True).plan
    assert asked(there) == []
    there.pending = lambda since: ["0004"]
    plan = there.run(check_mode=True).plan
    assert words not in plan
    assert "Migrations before the first host: 0004" in plan
    there = with_alembic(said("0003"), migrations="")
    there.pending = None
    assert words not in there.run(check_mode=True).plan


@pytest.mark.parametrize(
    ("pending", "why"),
    [
        (DROPS, "revision 0005: ALTER TABLE links DROP COLUMN note"),
        (ASKS, "revision 0006: what it does depends on the database, and cannot be read before (AttributeError"),
    ],
)
@pytest.mark.parametrize("known", [lambda since: ["0004"], None], ids=["built", "pulled"])
def test_what_may_break_the_release_before_is_refused(pending: dict[str, str], why: str, known: Any) -> None:
    """Of an image that is pulled too, whose revisions the controller does not have: it is asked itself."""
    there = with_alembic(said("0003", ADDS, pending))
    there.pending = known
    report = there.run()
    assert (report.word, there.serving, len(asked(there))) == ("refused", ["old"] * 3, 1)
    assert report.message.startswith(f"nothing was switched; web1: DestructiveError: {why}")
    assert report.message.endswith("then allow it with -e fastapi_app_allow_destructive=true")
    assert "revision 0004" not in report.message
    assert report.rows[0]["cause"] in report.message
    assert [host.holder for host in there.hosts] == ["", "", ""]


def test_what_is_allowed_is_not_judged() -> None:
    there = with_alembic(said("0005"), allow_destructive=True)
    assert there.run().word == "good"
    assert [told["allowed"] for told in asked(there)] == [None]


def test_who_meets_others_without_end_gives_up() -> None:
    report = with_alembic(said("0003", ADDS)).run()
    assert report.word == "refused"
    assert "somebody else goes on migrating this database" in report.message


def test_an_entry_point_that_runs_something_else_is_told() -> None:
    report = with_alembic("Application startup complete.").run()
    assert "was answered with Application startup complete.; have the entry point end with exec" in report.message


def test_without_a_parser_nothing_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_changes, "MISSING", "No module named 'sqlglot'")
    there = with_alembic(said("0003", ADDS))
    assert f"{sys.executable} -m pip install --upgrade 'sqlglot>=30.30'" in there.run().message
    assert len(asked(there)) == 1


def test_what_an_earlier_pending_revision_made_may_change() -> None:
    makes = {"revision": "0004", "sql": "CREATE TABLE notes (a TEXT)", "unread": ""}
    changes = {"revision": "0005", "sql": "ALTER TABLE notes DROP COLUMN a", "unread": ""}
    assert with_alembic(said("0003", makes, changes), said("0005")).run().word == "good"
    report = with_alembic(said("0003", changes, makes)).run()
    assert "DestructiveError: revision 0005: ALTER TABLE notes DROP COLUMN a" in report.message


@pytest.mark.parametrize(("pending", "word"), [(ADDS, "good"), (DROPS, "refused")])
def test_a_rollback_asks_the_release_that_serves(pending: dict[str, str], word: str) -> None:
    there = with_alembic(said("0005", pending))
    for host in there.hosts:
        host.good, host.serving, host.schemas = ["old", "new"], "new", {"old": "0003", "new": "0005"}
    report = there.run("rollback")
    assert report.word == word
    assert asked(there) == [{"directory": "./backend", "since": "0003"}]
    assert there.hosts[0].asked("run")[0]["release"] == "new"
    if word == "refused":
        assert "since 0003 revision 0005: ALTER TABLE links DROP COLUMN note" in report.message
        assert there.serving == ["new"] * 3
