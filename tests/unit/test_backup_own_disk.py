"""A repository that is lost with the disk of what it has: told where somebody makes a set, and not each night."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files, program
from ansible_collections.slipway.fleet.plugins.module_utils.backup.files import own_disk_told
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import Settings
from ansible_collections.slipway.fleet.plugins.modules import backup as module

from tests.templates.rendering import ROOT
from tests.unit.backup.memory import Databases, host
from tests.unit.fleet.test_alembic import ADDS, said
from tests.unit.fleet.test_saving import Saver, saved

TOLD = ", on the disk that they are to outlive, and are lost with it; name another place in backup_repository"


@pytest.mark.parametrize(("reason", "times"), [("asked", 1), ("before-a-migration", 1), ("timer", 0)])
def test_who_makes_a_set_is_told_and_a_timer_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, times: int
) -> None:
    monkeypatch.setattr(files, "own_disk", lambda settings: True)
    made, _ = host(tmp_path, Databases(links={}))
    asked = program.parser().parse_args(["backup", f"--reason={reason}"])
    found = program.answer(asked, made)["warnings"]
    assert found == [f"the sets of {made.settings.host} are in {made.settings.repository}{TOLD}"] * times


def test_one_that_is_elsewhere_is_nothing_to_tell(tmp_path: Path) -> None:
    assert own_disk_told(Settings("s3:https://s3.example.com/sets", "h", place=tmp_path)) == []


@pytest.mark.parametrize("warns", [True, False])
def test_its_status_warns_where_it_is_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warns: bool) -> None:
    answers: list[dict[str, Any]] = []
    (tmp_path / "slipway-backup").touch()
    monkeypatch.setattr(module, "answer", lambda _, result: answers.append(result))
    monkeypatch.setattr(module, "PROGRAM", tmp_path / "slipway-backup")
    monkeypatch.setattr(module, "ask", lambda options: {"own_disk": True, "to_be_told": ["it is lost"]})
    with patch_module_args({"verb": "status", "warns": warns}):
        module.main()
    (result,) = answers
    assert (result["changed"], result["told"]) == (False, {"own_disk": True})
    assert result["warnings"] == ["it is lost"] * warns


def test_provisioning_asks_it_to() -> None:
    tasks = (ROOT / "roles/backup/tasks/configure.yml").read_text()
    assert "verb: status\n    warns: true\n" in tasks


def test_a_deploy_tells_what_a_set_before_migrations_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    saver = Saver()
    call = saver.call

    async def warned(*given: Any) -> dict[str, Any]:
        return {**await call(*given), "warnings": ["its sets are on the disk that they are to outlive"]}

    monkeypatch.setattr(saver, "call", warned)
    there = saved(saver, {**said("0003", ADDS), "empty": False}, said("0004"))
    assert there.run().word == "good"
    told = [event.about["message"] for event in there.told("warning")]
    assert "db1: its sets are on the disk that they are to outlive" in told
