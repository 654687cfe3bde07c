"""What a release declares of its jobs, and whether the systemd of this machine takes a schedule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged
from ansible_collections.slipway.fleet.plugins.module_utils.release.jobs import (
    Job,
    jobs_of,
    schedule_problem,
    schedule_problems,
)


def test_a_release_says_what_its_jobs_are(tmp_path: Path) -> None:
    assert jobs_of(tmp_path, "one") == {}
    (tmp_path / "one").mkdir()
    path = tmp_path / "one/jobs.json"
    path.write_text(json.dumps({"nightly": {"command": ["a"], "schedule": "*-*-* 03:00", "of a later version": 1}}))
    assert jobs_of(tmp_path, "one") == {"nightly": Job(["a"], "*-*-* 03:00", 3600.0)}
    path.write_text(json.dumps({"nightly": {"command": ["a"]}}))
    with pytest.raises(Damaged, match=r"jobs\.json is damaged"):
        jobs_of(tmp_path, "one")


@pytest.mark.parametrize("schedule", ["*-*-* 03:00", "Mon..Fri 08:30", "*:0/15", "daily", "*-*-01 04:00 Europe/Berlin"])
def test_schedules_that_come(schedule: str) -> None:
    assert schedule_problem(schedule) == ""


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        ("*-*-* 25:00", "systemd does not understand it (Failed to parse calendar specification '*-*-* 25:00'"),
        ("0 3 * * *", "systemd does not understand it"),
        ("", "systemd does not understand it"),
        ("--version", "systemd does not understand it"),
        ("2020-01-01", 'that time never comes again; write one such as "*-*-* 03:00"'),
    ],
)
def test_schedules_that_do_not(schedule: str, words: str) -> None:
    assert schedule_problem(schedule).startswith(words)


def test_the_advice_is_taken() -> None:
    """What is offered in place of a wrong one is right."""
    offered = schedule_problem("25:00").split('"')[1::2]
    assert len(offered) == 3
    assert [schedule_problem(one) for one in offered] == ["", "", ""]


def test_each_wrong_one_is_named() -> None:
    declared = {"one": {"schedule": "daily"}, "two": {"schedule": "25:00"}, "three": {}}
    found = list(schedule_problems(declared))
    assert [text.partition(";")[0] for text in found] == [
        "fastapi_app_jobs: three: schedule is ''",
        "fastapi_app_jobs: two: schedule is '25:00'",
    ]


def test_a_host_without_systemd_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise command.CommandError("no such program")

    monkeypatch.setattr(command, "run", missing)
    assert "this host has no systemd" in schedule_problem("daily")
