"""What a host of containers says of the side that it has kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.containers import Containers
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.model import Side

DATA, IMAGE = "slipway-postgres-data", "postgres:15.8"


@pytest.mark.parametrize(
    ("has", "says"),
    [
        ({DATA, IMAGE}, []),
        ({IMAGE}, ["what was kept of PostgreSQL 15, slipway-postgres-data, is gone"]),
        ({DATA}, ["the data of PostgreSQL 15 is there (slipway-postgres-data)", "docker pull postgres:15.8"]),
    ],
)
def test_an_image_that_was_pruned_is_not_called_lost_data(tmp_path: Path, has: set[str], says: list[str]) -> None:
    def run(words: Sequence[str], timeout: float) -> Ran:
        return Ran(tuple(words), 0 if words[-1] in has else 1)

    said = Containers(tmp_path, "", {}, 999, "", 5, run=run).lacking(Side(15, DATA, IMAGE))
    assert bool(said) == bool(says)
    assert all(words in said for words in says)
