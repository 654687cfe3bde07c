"""Variables that are almost known ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import known_variables, misspelled

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("fastapi_app_enviroment", "fastapi_app_environment"),
        ("fastapi_app_worker", "fastapi_app_workers"),
        ("fastapi_app_soak_", "fastapi_app_soak"),
        ("slipway_batch", "slipway_batches"),
        ("postgres_pasword", "postgres_password"),
        ("fastapi_app_environment", None),
        ("fastapi_app_doctor_result", None),
        ("redis_exporter_port", None),
        ("haproxy_stats_password", None),
        ("vault_postgres_password", None),
        ("ansible_host", None),
    ],
)
def test_misspelled(name: str, meant: str | None) -> None:
    assert misspelled([name], known_variables()).get(name) == meant


def test_every_input_of_a_role_is_known() -> None:
    known = known_variables()
    for defaults in ROOT.glob("roles/*/defaults/main.yml"):
        assert set(yaml.safe_load(defaults.read_text()) or {}) <= known


@pytest.mark.parametrize("inventory", sorted(ROOT.glob("inventories/*")), ids=lambda path: path.name)
def test_the_inventories_here_are_spelled_right(inventory: Path) -> None:
    names: set[str] = set()
    for path in inventory.rglob("group_vars/*/*.yml"):
        text = path.read_text()
        names |= set() if text.startswith("$ANSIBLE_VAULT") else set(yaml.safe_load(text) or {})
    assert misspelled(names, known_variables()) == {}
