"""Static files of several releases on a real file system: each serves its own, and what the others have besides."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.assets import Assets
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed

AT = "/srv/app/static"
Files = Mapping[str, str]


def brings(files: Files) -> Callable[[str, Path], None]:
    def fill(path: str, to: Path) -> None:
        assert path == AT
        for name, text in files.items():
            (to / name).parent.mkdir(exist_ok=True)
            (to / name).write_text(text)

    return fill


class Host:
    def __init__(self, releases: Path) -> None:
        self.releases = releases
        self.assets = Assets(releases)

    def stage(self, release: str, files: Files) -> None:
        (self.releases / release).mkdir(exist_ok=True)
        self.assets.have(release, [AT], brings(files))
        self.assets.share(release, [AT])

    def served(self, release: str) -> dict[str, str]:
        at = self.releases / release / "assets/served" / AT.lstrip("/")
        return {str(path.relative_to(at)): path.read_text() for path in at.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_first_release_serves_its_own(host: Host) -> None:
    host.stage("one", {"index-1.js": "one", "css/site.css": "plain"})
    assert host.served("one") == {"index-1.js": "one", "css/site.css": "plain"}


def test_both_serve_the_scripts_of_both_and_their_own_of_one_name(host: Host) -> None:
    host.stage("one", {"index-1.js": "one", "css/site.css": "of one"})
    host.stage("two", {"index-2.js": "two", "css/site.css": "of two", "css/new.css": "new"})
    both = {"index-1.js": "one", "index-2.js": "two", "css/new.css": "new"}
    assert host.served("one") == {**both, "css/site.css": "of one"}, "while it serves still"
    assert host.served("two") == {**both, "css/site.css": "of two"}


def test_of_several_that_went_before_the_newest_counts(host: Host) -> None:
    for number, release in enumerate(("one", "two")):
        host.stage(release, {"shared.js": release})
        os.utime(host.releases / release / "assets/own", (number, number))
    host.stage("three", {"index-3.js": "three"})
    assert host.served("three") == {"index-3.js": "three", "shared.js": "two"}


def test_what_a_release_serves_takes_no_room_a_second_time(host: Host) -> None:
    host.stage("one", {"index-1.js": "one"})
    host.stage("two", {"index-2.js": "two"})
    links = (host.releases / "one/assets/own" / AT.lstrip("/") / "index-1.js").stat().st_nlink
    assert links == 3, "its own, what it serves, and what the next one serves"


def test_a_release_that_is_not_kept_any_more_is_not_served_either(host: Host) -> None:
    host.stage("one", {"index-1.js": "one"})
    host.stage("two", {"index-2.js": "two"})
    shutil.rmtree(host.releases / "one")
    host.stage("three", {"index-3.js": "three"})
    assert host.served("three") == host.served("two") == {"index-3.js": "three", "index-2.js": "two"}


def test_one_that_was_cut_short_gets_back_what_is_its_own(host: Host) -> None:
    """Another one was staged meanwhile, and its file came first."""
    host.stage("one", {"site.css": "of one", "app/main.js": "one"})
    host.stage("two", {"site.css": "of two", "app": "two"})
    served = host.releases / "two/assets/served" / AT.lstrip("/")
    (served / "site.css").unlink()
    (served / "app").unlink()
    host.assets.share("one", [AT])
    assert host.served("two") == {"site.css": "of one", "app/main.js": "one"}
    host.stage("two", {"site.css": "of two", "app": "two"})
    assert host.served("two") == {"site.css": "of two", "app": "two"}
    assert host.served("one") == {"site.css": "of one", "app/main.js": "one"}


def test_what_starts_a_release_looks_at_no_other_one(host: Host) -> None:
    """On a full disk, or beside one that is damaged, what was there starts again."""
    host.stage("one", {"index-1.js": "one"})
    host.stage("two", {"index-2.js": "two"})
    shutil.rmtree(host.releases / "two/assets/served")
    (host.releases / "two/assets/served").write_text("no directory")
    host.assets.have("one", [AT], brings({}))
    assert host.served("one") == {"index-1.js": "one", "index-2.js": "two"}


def test_no_link_of_an_image_leads_out_of_the_releases(host: Host, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "of-the-host").touch()

    def linked(path: str, to: Path) -> None:
        (to / "page.html").touch()
        (to / "js").symlink_to(outside)

    (host.releases / "one").mkdir()
    host.assets.have("one", [AT], linked)
    (host.releases / "two").mkdir()
    host.assets.have("two", [f"{AT}/js"], lambda path, to: (to / "main.js").touch())
    host.assets.share("two", [f"{AT}/js"])
    assert [path.name for path in outside.iterdir()] == ["of-the-host"]
    assert host.served("two") == {"js/main.js": ""}


def test_code_is_refused(host: Host) -> None:
    with pytest.raises(RuntimeFailed, match=r"there is code in it \(migrations/0001\.py\)"):
        host.stage("one", {"page.js": "", "migrations/0001.py": ""})


def test_a_second_look_changes_nothing_and_brings_nothing(host: Host) -> None:
    host.stage("one", {"index-1.js": "one"})
    before = host.served("one")
    host.stage("one", {"index-1.js": "never asked for"})
    assert host.served("one") == before


def test_a_name_that_is_a_directory_in_one_and_a_file_in_the_other_is_each_one_s_own(host: Host) -> None:
    host.stage("one", {"app/main.js": "one"})
    host.stage("two", {"app": "a file"})
    assert host.served("one") == {"app/main.js": "one"}
    assert host.served("two") == {"app": "a file"}


def test_whoever_the_app_is_it_can_read_them(host: Host) -> None:
    def private(path: str, to: Path) -> None:
        (to / "sub").mkdir(mode=0o700)
        (to / "sub/a.js").touch(mode=0o600)
        (to / "link.js").symlink_to("sub/a.js")

    (host.releases / "one").mkdir()
    before = os.umask(0o077)
    try:
        host.assets.have("one", [AT], private)
    finally:
        os.umask(before)
    at = host.releases / "one/assets/served" / AT.lstrip("/")
    assert [(at / name).stat().st_mode & 0o777 for name in ("sub", "sub/a.js")] == [0o755, 0o644]
    assert os.readlink(at / "link.js") == "sub/a.js"
    assert all(
        path.stat().st_mode & 0o005 == 0o005 for path in at.parents if path.is_relative_to(host.releases / "one/assets")
    )


def test_a_path_at_which_a_release_brings_nothing_is_refused_and_nothing_is_left(host: Host) -> None:
    with pytest.raises(RuntimeFailed, match=f"fastapi_app_assets names {AT}, and release one has no files there"):
        host.stage("one", {})
    assert list((host.releases / "one/assets").iterdir()) == []
    host.stage("one", {"a.js": "a"})
    assert host.served("one") == {"a.js": "a"}


def test_one_that_was_killed_over_it_is_made_anew(host: Host) -> None:
    left = host.releases / "one/assets/.new-killed"
    left.mkdir(parents=True)
    host.stage("one", {"a.js": "a"})
    assert host.served("one") == {"a.js": "a"}
    assert not left.exists()


def test_killed_at_any_point_it_takes_nothing_from_what_serves_and_is_made_whole_by_the_next_run(
    tmp_path: Path,
) -> None:
    changes = {"os.mkdir", "os.rename", "os.link", "os.remove", "shutil.rmtree", "subprocess.Popen"}
    new = {"index-2.js": "two", "css/site.css": "of two"}
    status = -1
    for point in range(100):
        host = Host(tmp_path / str(point))
        host.releases.mkdir()
        host.stage("one", {"index-1.js": "one", "css/site.css": "of one"})
        child = os.fork()
        if not child:
            left = point

            def kill(event: str, _: object) -> None:
                nonlocal left
                left -= event in changes
                if left < 0 and event in changes:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                sys.addaudithook(kill)
                host.stage("two", new)
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        of_one = host.served("one")
        assert {"index-1.js": "one", "css/site.css": "of one"}.items() <= of_one.items() <= (new | of_one).items()
        host.stage("two", new)
        assert host.served("one") == {"index-1.js": "one", "index-2.js": "two", "css/site.css": "of one"}
        assert host.served("two") == {"index-1.js": "one", **new}
        assert not list(host.releases.glob("*/assets/.new-*"))
        if os.WIFEXITED(status):
            break
    assert os.waitstatus_to_exitcode(status) == 0
    assert point > 10, "it was killed at that many points before"
