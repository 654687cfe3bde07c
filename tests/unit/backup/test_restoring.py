"""A restore is whole beside what is live before a name changes; what fails before leaves everything as it was."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    DAMAGED,
    DISK_FULL,
    FAILED,
    MIB,
    REFUSED,
    BackupError,
)
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import SAFETY, Host, save

from tests.unit.backup.memory import Databases, Repository, host


@pytest.fixture
def live() -> Databases:
    return Databases(postgres={}, links={"t": ["a", "b"]})


@pytest.fixture
def saved(tmp_path: Path, live: Databases) -> tuple[Host, Repository]:
    """A host with a set, which has lost a row and a file since."""
    made, repository = host(tmp_path, live)
    save(made, "timer")
    live.have["links"]["t"].remove("b")
    (tmp_path / "uploads" / "a").write_text("later")
    return made, repository


def test_all_of_a_set_comes_back_and_what_was_there_is_kept(
    saved: tuple[Host, Repository], live: Databases, tmp_path: Path
) -> None:
    made, repository = saved
    wanted = repository.find()
    content = repository.content_of(wanted)
    assert content
    assert Restore(made, wanted.short, ["all"]).plan()["content"] == content.short != wanted.short
    told = Restore(made, wanted.short, ["all"]).run("links")
    assert live.have["links"] == {"t": ["a", "b"]}
    assert (tmp_path / "uploads" / "a").read_text() == "first"
    database, directory = told["restored"]
    assert live.have[database["kept"]] == {"t": ["a"]}
    assert (Path(directory["kept"]) / "a").read_text() == "later"
    assert told["restart"]
    assert repository.find().short == told["safety"]
    assert f"reason-{SAFETY}" in repository.find().tags
    assert not list(tmp_path.glob(".slipway-restoring-*"))


def test_one_part_alone(saved: tuple[Host, Repository], live: Databases, tmp_path: Path) -> None:
    made, _ = saved
    told = Restore(made, "latest", ["database:links"]).run("links")
    assert [part["name"] for part in told["restored"]] == ["database:links"]
    assert not told["restart"]
    assert (tmp_path / "uploads" / "a").read_text() == "later"


@pytest.mark.parametrize("what", ["fill", "swap"])
def test_a_restore_that_fails_touches_nothing_live(
    saved: tuple[Host, Repository], live: Databases, tmp_path: Path, what: str
) -> None:
    made, _ = saved
    before = copy.deepcopy(live.have)
    live.fails[what] = BackupError(FAILED, "no")
    with pytest.raises(BackupError):
        Restore(made, "latest", ["all"]).run("links")
    assert live.have == before
    assert (tmp_path / "uploads" / "a").read_text() == "later"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apps", "state", "uploads"]


def test_a_set_that_cannot_be_read_touches_nothing_live(saved: tuple[Host, Repository], live: Databases) -> None:
    made, repository = saved
    before = copy.deepcopy(live.have)
    repository.fails["restore"] = BackupError(DAMAGED, "a pack is gone")
    with pytest.raises(BackupError, match="a pack is gone"):
        Restore(made, "latest", ["all"]).run("links")
    assert live.have == before


def test_without_a_set_of_what_is_there_it_is_restored_where_that_is_said(
    saved: tuple[Host, Repository], live: Databases
) -> None:
    made, _ = saved
    before = copy.deepcopy(live.have)
    restore = Restore(made, "latest", ["all"])
    live.fails["dump"] = BackupError(FAILED, "pg_dump of links failed")
    with pytest.raises(
        BackupError, match="pg_dump of links failed. To restore without one, say -e slipway_safety=none"
    ):
        restore.run("links")
    assert live.have == before
    told = restore.run("links", safety=False)
    assert told["safety"] is None
    assert live.have["links"] == {"t": ["a", "b"]}


def test_a_server_that_is_down_stops_no_restore_of_files(
    saved: tuple[Host, Repository], live: Databases, tmp_path: Path
) -> None:
    for what in ("dump", "leftovers", "heads"):
        live.fails[what] = BackupError(FAILED, "the server is down")
    uploads = str(tmp_path / "uploads")
    Restore(saved[0], "latest", [f"directory:{uploads}"]).run(uploads, safety=False)
    assert (tmp_path / "uploads" / "a").read_text() == "first"


@pytest.mark.parametrize("what", ["tidy", "check"])
def test_what_is_wrong_with_other_sets_stops_no_restore(
    saved: tuple[Host, Repository], live: Databases, what: str
) -> None:
    made, repository = saved
    made.records.failed("backup", BackupError(DAMAGED, "a pack of another set is gone"))
    repository.fails[what] = BackupError(DAMAGED, "a pack of another set is gone")
    Restore(made, "latest", ["all"]).run("links")
    assert live.have["links"] == {"t": ["a", "b"]}
    assert made.records.read()["error"]["fault"] == DAMAGED, "what a backup found is not answered by a restore"


def test_a_directory_that_was_lost_comes_back(saved: tuple[Host, Repository], tmp_path: Path) -> None:
    made, _ = saved
    made.records.failed("restore", BackupError(FAILED, "earlier"))
    (tmp_path / "uploads" / "a").unlink()
    (tmp_path / "uploads").rmdir()
    restore = Restore(made, "latest", ["all"])
    assert restore.plan()["absent"] == [str(tmp_path / "uploads")]
    told = restore.run("links")
    assert (tmp_path / "uploads" / "a").read_text() == "first"
    assert told["safety"]
    assert told["absent"] == [str(tmp_path / "uploads")]
    assert "error" not in made.records.read()


def test_a_directory_that_cannot_change_its_place_changes_nothing(
    saved: tuple[Host, Repository], live: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = saved
    before = copy.deepcopy(live.have)
    rename = os.rename

    def busy(source: Path, target: Path) -> None:
        if str(source).endswith(f"{tmp_path}/uploads") and target == tmp_path / "uploads":
            raise OSError(errno.EBUSY, "Device or resource busy", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", busy)
    with pytest.raises(BackupError, match="uploads: Device or resource busy"):
        Restore(made, "latest", ["all"]).run("links")
    assert live.have == before
    assert (tmp_path / "uploads" / "a").read_text() == "later"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apps", "state", "uploads"]


@pytest.mark.parametrize("at", ["", "/videos"])
def test_what_is_mounted_is_refused_before_anything(
    saved: tuple[Host, Repository], live: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    made, repository = saved
    monkeypatch.setattr(files, "mounts", lambda: ["/", f"{tmp_path}/uploads{at}"])
    restore = Restore(made, "latest", ["all"])
    assert f"mounted at {tmp_path}/uploads{at}" in restore.plan()["impossible"]
    with pytest.raises(BackupError, match="Restore the other parts") as caught:
        restore.run("links")
    assert caught.value.fault == REFUSED
    assert len(repository.sets()) == 1
    assert live.have["links"] == {"t": ["a"]}
    assert Restore(made, "latest", ["database:links"]).plan()["impossible"] == ""


@pytest.mark.parametrize(("wal", "log"), [(False, 1024), (True, 1024 + 512)])
def test_a_restore_leaves_room_for_the_log_that_is_not_yet_kept(
    saved: tuple[Host, Repository], live: Databases, monkeypatch: pytest.MonkeyPatch, wal: bool, log: int
) -> None:
    made, _ = saved
    save(made, "timer")
    made.settings = replace(made.settings, wal=wal, wal_room=512)
    restore = Restore(made, "latest", ["database:links"])
    restore.databases = [replace(database, bytes=2000 * MIB) for database in restore.databases]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(BackupError, match=f"the restore needs {64 + 2000 + log} MiB"):
        restore.run("links", safety=False)


@pytest.mark.parametrize(("mib", "enough"), [(10, True), (50, False)])
def test_a_restore_leaves_room_for_the_server_that_is_live(
    saved: tuple[Host, Repository], live: Databases, monkeypatch: pytest.MonkeyPatch, mib: int, enough: bool
) -> None:
    """The database and as much of the log of changes, and the reserve of 64 MiB."""
    made, repository = saved
    live.size = mib * MIB
    save(made, "timer")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=(64 + 30) * MIB))
    live.size = 10
    restore = Restore(made, "latest", ["database:links"])
    if enough:
        assert restore.run("links")["restored"]
        return
    with pytest.raises(BackupError, match="the restore needs 164 MiB on the disk of /.*, and 94 are free") as caught:
        restore.run("links")
    assert caught.value.fault == DISK_FULL
    assert len(repository.sets()) == 2, "none was made before"


def test_what_comes_onto_one_disk_is_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * MIB))
    files.room("it", (tmp_path / "not" / "there", 20 * MIB))
    with pytest.raises(BackupError, match="it needs 104 MiB"):
        files.room("it", (tmp_path / "not" / "there", 20 * MIB), (tmp_path, 20 * MIB))
    files.room("it", (tmp_path, 20 * MIB), (Path("/proc"), 20 * MIB))


def test_where_something_is_mounted(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / /srv/a\\040b rw,noatime - ext4 /dev/root rw\n22 1 0:5 / / rw - ext4 /dev/a rw\n")
    assert files.mounts(table) == ["/srv/a b", "/"]
    assert "/proc" in files.mounts()


def test_what_has_records_in_it_is_not_put_back(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    made.settings = replace(made.settings, directories=(str(tmp_path),))
    save(made, "timer")
    assert f"{tmp_path}/apps in it" in Restore(made, "latest", ["all"]).impossible()


def test_a_directory_within_another_one_comes_with_it(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    inner = tmp_path / "uploads" / "inner"
    inner.mkdir()
    (inner / "b").write_text("first")
    made.settings = replace(made.settings, directories=(str(tmp_path / "uploads"), str(inner)))
    save(made, "timer")
    (inner / "b").write_text("later")
    told = Restore(made, "latest", ["all"]).run("h")
    assert [part["name"] for part in told["restored"]] == [f"directory:{tmp_path}/uploads"]
    assert (inner / "b").read_text() == "first"


def test_what_is_above_a_restored_directory_is_open_to_others(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    media = tmp_path / "srv" / "app" / "media"
    media.mkdir(parents=True)
    (media / "a").write_text("first")
    made.settings = replace(made.settings, directories=(str(media),))
    save(made, "timer")
    shutil.rmtree(tmp_path / "srv")
    before = os.umask(0o077)
    try:
        Restore(made, "latest", ["all"]).run("h")
    finally:
        os.umask(before)
    assert (media / "a").read_text() == "first"
    assert [path.stat().st_mode & 0o777 for path in (media.parent.parent, media.parent)] == [0o755, 0o755]


def test_what_is_kept_of_another_directory_is_none_of_its_own(saved: tuple[Host, Repository], tmp_path: Path) -> None:
    made, _ = saved
    another = tmp_path / ".slipway-before-2026-01-01T00:00:00Z-old-uploads"
    another.mkdir()
    shutil.rmtree(tmp_path / "uploads")
    told = Restore(made, "latest", [f"directory:{tmp_path}/uploads"]).run(f"{tmp_path}/uploads")
    assert another.is_dir()
    assert told["restored"][0]["kept"] is None


@pytest.mark.parametrize("killed", [False, True], ids=["lost", "lost and killed while it was fetched"])
def test_what_an_earlier_restore_kept_is_not_put_in_the_place_of_a_lost_directory(
    saved: tuple[Host, Repository], tmp_path: Path, killed: bool
) -> None:
    """Also where the restore fails, nothing old is live then."""
    made, repository = saved
    uploads = tmp_path / "uploads"
    told = Restore(made, "latest", [f"directory:{uploads}"]).run(str(uploads))
    kept = tmp_path / ".slipway-before-2026-01-01T00:00:00Z-uploads"
    Path(told["restored"][0]["kept"]).rename(kept)  # months later
    assert not list(tmp_path.glob(".slipway-restoring-*")), "one that is complete takes it away"
    shutil.rmtree(uploads)
    if killed:
        (tmp_path / ".slipway-restoring-uploads").mkdir()
    repository.fails["restore"] = BackupError(DAMAGED, "a pack is gone")
    with pytest.raises(BackupError, match="a pack is gone"):
        Restore(made, "latest", [f"directory:{uploads}"]).run(str(uploads))
    assert not uploads.exists()
    assert kept.is_dir()


def test_what_one_that_was_killed_between_two_names_put_aside_is_live_again(
    saved: tuple[Host, Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, repository = saved
    uploads = tmp_path / "uploads"
    (tmp_path / ".slipway-before-2026-01-01T00:00:00Z-uploads").mkdir()
    with monkeypatch.context() as killed:
        rename, names = os.rename, iter([True])

        def once(source: Path, target: Path) -> None:
            if not next(names, False):
                raise SystemExit  # and no rename back, and nothing tidied up
            rename(source, target)

        killed.setattr(os, "rename", once)
        killed.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(SystemExit):
            Restore(made, "latest", [f"directory:{uploads}"]).run(str(uploads), safety=False)
    assert not uploads.exists()
    assert (tmp_path / ".slipway-restoring-uploads").is_dir()
    repository.fails["restore"] = BackupError(DAMAGED, "a pack is gone")
    with pytest.raises(BackupError, match="a pack is gone"):
        Restore(made, "latest", [f"directory:{uploads}"]).run(str(uploads))
    assert (uploads / "a").read_text() == "later"


def test_what_a_killed_one_left_goes(saved: tuple[Host, Repository], live: Databases, tmp_path: Path) -> None:
    made, _ = saved
    left = tmp_path / ".slipway-restoring-gone"
    left.mkdir()
    live.have["slipway_restoring_links"] = {"t": []}
    (tmp_path / "uploads").rename(tmp_path / ".slipway-before-2026-01-01T00:00:00Z-uploads")
    parts = ["database:links", f"directory:{tmp_path / 'uploads'}"]
    Restore(made, "latest", parts).run(f"{tmp_path / 'uploads'},links")
    assert "slipway_restoring_links" not in live.have
    assert not left.exists()
    assert (tmp_path / "uploads" / "a").read_text() == "first"


@pytest.mark.parametrize(
    ("parts", "typed", "taken"),
    [
        (["database:links"], "", False),
        (["database:links"], "link", False),
        (["database:links"], "h", False),
        (["database:links"], "links", True),
        (["database:links", "database:shop"], "links", False),
        (["database:links", "database:shop"], "shop, links", True),
        (["all"], "links", False),
        (["all"], "links,shop", True),
        (["all"], "h", True),
    ],
)
def test_all_that_is_replaced_is_typed(
    saved: tuple[Host, Repository], live: Databases, parts: list[str], typed: str, taken: bool
) -> None:
    made, _ = saved
    live.have["shop"] = {}
    save(made, "timer")
    before = copy.deepcopy(live.have)
    restore = Restore(made, "latest", parts)
    if taken:
        assert restore.run(typed)["restored"]
        return
    with pytest.raises(BackupError, match="type what is replaced: -e slipway_confirm=links") as caught:
        restore.run(typed)
    assert caught.value.fault == REFUSED
    assert live.have == before


def test_a_directory_alone_is_typed_as_such(saved: tuple[Host, Repository], tmp_path: Path) -> None:
    uploads = str(tmp_path / "uploads")
    restore = Restore(saved[0], "latest", [f"directory:{uploads}"])
    with pytest.raises(BackupError, match="slipway_confirm is links"):
        restore.run("links")
    assert restore.run(uploads)["restored"]


def test_what_does_not_fit_is_refused_with_what_it_fits(saved: tuple[Host, Repository], live: Databases) -> None:
    made, _ = saved
    live.heads_of["links"] = ("aa",)
    save(made, "timer")
    live.heads_of["links"] = ("bb",)
    (made.settings.apps / "links" / "state.json").write_text('{"release": "r2"}')
    restore = Restore(made, "latest", ["database:links"])
    with pytest.raises(BackupError, match="has bb. It fits the release r1 of links: roll back to that first"):
        restore.run("links")
    assert restore.plan()["unfit"]


def test_a_database_that_cannot_tell_its_schema_is_no_reason_against(
    saved: tuple[Host, Repository], live: Databases
) -> None:
    made, _ = saved
    live.heads_of["links"] = ("aa",)
    save(made, "timer")
    live.fails["heads"] = BackupError(FAILED, "invalid page in block 0")
    assert not Restore(made, "latest", ["all"]).unfit()


@pytest.mark.parametrize("part", ["database:other", "database:postgres", "directory:/etc", "everything"])
def test_what_a_set_has_not_is_named(saved: tuple[Host, Repository], part: str) -> None:
    with pytest.raises(BackupError, match="the set has no ") as caught:
        Restore(saved[0], "latest", [part])
    assert caught.value.fault == REFUSED


def test_a_plan_says_how_long_it_takes(saved: tuple[Host, Repository]) -> None:
    made, repository = saved
    made.records.note(proven={"set": repository.find().short, "seconds": 12.5})
    plan = Restore(made, "latest", ["all"]).plan()
    assert (plan["seconds"], plan["proven"], plan["databases"]) == (12.5, True, ["links"])
    assert plan["rows"] == 2
    assert not [path for path in plan["directories"] if "apps" in path], "records of another time are not put back"
