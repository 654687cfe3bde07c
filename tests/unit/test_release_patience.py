"""What is not worth waiting for."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe
from ansible_collections.slipway.fleet.plugins.module_utils.release.patience import MEANS_IT, Patience

SILENT = Probe(error="it answered nothing within 5 s")
MISSING = "ModuleNotFoundError: No module named 'nope'"


def ended_at(answer: Probe, logs: list[str], where: str = "") -> tuple[int, str]:
    """At which look, a second apart, it was the last, and why; the last log stays."""
    said = itertools.chain(logs, itertools.repeat(logs[-1]))
    patience = Patience(0.0, lambda _: where, lambda: next(said))
    for second in range(1, 40):
        if why := patience.ends(answer, float(second)):
            return second, why
    return 0, ""


def test_workers_that_end_one_after_the_other() -> None:
    second, why = ended_at(SILENT, [f"{MISSING}\n" * count for count in range(1, 30)])
    assert second == 4
    assert why == f"{MISSING}, again each time that a worker starts: {SILENT.error}"


@pytest.mark.parametrize(
    "logs",
    [
        pytest.param([f"{MISSING}\n" * 4], id="four workers that say so and go on"),
        pytest.param([f"{MISSING}\n" * count for count in (1, 2, 2, 3)], id="three workers that come one by one"),
        pytest.param(
            ["".join(f"ModuleNotFoundError: No module named 'opt{n}'\n" for n in range(count)) for count in range(30)],
            id="plugins that are missing, one after the other",
        ),
        pytest.param([f"ConnectionRefusedError: count {count}\n" * count for count in range(30)], id="no import error"),
    ],
)
def test_what_may_be_mended_by_waiting(logs: list[str]) -> None:
    assert ended_at(SILENT, logs) == (0, "")


def test_where_it_listens_is_asked_twice() -> None:
    nobody = Probe(error="no socket", nobody=True)
    assert ended_at(nobody, [""], "it listens on tcp port 80") == (2, "it listens on tcp port 80: no socket")
    assert ended_at(SILENT, [""], "it listens on tcp port 80") == (0, "")


@pytest.mark.parametrize(("status", "ends"), [(404, True), (400, True), (308, True), (429, False), (500, False)])
def test_an_answer_that_stays(status: int, ends: bool) -> None:
    second, why = ended_at(Probe(status, error=f"answered {status}"), [""])
    assert (second, why) == ((1 + MEANS_IT, f"the same for 10 s: answered {status}") if ends else (0, ""))
