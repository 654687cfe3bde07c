"""A run's name: one for all of its workers, and another for every other run."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import run_id

COLLECTIONS = Path(__file__).resolve().parents[2] / ".collections"
SAY = """
import sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import run_id
print(run_id())
"""


def test_forked_workers_have_the_name_of_their_run() -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as workers:
        names = {workers.submit(run_id).result() for _ in range(4)}
    assert names == {run_id()}


def test_another_run_has_another_name() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SAY, str(COLLECTIONS)], capture_output=True, text=True, check=True, timeout=120
    )
    other = said.stdout.strip()
    assert other
    assert other != run_id()
    assert other.rpartition("-")[2] != run_id().rpartition("-")[2]
