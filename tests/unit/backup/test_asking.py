"""How the program of a host is asked, and what is told where it is not there, or says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.agent import verbs
from ansible_collections.slipway.fleet.plugins.module_utils.backup import asking
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError

RECORD = {"root": "/opt/slipway/links", "run": "1", "who": "ann", "from": "desk"}


class Program:
    """Gives an answer, and remembers how it was asked and what was ordered."""

    def __init__(self, told: Any) -> None:
        self.told = told
        self.asked: list[str] = []
        self.order: Any = None

    def __call__(self, words: list[str], limit: float) -> Ran:
        self.asked = words
        named = {word.partition("=")[0]: word.partition("=")[2] for word in words}
        if "--order" in named:
            self.order = json.loads(Path(named["--order"]).read_text(encoding="utf-8"))
        if self.told is not None:
            Path(named["--answer"]).write_text(json.dumps(self.told), encoding="utf-8")
        return Ran(tuple(words), 1, "", "invalid choice")


def program(monkeypatch: pytest.MonkeyPatch, told: Any) -> Program:
    made = Program(told)
    monkeypatch.setattr(command, "run", made)
    return made


def test_what_works_is_a_unit_of_its_own_that_knows_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(monkeypatch, {"result": {"set": "4096af89"}})
    asked = {"verb": "backup", "reason": "before-a-migration", "record": RECORD}
    assert asking.ask(asked) == {"set": "4096af89"}
    assert made.asked[0] == "systemd-run"
    assert made.asked[-2:] == ["backup", "--reason=before-a-migration"]
    assert f"--setenv=SLIPWAY_RECORD={json.dumps(RECORD)}" in made.asked


def test_a_rehearsal_is_ordered_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(monkeypatch, {"result": {}})
    order = {"app": "links", "release": "r2", "command": ["python3", "-c", "x" * 20000], "timeout": 300.0}
    asking.ask({"verb": "rehearse", "record": RECORD, **order})
    assert made.order == order
    assert "rehearse" in made.asked


def test_why_it_did_not_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, {"error": {"message": "a drill is under way", "fault": "busy"}})
    with pytest.raises(SlipwayError, match="a drill is under way") as caught:
        asking.ask({"verb": "status"})
    assert caught.value.details == {"fault": "busy"}


def test_a_program_that_does_not_know_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, None)
    with pytest.raises(SlipwayError, match=r"without an answer \(invalid choice\).*run slipway.fleet.provision"):
        asking.ask({"verb": "status"})


def test_the_agent_says_where_backups_are_not_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(asking, "PROGRAM", tmp_path / "none")
    with pytest.raises(SlipwayError, match="backups are not set up on this host"):
        verbs.find("backup")({"verb": "backup"}, lambda event: None)


def test_a_point_in_time_takes_the_place_of_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    made = program(monkeypatch, {"result": {}})
    asked = {"verb": "plan", "set": "latest", "parts": ["all"]}
    asking.ask({**asked, "time": "2026-11-27T10:15:00Z"})
    assert made.asked[-3:] == ["--set=latest", "--time=2026-11-27T10:15:00Z", "--part=all"]
    asking.ask({**asked, "time": "", "of": "db-old"})
    assert made.asked[-3:] == ["--set=latest", "--of=db-old", "--part=all"]
    asking.ask({**asked, "time": "", "of": ""})
    assert made.asked[-2:] == ["--set=latest", "--part=all"], "as a program of an earlier version knows it"
