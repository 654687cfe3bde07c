"""Whether the simulation would find anything: faults are put back, and some story breaks a promise then."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.simulation import shims
from tests.simulation.fleet import fleet
from tests.simulation.planted import PLANTED, Plant
from tests.simulation.play import outcome
from tests.simulation.story import scenario

# Stories within which a fault that was put back must be found.
WITHIN = 5000

# Where each was found last, to be looked at first; code that changes finds them elsewhere, and one that is among the
# slowest tests of a run has an old seed here.
LAST_FOUND = {
    "the_edge_asks_every_slot_the_same": 1,
    "a_reload_forgets_what_is_asked": 1,
    "nobody_waits_for_processes_to_end": 6,
    "state_is_stored_before_it_is_set": 8,
    "nothing_makes_way": 8,
    "the_lease_is_not_renewed": 36,
    "stop_before_the_switch_is_confirmed": 44,
    "what_makes_way_counts_as_dead": 50,
    "a_broken_api_is_told_and_let_through": 73,
    "a_refusal_leaves_processes_as_they_are": 75,
    "finish_without_asking": 110,
    "every_release_is_looked_at_as_the_run_says": 133,
    "the_verdict_is_what_is_recorded": 198,
    "expectations_after_the_mending": 624,
    "two_tables_from_two_workers": 717,
    "what_was_handed_over_is_forgotten": 1087,
    "migrations_are_not_guarded": 1195,
    "what_is_interrupted_counts_as_proven": 1713,
    "the_way_back_starts_nothing": 1718,
    "no_fencing": 2355,
    "blue_without_a_state": 3313,
}


class Compared(shims.Installed):
    """Refuses what cannot be called as that which it stands for: a TypeError would be found, too, and shows nothing."""

    def set(self, target: Any, name: str, value: Any) -> None:
        before = getattr(target, name)
        if inspect.isroutine(before):
            parameters = inspect.signature(before).parameters.values()
            by_name = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
            by_place = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
            inspect.signature(value).bind(*by_place, **by_name)
        super().set(target, name, value)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_fault_can_be_called_as_what_it_stands_for(plant: Plant) -> None:
    code = Compared()
    try:
        plant(code)
    finally:
        code.remove()


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
