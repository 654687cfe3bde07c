"""What monitoring reads of the backups of a host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.backup import metrics
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import DAMAGED, BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.records import Records

RULES = Path(__file__).resolve().parents[3] / "docs/examples/prometheus-backups.yml"
NEWEST = {"time": "2026-01-10T02:30:00Z", "bytes": 3000, "added": 40}
PROVEN = {"time": "2026-01-04T02:30:00Z", "seconds": 75.2}


def values(text: str) -> dict[str, float]:
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines(text))}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_what_is_told_of_sets_and_of_the_log() -> None:
    known = {"newest": NEWEST, "proven": PROVEN, "error": {"what": "drill", "fault": "damaged", "message": "gone"}}
    assert values(metrics.metrics(known, {"until": "2026-01-10T10:00:00Z"})) == {
        "slipway_backup_newest_seconds": 1768012200,
        "slipway_backup_newest_bytes": 3000,
        "slipway_backup_added_bytes": 40,
        "slipway_backup_proven_seconds": 1767493800,
        "slipway_backup_restore_seconds": 75.2,
        'slipway_backup_failed{what="drill",fault="damaged"}': 1,
        "slipway_backup_point_seconds": 1768039200,
    }


def test_what_never_was_is_told_as_that() -> None:
    told = values(metrics.metrics({}, {}))
    assert set(told.values()) == {0.0}
    assert "slipway_backup_point_seconds" not in told


@pytest.mark.parametrize("moment", [None, "", "yesterday", 7])
def test_a_time_that_is_none_is_no_time(moment: Any) -> None:
    assert values(metrics.metrics({"newest": {"time": moment}}, {}))["slipway_backup_newest_seconds"] == 0


def test_each_change_of_the_records_is_told_where_somebody_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = tmp_path / "node-exporter" / "slipway_backup.prom"
    monkeypatch.setattr(metrics.tell, "__defaults__", (read,))
    records = Records(tmp_path)
    records.note(newest=NEWEST)
    assert not read.parent.exists(), "no exporter is there"
    read.parent.mkdir()
    records.note(newest=NEWEST)
    (tmp_path / "wal.json").write_text(json.dumps({"until": "2026-01-10T10:00:00Z"}))
    records.failed("backup", BackupError(DAMAGED, "a pack is gone"))
    told = values(read.read_text())
    assert told['slipway_backup_failed{what="backup",fault="damaged"}'] == 1
    assert told["slipway_backup_newest_seconds"] == 1768012200
    assert told["slipway_backup_point_seconds"] == 1768039200
    assert read.stat().st_mode & 0o777 == 0o644
    records.note(error=None)
    assert values(read.read_text())["slipway_backup_failed"] == 0


def test_the_rules_ask_for_what_is_told() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"slipway_\w+", rule["expr"])}
    told = set(values(metrics.metrics({}, {"until": "2026-01-10T10:00:00Z"})))
    assert len(asked) == len(rules) == 4
    assert asked <= told
