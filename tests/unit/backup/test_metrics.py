"""What monitoring reads of the backups of a host."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.backup import metrics, wal
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import DAMAGED, BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.records import Records

RULES = Path(__file__).resolve().parents[3] / "docs/examples/prometheus-backups.yml"
NEWEST = {"time": "2026-01-10T02:30:00Z", "bytes": 3000, "added": 40}
KEPT = {"based": True, "reach": [["2026-01-10T02:31:00Z", "2026-01-10T10:00:00Z"]], "until": "2026-01-10T10:05:00Z"}
PROVEN = {"time": "2026-01-04T02:30:00Z", "seconds": 75.2}


def values(text: str) -> dict[str, float]:
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines(text))}


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize(
    ("releases", "proven"),
    [([], 0), ([""], 1), (["", "no image"], 0), (["", ""], 1)],
    ids=["none", "one", "not all", "all"],
)
def test_whether_a_release_was_tried_on_the_proven_set(releases: list[str], proven: int) -> None:
    tried = [{"app": f"a{number}", "unproven": why} for number, why in enumerate(releases)]
    found = values(metrics.metrics({"proven": {**PROVEN, "releases": tried}}, {}))
    assert found["slipway_backup_release_proven"] == proven


def test_what_is_told_of_sets_and_of_the_log() -> None:
    known = {"newest": NEWEST, "proven": PROVEN, "error": {"what": "drill", "fault": "damaged", "message": "gone"}}
    assert values(metrics.metrics(known, KEPT)) == {
        "slipway_backup_newest_seconds": 1768012200,
        "slipway_backup_newest_bytes": 3000,
        "slipway_backup_added_bytes": 40,
        "slipway_backup_proven_seconds": 1767493800,
        "slipway_backup_restore_seconds": 75.2,
        "slipway_backup_release_proven": 0,
        'slipway_backup_failed{what="drill",fault="damaged"}': 1,
        "slipway_backup_point_seconds": 1768039200,
        "slipway_backup_base_failed": 0,
    }


@pytest.mark.parametrize("wrong", [{"based": False}, {"reach": []}])
def test_what_is_kept_and_leads_nowhere_is_no_point(wrong: dict[str, Any]) -> None:
    told = values(metrics.metrics({}, {**KEPT, **wrong, "base_error": "no room"}))
    assert told["slipway_backup_point_seconds"] == 0
    assert told["slipway_backup_base_failed"] == 1


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
    config = tmp_path / "config.json"
    config.write_text('{"wal": true}')
    monkeypatch.setattr(metrics.tell, "__defaults__", (read, config, False))
    records = Records(tmp_path)
    records.note(newest=NEWEST)
    assert not read.parent.exists(), "no exporter is there"
    read.parent.mkdir()
    records.note(newest=NEWEST)
    (tmp_path / "wal.json").write_text(json.dumps(KEPT))
    records.failed("backup", BackupError(DAMAGED, "a pack is gone"))
    told = values(read.read_text())
    assert told['slipway_backup_failed{what="backup",fault="damaged"}'] == 1
    assert told["slipway_backup_newest_seconds"] == 1768012200
    assert told["slipway_backup_point_seconds"] == 1768039200
    assert read.stat().st_mode & 0o777 == 0o644
    records.note(error=None)
    assert values(read.read_text())["slipway_backup_failed"] == 0
    config.write_text('{"wal": false}')
    records.note(newest=NEWEST)
    assert "point_seconds" not in read.read_text(), "the log is kept no more, and its records are there"


def test_a_log_that_is_kept_no_more_is_told_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role ends it before the new configuration is there."""
    read, config = tmp_path / "slipway_backup.prom", tmp_path / "config.json"
    config.write_text('{"wal": true}')
    monkeypatch.setattr(metrics.tell, "__defaults__", (read, config, False))
    (tmp_path / "wal.json").write_text(json.dumps(KEPT))
    metrics.tell(tmp_path)
    assert "point_seconds" in read.read_text()
    log: Any = SimpleNamespace(drop_slot=lambda: True)
    wal.stop(log, Settings("/srv/sets", "h", place=tmp_path))
    assert "point_seconds" not in read.read_text()


def test_the_rules_ask_for_what_is_told() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    asked = {name for rule in rules for name in re.findall(r"slipway_\w+", rule["expr"])}
    told = set(values(metrics.metrics({}, KEPT)))
    assert len(asked) == 5
    assert asked <= told
    assert all(rule["for"] for rule in rules)


def test_what_never_was_is_given_the_time_that_its_timer_needs() -> None:
    """A new host has no set until the night, and none is proven until Sunday."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    for what, needed in (("newest", "26h"), ("proven", "8d")):
        never, old = (
            [rule for rule in rules if part in rule["expr"]]
            for part in (f"{what}_seconds == 0", f"time() - slipway_backup_{what}_seconds >")
        )
        assert [rule["for"] for rule in never] == [needed]
        assert all(rule["expr"].startswith(f"slipway_backup_{what}_seconds > 0 and ") for rule in old)
        assert len(old) == 1
