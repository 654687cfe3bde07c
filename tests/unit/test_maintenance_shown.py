"""Whether an edge shows the maintenance page of an app, and what is known of who shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import maintenance

ON = {"operation": "maintenance", "what": "on", "start": "2026-11-27T20:22:55+00:00", "who": "ada", "result": "done"}
RUN = {"operation": "run", "what": "on", "start": "later", "who": "bob", "result": "done"}


@pytest.fixture
def maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(maintenance, "DECLARED", tmp_path / "declared.map")
    monkeypatch.setattr(maintenance, "SWITCHED", tmp_path / "switched.map")
    return tmp_path


def test_one_that_an_operator_switched_is_known_from_the_ledger(maps: Path) -> None:
    assert maintenance.shown("links", [ON]) == {}, "no map is there"
    (maps / "switched.map").write_text("links on\nshop off\n")
    known = {"declared": False, "since": "2026-11-27T20:22:55+00:00", "who": "ada"}
    assert maintenance.shown("links", [ON, {**ON, "what": "off", "result": "failed"}, RUN]) == known
    assert maintenance.shown("shop", [ON]) == {}
    assert maintenance.shown("links", [ON, {**ON, "what": "off"}]) == {"declared": False, "since": "", "who": ""}


def test_one_that_variables_declare_is_nobody_s(maps: Path) -> None:
    (maps / "declared.map").write_text("links on\n")
    assert maintenance.shown("links", [ON]) == {"declared": True, "since": "", "who": ""}
