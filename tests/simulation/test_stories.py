"""Three thousand stories, none of which breaks a promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.fleet import fleet
from tests.simulation.play import outcome
from tests.simulation.story import scenario, shrunk

SEEDS = 3000


def test_no_story_breaks_a_promise() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seeds", str(SEEDS)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(ran.stdout[-4000:])
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-4000:]


def test_a_story_is_the_same_each_time() -> None:
    for seed in range(20):
        first, again = (outcome(scenario(seed), fleet)[1].world.story for _ in range(2))
        assert first == again


def test_a_failing_story_gets_shorter() -> None:
    """Shrinking keeps what fails: here, that anybody deploys at all."""
    story = scenario(4)
    short = shrunk(story, lambda candidate: any(run.operation == "deploy" for run in candidate.runs))
    assert (short.hosts, len(short.runs), short.faults, short.calm) == (1, 1, (), True)
