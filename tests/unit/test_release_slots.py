"""A slot's directory: whatever a release left in it, the next one starts in an empty one."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import Compose
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.slots import (
    SlotDirectories,
    in_own_directory,
    socket_of,
)

SOCKETS = Path("/run/slipway/links")


@pytest.fixture
def directories(tmp_path: Path) -> SlotDirectories:
    (tmp_path / "links").mkdir()
    (tmp_path / "boot").mkdir()
    return SlotDirectories(tmp_path / "links", tmp_path / "boot")


def many_files(slot: Path) -> None:
    for number in range(3000):
        (slot / f"{number}").touch()


def nested_deeper_than_python_recurses(slot: Path) -> None:
    here = os.open(slot, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def file_for_a_directory(slot: Path) -> None:
    slot.rmdir()
    slot.touch()


def link_for_a_directory(slot: Path) -> None:
    slot.rmdir()
    slot.symlink_to(slot.parents[1] / "precious")


JUNK: dict[str, Callable[[Path], object]] = {
    "nothing": lambda slot: None,
    "a file": lambda slot: (slot / "app.sock").touch(),
    "a directory with things in it": lambda slot: (slot / "app.sock/more").mkdir(parents=True),
    "a link": lambda slot: (slot / "app.sock").symlink_to(slot.parents[1] / "precious/kept"),
    "a link to a directory": lambda slot: (slot / "out").symlink_to(slot.parents[1] / "precious"),
    "a file in place of the directory": file_for_a_directory,
    "a link in place of the directory": link_for_a_directory,
    "a directory that nobody may enter": lambda slot: slot.chmod(0),
    "thousands of files": many_files,
    "directories in directories": nested_deeper_than_python_recurses,
}


@pytest.mark.parametrize("junk", JUNK)
def test_what_a_release_left_does_not_hinder_the_next(junk: str, directories: SlotDirectories, tmp_path: Path) -> None:
    directories.renew("blue")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_text("kept")
    JUNK[junk](directories.sockets / "blue")
    directories.renew("blue")
    found = (directories.sockets / "blue").lstat()
    assert stat.S_ISDIR(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o750
    assert (found.st_uid, found.st_gid) == (os.getuid(), os.getgid())
    assert list((directories.sockets / "blue").iterdir()) == []
    assert (precious / "kept").read_text() == "kept"


def test_the_other_slot_is_left_alone_and_both_are_there_after_a_boot(directories: SlotDirectories) -> None:
    directories.renew("blue")
    (directories.sockets / "blue/app.sock").touch()
    directories.renew("green")
    assert (directories.sockets / "blue/app.sock").exists()
    rules = [line.split() for line in directories.boot.read_text().splitlines() if line.startswith("d ")]
    owner = [str(os.getuid()), str(os.getgid()), "-"]
    assert rules == [["d", str(directories.sockets / slot), "0750", *owner] for slot in ("blue", "green")]


def test_without_the_app_s_directory_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match=r"slot blue in .*nowhere cannot be made anew"):
        SlotDirectories(tmp_path / "nowhere", tmp_path).renew("blue")


def test_the_probe_of_a_slot_follows_no_link(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        other.listen()
        (tmp_path / "app.sock").symlink_to(tmp_path / "other.sock")
        assert get(str(tmp_path / "app.sock"), "/readyz", 1).error == f"{tmp_path / 'app.sock'} is no socket"
        other.settimeout(0.1)
        with pytest.raises(TimeoutError):
            other.accept()


def test_a_release_from_before_is_found_where_it_listens(tmp_path: Path) -> None:
    assert socket_of(tmp_path, "blue") == tmp_path / "blue/app.sock"
    (tmp_path / "blue.sock").touch()
    assert socket_of(tmp_path, "blue") == tmp_path / "blue.sock"
    (tmp_path / "blue").mkdir()
    (tmp_path / "blue/app.sock").symlink_to("nowhere")
    assert socket_of(tmp_path, "blue") == tmp_path / "blue/app.sock"


BEFORE = (
    '      GUNICORN_BIND: "unix:/run/slipway/links/${SLIPWAY_SLOT}.sock"\n'
    "    volumes:\n"
    "      - {type: bind, source: /run/slipway/links, target: /run/slipway/links}\n"
    "      - {type: bind, source: ./secrets, target: /run/secrets, read_only: true}\n"
)
NOW = (
    '      GUNICORN_BIND: "unix:/run/slipway/links/${SLIPWAY_SLOT}/app.sock"\n'
    "    volumes:\n"
    "      - {type: bind, source: /run/slipway/links/${SLIPWAY_SLOT}, target: /run/slipway/links/${SLIPWAY_SLOT}}\n"
    "      - {type: bind, source: ./secrets, target: /run/secrets, read_only: true}\n"
)


@pytest.mark.parametrize(
    ("text", "slot", "now"),
    [
        (BEFORE, "${SLIPWAY_SLOT}", NOW),
        (NOW, "${SLIPWAY_SLOT}", NOW),
        (
            "Environment=GUNICORN_BIND=unix:/run/slipway/links/@SLOT@.sock\nReadWritePaths=/run/slipway/links\n",
            "@SLOT@",
            (
                "Environment=GUNICORN_BIND=unix:/run/slipway/links/@SLOT@/app.sock\n"
                "TemporaryFileSystem=/run/slipway:ro\nBindPaths=-/run/slipway/links/@SLOT@\n"
            ),
        ),
        ("ReadWritePaths=/run/slipway/links-of-another\n", "@SLOT@", "ReadWritePaths=/run/slipway/links-of-another\n"),
    ],
)
def test_a_release_from_before_gets_a_directory_of_its_own(text: str, slot: str, now: str) -> None:
    assert in_own_directory(text, SOCKETS, slot) == now


def test_compose_starts_a_release_from_before_by_a_copy(tmp_path: Path) -> None:
    staged = tmp_path / "0123456789ab/compose.yaml"
    staged.parent.mkdir()
    compose = Compose("links", tmp_path, SOCKETS)
    for text, used in ((BEFORE, ".own-directory.yaml"), (NOW, "compose.yaml")):
        staged.write_text(text)
        file = Path(compose._command("links-blue", "0123456789ab")[-1])
        assert (file, file.read_text()) == (staged.with_name(used), NOW)
        assert staged.read_text() == text, "what was staged stays what it was"
