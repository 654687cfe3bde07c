"""One pair of hosts for all tests of the scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import ssh_inventory
from images import HOSTS, Images


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="session")
def images(scratch: Path) -> Iterator[Images]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(scratch / "cache"))
        yield Images(ssh_inventory(scratch, HOSTS, {"web": list(HOSTS)}), scratch)
