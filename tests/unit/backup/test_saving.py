"""A set is made whole or not at all, and what went wrong takes nothing away."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    DAMAGED,
    DIFFERENT,
    DISK_FULL,
    FAILED,
    MISSING_PART,
    NO_REPOSITORY,
    BackupError,
)
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import CONTENT, EXTRA, REGULAR, SET
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import MIGRATION, PARTS, save

from tests.unit.backup.memory import Aside, Databases, Started, host


def test_a_set_has_what_cannot_be_made_again(tmp_path: Path) -> None:
    made, repository = host(tmp_path, Databases(postgres={}, links={"t": ["a", "b"]}))
    record = save(made, "timer")
    manifest = made.manifest(repository.find())
    assert (record["rows"], record["databases"]) == (2, ["postgres", "links"])
    names = {Path(path).name for path in manifest.files}
    assert {"database-links.dump", "globals.sql", "a", "ledger.jsonl", "state.json", "KEY"} <= names
    assert manifest.apps == {"links": "r1"}
    assert made.records.read()["newest"] == record
    assert not made.settings.spool.exists(), "no dump is left on the host"


def test_whether_the_days_and_weeks_count_it(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    for reason, kind in (("timer", REGULAR), ("asked", REGULAR), ("before-a-restore", EXTRA)):
        save(made, reason)
        assert kind in repository.find().tags


@pytest.mark.parametrize("what", [f"save {CONTENT}", f"save {SET}"])
def test_what_fails_on_the_way_is_no_set(tmp_path: Path, what: str) -> None:
    made, repository = host(tmp_path)
    first = save(made, "timer")
    repository.fails[what] = BackupError(DISK_FULL, "full")
    with pytest.raises(BackupError, match="full"):
        save(made, "timer")
    assert [entry.short for entry in repository.sets()] == [first["set"]]
    assert made.records.read()["newest"] == first
    assert not made.settings.spool.exists()


def test_a_run_of_a_timer_waits_longer_for_a_lock(tmp_path: Path) -> None:
    live = Databases(links={})
    made, _ = host(tmp_path, live)
    for reason in ("timer", MIGRATION):
        save(made, reason)
    assert live.patience == [3600.0, 900.0]


def test_a_dump_that_fails_is_no_set(tmp_path: Path) -> None:
    live = Databases(links={})
    made, repository = host(tmp_path, live)
    live.fails["dump"] = BackupError(FAILED, "pg_dump of links failed")
    with pytest.raises(BackupError, match="pg_dump of links"):
        save(made, "timer")
    assert repository.sets() == []


def test_a_set_stays_known_where_the_check_after_it_finds_damage(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    repository.fails["check"] = BackupError(DAMAGED, "a pack is gone")
    with pytest.raises(BackupError, match="a pack is gone"):
        save(made, "timer")
    assert made.records.read()["newest"]["set"] == repository.find().short


def test_what_is_proven_stays(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    first = save(made, "timer")
    drill(made, scratch=Aside)
    save(made, "timer")
    assert repository.spared == [first["set"]]


def test_a_repository_that_had_sets_is_not_made_anew(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    save(made, "timer")
    repository.there = False
    with pytest.raises(BackupError, match="is its disk mounted") as caught:
        save(made, "timer")
    assert caught.value.fault == NO_REPOSITORY


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    (tmp_path / "uploads" / "a").unlink()
    (tmp_path / "uploads").rmdir()
    with pytest.raises(BackupError, match="backup_directories names .*uploads"):
        save(made, "timer")


@pytest.mark.parametrize("kind", ["directory", "volume", "app"])
def test_a_link_is_refused_since_its_data_would_not_be_in_the_set(tmp_path: Path, kind: str) -> None:
    made, repository = host(tmp_path)
    place = {"directory": "uploads", "volume": "volumes/media", "app": "apps/links"}[kind]
    path, real = tmp_path / place, tmp_path / "real"
    path.parent.mkdir(exist_ok=True)
    if kind == "volume":
        path.mkdir()
        made.settings = replace(made.settings, volumes=(f"{tmp_path}/volumes/*",))
    save(made, "timer")
    path.rename(real)
    path.symlink_to(real)
    with pytest.raises(BackupError, match=re.escape(str(path))) as caught:
        save(made, "timer")
    told = f"name {real} instead" if kind == "directory" else f"mount --bind {real} {path}"
    assert told in str(caught.value)
    assert len(repository.sets()) == 1
    if kind == "directory":
        made.settings = replace(made.settings, directories=(str(real),))
        save(made, "timer")
        assert str(real / "a") in made.manifest(repository.find()).files


def test_a_volume_whose_link_leads_nowhere_is_told(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "media").symlink_to(tmp_path / "not-mounted")
    made.settings = replace(made.settings, volumes=(f"{tmp_path}/volumes/*",))
    with pytest.raises(BackupError, match="volumes/media is a link"):
        save(made, "timer")


def test_a_directory_below_a_link_is_saved(tmp_path: Path) -> None:
    """As restic does it: what is above of what it is told to save is followed."""
    made, repository = host(tmp_path)
    (tmp_path / "srv").symlink_to(tmp_path)
    made.settings = replace(made.settings, directories=(f"{tmp_path}/srv/uploads",))
    save(made, "timer")
    assert f"{tmp_path}/srv/uploads/a" in made.manifest(repository.find()).files


def test_a_proof(tmp_path: Path) -> None:
    made, _ = host(tmp_path, Databases(postgres={}, links={"t": ["a", "b"]}))
    record = save(made, "timer")
    made.records.failed("drill", BackupError(DAMAGED, "earlier"))
    proof = drill(made, scratch=Aside, start=Started())
    assert (proof["set"], proof["rows"], proof["tables"]) == (record["set"], 2, 1)
    known = made.records.read()
    assert known["proven"] == proof
    assert "error" not in known
    assert not made.settings.scratch.exists()


def test_a_backup_is_no_answer_to_a_failed_drill(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    for what, stays in (("drill", True), ("backup", False), ("restore", False)):
        made.records.failed(what, BackupError(DAMAGED, "earlier"))
        save(made, "timer")
        assert ("error" in made.records.read()) is stays


def test_a_part_that_is_missing(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    save(made, "timer")
    manifest = made.manifest(repository.find())
    del repository.kept[manifest.content]
    with pytest.raises(BackupError, match="its content") as caught:
        drill(made, scratch=Aside)
    assert caught.value.fault == MISSING_PART


@pytest.mark.parametrize(
    ("name", "data", "fault", "said"),
    [
        ("uploads/a", b"other", DIFFERENT, "is not what was saved"),
        ("uploads/a", b"longer than before", DIFFERENT, "bytes instead of 5"),
        ("uploads/a", None, MISSING_PART, "is missing"),
    ],
)
def test_a_file_that_comes_back_otherwise(tmp_path: Path, name: str, data: bytes | None, fault: str, said: str) -> None:
    made, repository = host(tmp_path)
    save(made, "timer")
    saved = repository.kept[made.manifest(repository.find()).content][1]
    _, changed = saved.pop(str(tmp_path / name))
    if data is not None:
        saved[str(tmp_path / name)] = (data, changed)
    with pytest.raises(BackupError, match=said) as caught:
        drill(made, scratch=Aside)
    assert caught.value.fault == fault
    assert "proven" not in made.records.read()


def test_rows_that_come_back_otherwise(tmp_path: Path) -> None:
    made, _ = host(tmp_path, Databases(links={"t": ["a", "b"]}))
    save(made, "timer")

    class Lossy(Aside):
        def __enter__(self) -> Databases:
            fill = self.server.fill

            def lose(name: str, dump: Path) -> None:
                fill(name, dump)
                self.server.have[name]["t"].pop()

            self.server.fill = lose  # type: ignore[method-assign]
            return self.server

    with pytest.raises(BackupError, match="t has 1 rows instead of 2") as caught:
        drill(made, scratch=Lossy)
    assert caught.value.fault == DIFFERENT


def test_a_set_before_a_migration_is_made_without_a_look_at_the_others(tmp_path: Path) -> None:
    made, repository = host(tmp_path)
    for what in ("tidy", "check"):
        repository.fails[what] = BackupError(DAMAGED, "another set is damaged")
    made.records.failed("backup", BackupError(FAILED, "earlier"))
    record = save(made, MIGRATION)
    known = made.records.read()
    assert (known["newest"], "error" in known) == (record, False)
    assert {EXTRA, f"reason-{MIGRATION}"} <= set(repository.find().tags)
    (tmp_path / "uploads" / "a").unlink()
    (tmp_path / "uploads").rmdir()
    with pytest.raises(BackupError, match="no such directory"):
        save(made, MIGRATION)


def test_room_of_the_log_is_made_free_once_a_week(tmp_path: Path) -> None:
    made, repository = host(tmp_path, Databases(postgres={}))
    for _ in range(PARTS + 1):
        save(made, "timer", lambda _: ["piece"])
    assert repository.pruned == [True, *[False] * (PARTS - 1), True]
