"""Volumes on a real file system: made whole, left as they are, told."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.volumes import Volumes, seen

ME = (os.getuid(), os.getgid())
AT = {"uploads": "/data/uploads"}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def brings(path: str, to: Path) -> None:
    (to / "sub").mkdir()
    (to / "sub/welcome").write_text(path)
    (to / "link").symlink_to("/etc/passwd")


def nothing(path: str, to: Path) -> None:
    """The image has no such directory."""


@pytest.fixture
def there(tmp_path: Path) -> Volumes:
    return Volumes("shop", tmp_path)


def test_a_new_one_has_what_the_release_brings_and_is_the_user_s(there: Volumes) -> None:
    owner = (4711, 4712) if os.getuid() == 0 else ME
    passwd = os.stat("/etc/passwd")
    assert there.have(AT, owner, brings) == ["uploads"]
    path = there.directory / "uploads"
    assert (path / "sub/welcome").read_text() == "/data/uploads"
    for found in (path, path / "sub", path / "sub/welcome", path / "link"):
        status = found.lstat()
        assert (status.st_uid, status.st_gid) == owner
    assert os.stat("/etc/passwd").st_uid == passwd.st_uid
    assert (path.stat().st_mode & 0o777, there.directory.stat().st_mode & 0o777) == (0o750, 0o700)
    assert names(there.directory) == ["uploads"]


def test_one_that_is_there_is_left_as_it_is(there: Volumes) -> None:
    there.have(AT, ME, nothing)
    (there.directory / "uploads/mine").write_text("kept")
    assert there.have(AT, ME, brings) == []
    assert names(there.directory / "uploads") == ["mine"]
    assert there.have({}, ME, brings) == []
    assert there.names() == ["uploads"]


def test_one_that_could_not_be_filled_is_not_there_and_made_the_next_time(there: Volumes) -> None:
    def breaks(path: str, to: Path) -> None:
        (to / "half").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(RuntimeFailed, match=r"volumes in .*/shop/volumes cannot be made: .*No space left"):
        there.have(AT, ME, breaks)
    assert names(there.directory) == []
    assert there.have(AT, ME, brings) == ["uploads"]


def test_what_belongs_to_another_user_is_refused_by_name(there: Volumes) -> None:
    there.have(AT, ME, brings)
    there.require_owner([*AT, "new"], ME)
    uid = ME[0] + 1
    with pytest.raises(RuntimeFailed) as caught:
        there.require_owner(AT, (uid, uid))
    path = there.directory / "uploads"
    assert f"belong to uid {ME[0]}, and this release runs as {uid}" in str(caught.value)
    assert f"chown -R {uid}:{uid} {path}" in str(caught.value)
    there.require_owner(AT, (0, 0))


def test_a_release_that_is_started_again_is_not_kept_from_it_by_whose_its_files_are(there: Volumes) -> None:
    """The next release had them given to its own user, and was refused then."""
    there.have(AT, ME, brings)
    assert there.have(AT, (ME[0] + 1, ME[1]), nothing) == []
    assert (there.directory / "uploads").stat().st_uid == ME[0]


def test_an_empty_file_system_that_is_mounted_there_becomes_the_user_s(
    there: Volumes, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there.directory / "uploads/lost+found").mkdir(parents=True)
    given = []
    monkeypatch.setattr("os.chown", lambda path, *owner: given.append((path, *owner)))
    there.have(AT, (4711, 4712), brings)
    assert given == [(there.directory / "uploads", 4711, 4712)]


def test_what_is_there_is_told_with_who_names_it(there: Volumes, tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    for name, keeps in (("one", {"old": "/old"}), ("two", AT), ("three", AT)):
        (releases / name).mkdir(parents=True)
        (releases / name / "keeps.json").write_text(json.dumps({"volumes": keeps}))
    (releases / "broken").mkdir()
    (releases / "broken/keeps.json").write_text("{")
    there.have({**AT, "old": "/old", "older": "/older"}, ME, nothing)
    (there.directory / "uploads/file").write_bytes(b"x" * 100_000)
    for aside in (".new-half-1", ".slipway-before-uploads"):
        (there.directory / aside).mkdir()
    found = {volume.pop("name"): volume for volume in seen(there, releases, "two")}
    assert found.keys() == {"old", "older", "uploads"}
    assert (found["uploads"]["at"], found["uploads"]["releases"]) == ("/data/uploads", ["three", "two"])
    assert found["uploads"]["bytes"] >= 100_000
    assert found["uploads"]["path"] == str(there.directory / "uploads")
    assert (found["old"]["at"], found["old"]["releases"]) == ("", ["one"])
    assert (found["older"]["at"], found["older"]["releases"]) == ("", [])
    assert seen(Volumes("nobody", tmp_path), tmp_path / "nowhere", None) == []


def test_removing_takes_all_of_one_and_nothing_else(there: Volumes) -> None:
    there.have({**AT, "other": "/other"}, ME, brings)
    assert there.remove("uploads") is True
    assert there.remove("uploads") is False
    assert there.remove("../volumes") is False
    assert names(there.directory) == ["other"]


def test_what_somebody_was_killed_over_goes_with_the_next_one_that_is_made_or_deleted(there: Volumes) -> None:
    there.have(AT, ME, brings)
    for _ in range(2):
        (there.directory / ".new-old-ab_1/old").mkdir(parents=True)
        assert there.left() == ["old"]
        there.have({**AT, "other": "/other"}, ME, brings)
        assert names(there.directory) == ["other", "uploads"]
        (there.directory / ".new-old-ab_1/old").mkdir(parents=True)
        assert there.remove("old") is True, "its removal is finished"
        assert names(there.directory) == ["other", "uploads"]
        there.remove("other")


def test_who_makes_one_waits_for_another_one_that_does(there: Volumes) -> None:
    """A check that is run while the release is staged."""
    second: list[str] = []

    def slow(path: str, to: Path) -> None:
        other = threading.Thread(target=lambda: second.extend(there.have(AT, ME, brings)))
        other.start()
        other.join(0.1)
        assert other.is_alive()
        threads.append(other)

    threads: list[threading.Thread] = []
    assert there.have(AT, ME, slow) == ["uploads"]
    threads[0].join(60)
    assert names(there.directory) == ["uploads"]
    assert names(there.directory / "uploads") == [], "it is not filled twice"


def test_where_something_is_mounted_is_said_with_what_to_do(there: Volumes, monkeypatch: pytest.MonkeyPatch) -> None:
    there.have(AT, ME, brings)

    def busy(path: Path, to: Path) -> None:
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(Path, "rename", busy)
    said = f"uploads could not be deleted: Device or resource busy; .*umount {there.directory / 'uploads'}, and run"
    with pytest.raises(RuntimeFailed, match=said):
        there.remove("uploads")
    assert names(there.directory) == ["uploads"]
