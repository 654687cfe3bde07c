"""Three thousand stories, and a look at whether the simulation would find anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import shims
from tests.simulation.fleet import fleet
from tests.simulation.planted import PLANTED, Plant
from tests.simulation.play import outcome
from tests.simulation.story import scenario, shrunk

SEEDS = 3000
# Stories within which a fault that was put back must be found.
WITHIN = 5000


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


# Where each was found last, to be looked at first; code that changes finds them elsewhere.
LAST_FOUND = {
    "the_edge_asks_every_slot_the_same": 1,
    "a_reload_forgets_what_is_asked": 1,
    "finish_without_asking": 110,
    "state_is_stored_before_it_is_set": 125,
    "the_lease_is_not_renewed": 132,
    "the_verdict_is_what_is_recorded": 154,
    "stop_before_the_switch_is_confirmed": 235,
    "blue_without_a_state": 254,
    "every_release_is_looked_at_as_the_run_says": 535,
    "expectations_after_the_mending": 604,
    "two_tables_from_two_workers": 717,
    "migrations_are_not_guarded": 1009,
    "no_fencing": 1468,
    "the_way_back_starts_nothing": 1718,
}


def found_by(plant: Plant) -> tuple[int, str] | None:
    """The first seed that finds a planted fault and nothing without it, and the promise that is broken."""
    for seed in (LAST_FOUND.get(plant.__name__, 0), *range(WITHIN)):
        code = shims.install()
        try:
            plant(code)
            broken, _ = outcome(scenario(seed), fleet, installed=True)
        finally:
            code.remove()
        if broken and not outcome(scenario(seed), fleet)[0]:
            return seed, str(broken)
    return None


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_fault_that_is_put_back_is_found(plant: Plant, record_property: pytest.FixtureRequest) -> None:
    found = found_by(plant)
    assert found, f"{plant.__name__} breaks nothing within {WITHIN} stories"
    record_property("seed", found[0])  # type: ignore[operator]
    print(f"{plant.__name__}: seed {found[0]}, {found[1]}")


def test_a_story_is_the_same_each_time() -> None:
    for seed in range(20):
        first, again = (outcome(scenario(seed), fleet)[1].world.story for _ in range(2))
        assert first == again


def test_a_failing_story_gets_shorter() -> None:
    """Shrinking keeps what fails: here, that anybody deploys at all."""
    story = scenario(4)
    short = shrunk(story, lambda candidate: any(run.operation == "deploy" for run in candidate.runs))
    assert (short.hosts, len(short.runs), short.faults, short.calm) == (1, 1, (), True)
