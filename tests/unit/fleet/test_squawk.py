"""What the real squawk finds in real SQL of pending migrations is told and recorded beside what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import squawk
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.events import Progress

from tests.unit.fleet.test_alembic import ADDS, DROPS, said, with_alembic

SLOW = """\
BEGIN;

-- Running upgrade 0003 -> 0004

ALTER TABLE links ADD COLUMN owner INTEGER NOT NULL DEFAULT 5;

CREATE INDEX links_owner ON links (owner);

ALTER TABLE links ADD CONSTRAINT links_owner FOREIGN KEY(owner) REFERENCES owners (id);

UPDATE alembic_version SET version_num='0004' WHERE alembic_version.version_num = '0003';

COMMIT;
"""
REVISION = {"revision": "0004", "sql": SLOW, "unread": ""}
QUIET = {"revision": "0005", "sql": "CREATE INDEX CONCURRENTLY i ON links (owner);", "unread": ""}


def test_what_locks_a_table_is_found_by_rule_and_line() -> None:
    told = squawk.findings([REVISION, QUIET], "postgresql")
    assert told["lacks"] == ""
    assert {(one["revision"], one["line"], one["rule"]) for one in told["found"]} >= {
        ("0004", 7, "require-concurrent-index-creation"),
        ("0004", 9, "adding-foreign-key-constraint"),
    }
    assert not {one["rule"] for one in told["found"]} & {*squawk.LEFT_OUT}
    assert {one["revision"] for one in told["found"]} == {"0004"}
    line = next(line for line in squawk.sentences(told) if "line 7" in line)
    assert line.startswith("squawk: revision 0004, line 7: require-concurrent-index-creation: During normal index")


def test_it_is_looked_for_beside_python_and_then_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python3"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    assert squawk.program() is None
    for name in ("path", "bin"):
        found = tmp_path / name / "squawk"
        found.parent.mkdir()
        found.touch(0o755)
        assert squawk.program() == str(found)


def test_sql_that_it_cannot_read_is_left_to_the_judge() -> None:
    told = squawk.findings([{"revision": "0004", "sql": "ALTER TABL links (", "unread": ""}], "postgresql")
    assert told == {"found": [], "lacks": ""}
    assert squawk.findings([REVISION], "mysql") == {"found": [], "lacks": ""}


def test_a_team_s_own_configuration_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["require-concurrent-index-creation"]\n')
    monkeypatch.chdir(tmp_path)
    rules = {one["rule"] for one in squawk.findings([REVISION], "postgresql")["found"]}
    assert "adding-foreign-key-constraint" in rules
    assert "require-concurrent-index-creation" not in rules


def test_who_has_it_not_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk, "program", lambda: None)
    there = with_alembic(said("0003", ADDS), said("0003", ADDS, QUIET), said("0005"))
    there.linter = squawk.findings
    assert there.run().word == "good"
    lines = [line for event in there.events for line, _ in Progress().lines(event)]
    lacks = [line for line in lines if "squawk is not installed here" in line]
    missing = "squawk is not installed here (pip install 'squawk-cli>=2.70')"
    assert lacks == [f"web1: nothing was looked for beyond what breaks a release: {missing}"]


def test_one_that_ends_wrongly_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "squawk"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 2\n")
    broken.chmod(0o755)
    monkeypatch.setattr(squawk, "program", lambda: str(broken))
    told = squawk.findings([REVISION], "postgresql")
    assert told == {"found": [], "lacks": "squawk did not read revision 0004: no such option"}


def test_it_is_told_before_anything_is_applied_and_recorded() -> None:
    locks = {**REVISION, "sql": "\n".join(line for line in SLOW.split("\n") if "CONSTRAINT" not in line)}
    there = with_alembic(said("0003", locks), said("0004"))
    there.linter = squawk.findings
    assert there.run().word == "good"
    kinds = [event.kind for event in there.events if event.kind in ("linted", "pending")]
    assert kinds == ["linted", "pending"]
    lines = [line for event in there.events for line, _ in Progress().lines(event)]
    assert any(line.startswith("web1: squawk: revision 0004, line 7: require-concurrent") for line in lines)
    about = there.hosts[0].asked("activate")[0]["about"]
    assert [(one["revision"], one["rule"]) for one in about["squawk"]] == [
        ("0004", "require-concurrent-index-creation")
    ]


@pytest.mark.parametrize("empty", [{"from": None}, {"from": ""}])
def test_an_empty_database_has_no_table_to_lock(empty: dict[str, str | None]) -> None:
    there = with_alembic({**said("0003", ADDS), **empty}, said("0004"))
    there.linter = squawk.findings
    assert there.run().word == "good"
    assert there.told("linted") == []


def test_what_is_refused_is_not_told_twice() -> None:
    there = with_alembic(said("0003", DROPS))
    there.linter = squawk.findings
    assert "DestructiveError" in there.run().message
    assert there.told("linted") == []
