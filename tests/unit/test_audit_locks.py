"""A vulnerability that can be mended fails; data that cannot be reached does not."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import audit_locks

FLAW = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"]}


def answer(*vulnerabilities: Any) -> str:
    return json.dumps({"dependencies": [{"name": "web", "version": "2.0", "vulns": vulnerabilities}]})


def audited(tmp_path: Path, text: str, more: str = "") -> int:
    """What becomes of a lock for which pip-audit says this."""
    program = tmp_path / "audit.py"
    program.write_text(f"print({text!r})\n{more}")
    return audit_locks.main([tmp_path / "app.lock"], (sys.executable, str(program)))


def test_a_lock_without_vulnerabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(tmp_path, answer()) == 0
    assert capsys.readouterr().out == ""


def test_a_vulnerability_that_can_be_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audited(tmp_path, answer(FLAW), "raise SystemExit(1)") == 1
    said = "app.lock: web 2.0 has PYSEC-2026-1, mended in 2.1; run: make lock UPGRADE=--upgrade\n"
    assert capsys.readouterr().out == said


def test_one_that_nobody_has_mended(tmp_path: Path) -> None:
    assert audited(tmp_path, answer({**FLAW, "fix_versions": []})) == 0


@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-1"])
def test_one_that_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(audit_locks, "ACCEPTED", {name: "nothing here parses such a file"})
    assert audited(tmp_path, answer(FLAW)) == 0


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):", "[]", '{"dependencies": 1}'])
def test_data_that_cannot_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert audited(tmp_path, text, "raise SystemExit('Traceback\\nConnectionError: no route')") == 0
    said = "app.lock: not checked, the data cannot be reached (ConnectionError: no route)\n"
    assert capsys.readouterr().out == said


def test_an_audit_that_does_not_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit_locks.main([tmp_path / "app.lock"], (sys.executable, "-m", "pip_audit_of_nobody")) == 1
    said = capsys.readouterr().out
    assert re.search(
        r"app\.lock: not checked, pip-audit does not run: .*No module named pip_audit_of_nobody; run: ", said
    )
    no_such_option = "import argparse; argparse.ArgumentParser().parse_args()"
    assert audited(tmp_path, "", no_such_option) == 1
    assert "error: unrecognized arguments: --requirement" in capsys.readouterr().out


def test_the_audit_knows_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "app.lock").write_text("")
    assert audit_locks.main([tmp_path / "app.lock"]) == 0


def test_what_was_not_checked_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [{"name": f"d{number}", "skip_reason": "not found"} for number in range(6)]
    assert audited(tmp_path, json.dumps({"dependencies": skipped})) == 0
    assert capsys.readouterr().out == "app.lock: not checked, no data: d0, d1, d2, d3, d4 and more\n"
