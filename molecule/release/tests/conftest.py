"""One deployment for all tests of the scenario: they are a story, and run in the order of the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from contract import Promise, inventory_file, promise_of, variables
from deployment import Deployment


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="session")
def deployment(scratch: Path) -> Deployment:
    return Deployment(
        inventory=inventory_file(),
        url=os.environ["SLIPWAY_URL"],
        scratch=scratch,
        # Long enough for the load's requests of five seconds, short enough for websockets that stay to be cut.
        usual={"fastapi_app_drain": 8, "fastapi_app_gate_deadline": 20},
    )


@pytest.fixture(scope="module", autouse=True)
def name(host: Any) -> str:
    """Name of the host, in the inventory and as a container. Every test asks for it, or pytest would reorder them."""
    found: str = host.check_output("hostname")
    return found


@pytest.fixture(scope="module")
def promise(name: str) -> Promise:
    return promise_of(name)


@pytest.fixture(scope="module")
def environment(name: str) -> dict[str, str]:
    """The app's environment as the inventory has it."""
    found: dict[str, str] = variables(name)["fastapi_app_environment"]
    return found
