"""On which hosts there can be no engine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.saying import says

RIGHT: dict[str, Any] = {
    "ansible_facts": {"distribution": "Debian"},
    "docker_engine_source": "distribution",
    "docker_engine_networks": ["slipway", "a.b_c-1"],
    "__docker_engine_platform": "Debian 13\n",
    "__docker_engine_sources": {
        "distribution": {"platforms": {"Debian 13": "trixie"}},
        "docker": {"platforms": {"Debian 12": "bookworm", "Debian 13": "trixie"}},
    },
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"docker_engine_source": "docker"}, []),
        ({"ansible_facts": {}}, ["facts of this host were not gathered"]),
        (
            {"__docker_engine_platform": "Debian 12"},
            ["docker_engine_source is distribution, which has no Docker Engine with Compose v2 for Debian 12. Set"],
        ),
        ({"__docker_engine_platform": "Fedora 42"}, ["Use a host with Debian 12, Debian 13."]),
        ({"docker_engine_networks": ["my net", "-x"]}, ['is "my net"; use letters, digits', 'is "-x"; use']),
    ],
)
def test_hosts_without_an_engine(changed: dict[str, Any], said: list[str]) -> None:
    says("docker_engine", RIGHT | changed, *said)
