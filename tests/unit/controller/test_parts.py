"""The plays of a run and how long each took."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.parts import timed


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([], []),
        ([("Preflight", 1.0)], [("Preflight", 1.0, 9.0)]),
        ([("Preflight", 1.0), ("Hold", 3.0)], [("Preflight", 1.0, 3.0), ("Hold", 3.0, 9.0)]),
        (
            [("Stage", 1.0), ("Roll", 2.0), ("Roll", 4.0), ("Roll", 6.0), ("Settle", 8.0)],
            [("Stage", 1.0, 2.0), ("Roll", 2.0, 8.0), ("Settle", 8.0, 9.0)],
        ),
    ],
    ids=["none", "one", "two", "batches are one play"],
)
def test_timed(marks: list[tuple[str, float]], expected: list[tuple[str, float, float]]) -> None:
    assert [(play["name"], play["start"], play["end"]) for play in timed(marks, 9.0)] == expected
