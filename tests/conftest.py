"""Makes `ansible_collections.slipway.fleet` importable in tests, as it is inside Ansible, and holds them apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

init_plugin_loader([str(ROOT / ".collections")])
# How long an example takes is the machine's affair.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


def of_the_process() -> tuple[int, str]:
    """What every test of a worker shares: umask and working directory."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask, str(Path.cwd())


@pytest.fixture(autouse=True)
def _leaves_the_process_as_it_was() -> Iterator[None]:
    """A test that changes them fails itself, and not one that comes after it and makes files."""
    before = of_the_process()
    yield
    try:
        assert of_the_process() == before
    finally:
        os.umask(before[0])
        os.chdir(before[1])
