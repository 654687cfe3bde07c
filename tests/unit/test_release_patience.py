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


def ending(*numbers: object, error: str = MISSING) -> str:
    """What processes with these numbers write where their code ends them."""
    return "".join(
        f"Process SpawnProcess-{number}:\nTraceback (most recent call last):\n{error}\n" for number in numbers
    )


UNLOADED = 'Error loading ASGI app. Could not import module "mian"'


@pytest.mark.parametrize(
    ("log", "error"),
    [
        pytest.param(
            ending(1, 2), MISSING, id="both workers, and none is started anew for as long as they may be silent"
        ),
        pytest.param(f"ERROR:    {UNLOADED}.\n" * 2, UNLOADED, id="a module that is not there"),
        pytest.param(
            ending(2, 1, error=f"ModuleNotFoundError: No module named 'uvloop'\n\nDuring handling:\n{MISSING}"),
            MISSING,
            id="one error while another is handled",
        ),
    ],
)
def test_workers_that_have_ended_are_not_waited_for(log: str, error: str) -> None:
    assert ended_at(SILENT, [log]) == (1 + MEANS_IT, f"{error}, with which its workers end: {SILENT.error}")


@pytest.mark.parametrize(
    "log",
    [
        pytest.param(ending(1), id="one worker"),
        pytest.param(ending("1:1", "2:1"), id="what two workers have started"),
        pytest.param(f"INFO:     Started server process [9]\n{ending(1, 2)}", id="another one has imported the app"),
        pytest.param(ending(1, 2, error="ConnectionRefusedError: no database"), id="no import error"),
        pytest.param(ending(1, error=MISSING) + ending(2, error="ImportError: other"), id="each with its own"),
    ],
)
def test_workers_that_may_come_yet_are_waited_for(log: str) -> None:
    assert ended_at(SILENT, [log]) == (0, "")


# What is read of a log in the tests below.
LINES = 200


def windows(written: list[str]) -> list[str]:
    """The last lines of a log at each look, of what was written before each."""
    return ["".join("".join(written[: n + 1]).splitlines(keepends=True)[-LINES:]) for n in range(len(written))]


def test_a_log_that_is_as_long_as_what_is_read_moves_on() -> None:
    """The number of errors in it stays the same."""
    traced = ["".join(f"  File {n}.py, line {line}\n" for line in range(150)) + f"{MISSING}\n" for n in range(30)]
    assert ended_at(SILENT, windows(traced)) == (4, f"{MISSING}, again each time that a worker starts: {SILENT.error}")


@pytest.mark.parametrize("end", ["\n", ""], ids=["lines", "one line that goes on"])
def test_an_error_that_was_logged_once_is_none_that_comes_again(end: str) -> None:
    """It stays among the last lines while others come."""
    waiting = [f"{MISSING}\n", *(f"waiting for the database, {n} s{end}" for n in range(30))]
    assert ended_at(SILENT, windows(["early\n" * (LINES - 1), *waiting])) == (0, "")


def test_where_it_listens_is_asked_twice() -> None:
    nobody = Probe(error="no socket", nobody=True)
    assert ended_at(nobody, [""], "it listens on tcp port 80") == (2, "it listens on tcp port 80: no socket")
    assert ended_at(SILENT, [""], "it listens on tcp port 80") == (0, "")


@pytest.mark.parametrize(("status", "ends"), [(404, True), (400, True), (308, True), (429, False), (500, False)])
def test_an_answer_that_stays(status: int, ends: bool) -> None:
    second, why = ended_at(Probe(status, error=f"answered {status}"), [""])
    assert (second, why) == ((1 + MEANS_IT, f"the same for 10 s: answered {status}") if ends else (0, ""))
