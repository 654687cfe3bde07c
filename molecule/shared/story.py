"""Fixtures of tests that deploy, loaded by PYTEST_PLUGINS: one deployment for all tests of a module and a host.

They are a story, and run in the order of the file.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import testinfra
from contract import ROOT, Promise, inventory_file, promise_of, variables
from deployment import Deployment


def edge_of(name: str) -> str:
    """Where the edge of a host is reached from here."""
    if url := os.environ.get("SLIPWAY_URL"):
        return url
    result = subprocess.run(["docker", "port", name, "80/tcp"], capture_output=True, text=True, check=True)
    return f"http://{result.stdout.split()[0]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take what does not depend on the distribution, marked `one_host`, on the first host of the scenario alone."""
    seen = set()
    spare = []
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("one_host"):
            cause = {name: value for name, value in item.callspec.params.items() if name != "_testinfra_host"}
            what = (item.path, item.originalname, repr(cause))
            if what in seen:
                spare.append(item)
            seen.add(what)
    config.hook.pytest_deselected(items=spare)
    items[:] = [item for item in items if item not in spare]


@pytest.fixture(scope="module")
def host(_testinfra_host: Any) -> Any:
    """The host, asked by `docker exec` where it is a container: Ansible's own command takes seconds for a question."""
    backend = _testinfra_host.backend
    return testinfra.get_host(f"docker://{backend.host}") if backend.NAME == "ansible" else _testinfra_host


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


@pytest.fixture(scope="module")
def deployment(name: str, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The playbooks against the host; one that was only provisioned gets its first release."""
    found = Deployment(
        inventory=inventory_file(),
        url=edge_of(name),
        scratch=tmp_path_factory.mktemp(name),
        limit=name,
        # Long enough for the load's requests of five seconds, short enough for websockets that stay to be cut; what
        # a soak is for has tests of its own.
        usual={
            "fastapi_app_drain": 8,
            "fastapi_app_soak": 2,
            "fastapi_app_gate_deadline": 60,
            # What a host has by default, its first release has in the scenario `default`: two workers, each of
            # which loads the app for itself where it is not preloaded, and a probe that asks ten times a second.
            "fastapi_app_workers": 1,
            "slipway_probe_rate": 4,
            # It would judge a machine that has other work, too.
            "fastapi_app_canary": {"judged": False},
        },
    )
    if found.get("/version")[0] != 200:
        first = found.deploy(**found.made_from(str(ROOT)))
        assert first.code == 0, first.output
    return found
