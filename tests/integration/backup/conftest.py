"""Repositories that tests make open at once; see `quick_key`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import Restic

from tests.integration.backup.quick_key import make_quick


@pytest.fixture(autouse=True)
def _quick_repositories(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are directories of this machine, over SSH as well."""
    make = Restic.make

    def quick(self: Restic) -> None:
        make(self)
        settings = self._settings
        directory = Path(re.sub(r"^sftp://[^/]+/", "", settings.repository))
        if directory.is_dir():
            make_quick(directory, (settings.files / "password").read_text())

    monkeypatch.setattr(Restic, "make", quick)
