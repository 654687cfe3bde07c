"""Files that other processes write and remove, too."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import make_public, older


def test_the_newest_stay_and_what_another_run_removed_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    everything = [*tmp_path.iterdir(), tmp_path / "gone"]
    assert older(everything, 1) == [tmp_path / "old", tmp_path / "middle"]
    assert older(everything, 3) == older(everything, 9) == []


def test_a_public_directory_is_open_under_any_umask(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    before = os.umask(0o077)
    try:
        make_public(tmp_path / "one/two")
        make_public(tmp_path / "one/two")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path, tmp_path / "one", tmp_path / "one/two")]
    assert modes == [0o700, 0o755, 0o755], "what was there is left as it is"
