"""The program of a host: what it is asked, and what it answers to what goes wrong."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, restic, wal
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    BUSY,
    DISK_FULL,
    FAILED,
    LOCKED,
    BackupError,
    Settings,
)
from ansible_collections.slipway.fleet.plugins.module_utils.backup.pointing import forget_killed
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


def test_what_an_operator_is_to_know_of_a_dump_is_in_the_answer(tmp_path: Path) -> None:
    live = Databases(links={})
    live.warnings.append("links was dumped without locks")
    assert program.answer(asked("backup"), host(tmp_path, live)[0])["warnings"] == ["links was dumped without locks"]
    assert live.ended == 1, "what a killed one has left in the server was ended"


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


def test_a_drill_of_the_newest_set_proves_the_newest_point_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    monkeypatch.setattr(program, "drill", lambda *_, source: {"set": "4096af89", "of": source})
    monkeypatch.setattr(program, "proven_point", lambda _: {"time": "2026-11-27T10:15:00Z"})
    assert program.answer(asked("drill"), made)["point"] is None, "nobody wants points there"
    made.settings = replace(made.settings, wal=True)
    assert program.answer(asked("drill"), made)["point"] == {"time": "2026-11-27T10:15:00Z"}
    assert program.answer(asked("drill", "--set=4096af89"), made)["point"] is None


def test_what_a_killed_recovery_has_left_goes_with_whatever_is_done_next(tmp_path: Path) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    dumps = made.settings.place / "point-dumps"
    dumps.mkdir()
    program.answer(asked("backup"), made)
    assert not dumps.exists()
    ran: list[str] = []

    def run(words: Sequence[str], *_: object) -> Ran:
        ran.append(" ".join(words))
        return Ran(tuple(words), 0)

    forget_killed(made, run)
    assert not ran, "there is none"
    (made.settings.place / "point" / "data").mkdir(parents=True)
    forget_killed(made, run)
    assert ran == ["docker rm --force --volumes slipway-point"]
    assert not (made.settings.place / "point").exists()


@pytest.mark.parametrize(("wal_is_kept", "orders"), [(True, 1), (False, 0)])
def test_a_restore_of_databases_orders_a_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wal_is_kept: bool, orders: int
) -> None:
    made, _ = host(tmp_path, Databases(postgres={}, links={"t": ["a"]}))
    ordered: list[str] = []
    monkeypatch.setattr(wal, "order_base", lambda: ordered.append("base"))
    program.answer(asked("backup"), made)
    made.settings = replace(made.settings, wal=wal_is_kept)
    program.answer(asked("restore", "--part=database:links", "--confirm=links", "--no-safety"), made)
    assert len(ordered) == orders
    program.answer(
        asked("restore", f"--part=directory:{tmp_path}/uploads", f"--confirm={tmp_path}/uploads", "--no-safety"), made
    )
    assert len(ordered) == orders


def test_a_set_and_a_point_in_time_are_not_named_together(tmp_path: Path) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    words = ["plan", "--part=all", "--set=4096af89", "--time=2026-11-27T10:15:00Z"]
    with pytest.raises(BackupError, match="a set and a point in time were named; name one of them"):
        program.answer(asked(*words), made)


@pytest.mark.parametrize("verb", ["wal", "base"])
def test_points_in_time_are_not_kept_where_nobody_wants_them(tmp_path: Path, verb: str) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    with pytest.raises(BackupError, match="backup_wal is false on this host"):
        program.answer(asked(verb), made)
    without, _ = host(tmp_path / "other")
    with pytest.raises(BackupError, match="this host runs no database server"):
        program.answer(asked(verb), without)


@pytest.mark.parametrize("fault", [LOCKED, BUSY])
def test_a_repository_that_is_tended_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    made.settings = replace(made.settings, wal=True)

    def busy(*_: object) -> None:
        raise BackupError(fault, "another one")

    monkeypatch.setattr(wal, "keep", busy)
    assert program.answer(asked("wal"), made)["reach"] == []
    told = program.answer(asked("status"), made)
    assert told["points"]["follows"] is False
    assert "no point in time can be reached yet" in told["problems"]


def test_a_night_makes_a_base_after_its_set_and_lets_go_what_nobody_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, repository = host(tmp_path, Databases(postgres={}))
    made.settings = replace(made.settings, wal=True)
    bases: list[bool] = []
    monkeypatch.setattr(program, "make_base", lambda *_, fast: bases.append(fast))
    monkeypatch.setattr(program, "stale", lambda *_: ["old"])
    monkeypatch.setattr(
        program, "archive_of", lambda _: SimpleNamespace(contents=lambda: ([], []), orphans=lambda: ["half"])
    )
    program.answer(asked("backup", "--reason=timer"), made)
    program.answer(asked("backup", "--reason=before-a-migration"), made)
    assert bases == [False], "in its own time, and not where a deploy waits"
    assert repository.gone == ["old", "half"]

    def failing(*_: object, **__: object) -> None:
        raise BackupError(FAILED, "no room")

    monkeypatch.setattr(program, "make_base", failing)
    assert program.answer(asked("backup"), made)["set"], "the set is one without a base, too"
    assert repository.gone == ["old", "half"], "what is kept of the log does not grow for ever"
