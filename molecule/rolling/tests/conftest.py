"""One fleet for all tests of the scenario: they are a story, and run in the order of the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployment import assert_nothing_lost
from fleet import AT_ONCE, Fleet, over_ssh
from soak import LONG

# A host waits for its websockets and long requests before it stops a slot, so these are short here.
MODEST = [
    "--rate",
    "15",
    "--stream-pause",
    "10",
    "--slow-seconds",
    "2",
    "--websocket-seconds",
    "3",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the file of long tests. Molecule names each file, and one that is named is not ignored by pytest."""
    left = [] if LONG else [item for item in items if item.path.name == "test_4_long.py"]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rolling")


@pytest.fixture(scope="session")
def fleet(scratch: Path) -> Fleet:
    return Fleet(
        inventory=over_ssh(scratch),
        url=os.environ["SLIPWAY_URL"],
        scratch=scratch,
        usual={
            "fastapi_image_context": str(scratch / "source"),
            # Long enough for the load's long requests, short enough for websockets that stay to be cut.
            "fastapi_app_drain": 12,
            "fastapi_app_soak": 0,
            "fastapi_app_gate_deadline": 60,
            # The scenario release has it; here it is three processes that load the app for nothing.
            "fastapi_app_check_command": [],
            "fastapi_app_workers": 1,
            # Ten a second are asked by default, as in the scenario `default`; here a load asks beside it.
            "slipway_probe_rate": 4,
        },
    )


@pytest.fixture(scope="session", autouse=True)
def first(fleet: Fleet) -> str:
    """A source of the scenario's own, since the checkout may change while it runs; returns the release made of it."""
    fleet.source("source")
    outcome = fleet.deploy(**fleet.release("first"), **AT_ONCE)
    assert outcome.code == 0, outcome.output
    return fleet.version()["release"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def loaded(fleet: Fleet, request: pytest.FixtureRequest) -> Iterator[None]:
    """One modest load over a whole file of tests; what it saw is judged after the last of them."""
    with fleet.load(request.module.__name__, *MODEST) as report:
        yield
    assert_nothing_lost(report)
