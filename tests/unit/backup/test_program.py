"""The program of a host: what it is asked, and what it answers to what goes wrong."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    DISK_FULL,
    FAILED,
    LOCKED,
    BackupError,
    Settings,
)
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, Ran

from tests.unit.backup.memory import Databases, host

FULL = OSError(errno.ENOSPC, "No space left on device", "/srv/a")
WRONG = [
    (FULL, DISK_FULL, "/srv/a: No space left on device"),
    (PermissionError(errno.EACCES, "Permission denied", "/srv/a"), FAILED, "/srv/a: Permission denied"),
    (subprocess.TimeoutExpired(["psql", "--quiet"], 60), FAILED, "`psql --quiet` did not end within 60 s"),
    (CommandError("there is no `restic` on this host"), FAILED, "there is no `restic` on this host"),
]


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["backup", "--reason=timer"], restic.PATIENT),
        (["drill", "--reason=timer"], restic.PATIENT),
        (["drill"], restic.WAIT),
        (["restore", "--part=all"], restic.WAIT),
        (["status"], restic.WAIT),
    ],
)
def test_a_timer_waits_longer_for_other_hosts(
    words: list[str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    made = program.repository(program.parser().parse_args(words), Settings("/srv/sets", "h"))
    monkeypatch.setattr(made, "_sleep", waits.append)
    monkeypatch.setattr(made, "_run", lambda *_, **__: Ran((), 1, "", "repository is already locked by PID 7"))
    with pytest.raises(BackupError) as caught:
        made.unlock()
    assert caught.value.fault == LOCKED
    assert sum(waits) == seconds


def asked(*words: str) -> argparse.Namespace:
    return program.parser().parse_args(words)


@pytest.mark.parametrize(("error", "fault", "said"), WRONG)
@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_whatever_goes_wrong_is_noted(tmp_path: Path, verb: str, error: Any, fault: str, said: str) -> None:
    live = Databases(postgres={}, links={"t": ["a"]})
    made, _ = host(tmp_path, live)
    program.answer(asked("backup"), made)
    live.fails["dump" if verb == "backup" else "fill"] = error
    words = ["backup"] if verb == "backup" else ["restore", "--part=all", "--confirm=links"]
    with pytest.raises(BackupError, match=said) as caught:
        program.answer(asked(*words), made)
    assert caught.value.fault == fault
    noted = made.records.read()["error"]
    assert (noted["what"], noted["fault"]) == (verb, fault)
    assert said in noted["message"]


def test_what_cannot_be_noted_is_told_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = Databases(postgres={})
    made, _ = host(tmp_path, live)
    monkeypatch.setitem(live.fails, "dump", BackupError(FAILED, "pg_dump failed"))

    def full(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(made.records, "failed", full)
    with pytest.raises(BackupError, match="pg_dump failed"):
        program.answer(asked("backup"), made)


@pytest.mark.parametrize(("error", "fault", "said"), WRONG)
def test_there_is_an_answer_whatever_goes_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    fault: str,
    said: str,
) -> None:
    def wrong(*_: object) -> None:
        raise error

    for name in ("umask", "chdir"):
        monkeypatch.setattr(os, name, lambda _: None)
    monkeypatch.setattr(program, "settings", lambda _: Settings("/srv/sets", "h", place=tmp_path / "state"))
    monkeypatch.setattr(program, "answer", wrong)
    assert program.main([f"--answer={tmp_path}/answer", "status"]) == 1
    assert json.loads((tmp_path / "answer").read_text()) == {"error": {"message": said, "fault": fault}}
    assert program.main([f"--answer={tmp_path}/not/there", "status"]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert f"no answer in {tmp_path}/not/there: No such file or directory" in told


def test_one_that_is_stopped_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    left = ["the app with its secrets", "its server"]

    def drilled(*_: object) -> dict[str, Any]:
        try:
            signal.raise_signal(signal.SIGTERM)
            return {}
        finally:
            left.pop()
            signal.raise_signal(signal.SIGTERM)
            left.pop()

    def of_the_process(number: int, _: object) -> None:
        heard.append(number)

    monkeypatch.setattr(program, "settings", lambda config: Settings(str(tmp_path / "sets"), "h", place=tmp_path))
    monkeypatch.setattr(program, "answer", drilled)
    for name in ("umask", "chdir"):
        monkeypatch.setattr(os, name, lambda _: None)
    before = signal.signal(signal.SIGTERM, of_the_process)
    try:
        with pytest.raises(SystemExit) as caught:
            program.main(["drill"])
        assert (caught.value.code, left, heard) == (143, [], [])
        assert signal.getsignal(signal.SIGTERM) is of_the_process
    finally:
        signal.signal(signal.SIGTERM, before)
