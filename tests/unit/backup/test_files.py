"""On which disk a repository is, as far as that can be known without touching it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import Settings

MOUNT = "{number} 1 {device} / {point} rw,relatime shared:1 - ext4 /dev/x rw\n"


@pytest.mark.parametrize(
    ("repository", "more", "own"),
    [
        ("sets", [], True),
        ("link/sets", [], True),
        ("mnt/sets", [("mnt", "0:50")], False),
        ("mnt/sets", [("mnt", "8:1")], True),
        ("mnt2/sets", [("mnt", "0:50")], True),
        ("mnt/sets", [("mnt", "0:50"), ("mnt", "8:1")], True),
        ("link/sets", [("real", "0:50")], False),
    ],
)
def test_whether_a_repository_is_on_the_disk_that_it_is_to_outlive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: str, more: list[tuple[str, str]], own: bool
) -> None:
    """What is mounted of its own is not touched: a dead mount fails, or does not answer."""
    real, mount = os.lstat, f"{tmp_path}/mnt/"
    dead = ("mnt", "0:50") in more[-1:]

    def lstat(path: Any, **more: Any) -> os.stat_result:
        assert not (dead and f"{path}/".startswith(mount)), f"{path} is touched"
        return real(path, **more)

    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(os, "stat", lstat)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    table = tmp_path / "mountinfo"
    mounted = [("/", "8:1"), *((f"{tmp_path}/{point}", device) for point, device in more)]
    table.write_text("".join(MOUNT.format(number=20, device=device, point=point) for point, device in mounted))
    settings = Settings(f"{tmp_path}/{repository}", "h", place=tmp_path / "state")
    assert files.own_disk(settings, table) == own


def test_a_repository_elsewhere_is_on_no_disk_of_this_host(tmp_path: Path) -> None:
    assert not files.own_disk(Settings("s3:https://s3.example.com/sets", "h", place=tmp_path))
    assert files.own_disk(Settings(f"{tmp_path}/sets", "h", place=tmp_path)), "as this machine has it mounted"
