"""What a host knows of its backups, and what an operator is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BUSY, DAMAGED, BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.records import Records, problems

NEWEST = {"newest": {"time": "2026-01-10T02:30:00Z"}}
PROVEN = {"proven": {"time": "2026-01-04T02:30:00Z"}}
FAILED = {"error": {"what": "drill", "fault": "damaged", "message": "set 1 is not proven"}}


@pytest.mark.parametrize(
    ("state", "at", "said"),
    [
        ({}, "2026-01-10T12:00:00Z", ["nothing was backed up yet"]),
        (NEWEST, "2026-01-10T12:00:00Z", ["no set was proven yet"]),
        (NEWEST | PROVEN, "2026-01-10T12:00:00Z", []),
        (NEWEST | PROVEN, "2026-01-11T04:30:01Z", ["the newest set is older than 26 h"]),
        (NEWEST | PROVEN, "2026-01-12T02:30:01Z", ["the newest set is older", "proven set is older than 8 days"]),
        (NEWEST | PROVEN | FAILED, "2026-01-10T12:00:00Z", ["the last drill failed (damaged): set 1 is not proven"]),
    ],
)
def test_problems(state: dict[str, Any], at: str, said: list[str]) -> None:
    found = problems(state, at)
    assert len(found) == len(said), found
    for sentence, words in zip(found, said, strict=True):
        assert words in sentence


def test_news_are_laid_over_what_is_known(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.note(**NEWEST, **PROVEN)
    records.failed("drill", BackupError(DAMAGED, "a pack is gone"), "latest")
    assert records.read()["proven"] == PROVEN["proven"]
    assert records.read()["error"]["fault"] == DAMAGED
    records.note(error=None)
    assert records.read() == NEWEST | PROVEN
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_records_that_cannot_be_read_are_empty(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{torn")
    assert Records(tmp_path).read() == {}


def test_one_at_a_time(tmp_path: Path) -> None:
    with Records(tmp_path).alone("a drill"):
        with pytest.raises(BackupError, match="a drill .* is under way") as caught, Records(tmp_path).alone("a backup"):
            raise AssertionError("two at a time")
        assert caught.value.fault == BUSY
    with Records(tmp_path).alone("a backup"):
        pass
