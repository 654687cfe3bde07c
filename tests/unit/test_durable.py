"""Files that other processes write and remove, too."""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older


def test_the_newest_stay_and_what_another_run_removed_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    everything = [*tmp_path.iterdir(), tmp_path / "gone"]
    assert older(everything, 1) == [tmp_path / "old", tmp_path / "middle"]
    assert older(everything, 3) == older(everything, 9) == []
