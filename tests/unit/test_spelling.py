"""Variables that are almost known ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import (
    COLLECTION,
    known_variables,
    misspelled,
    unknown,
)

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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("slipway_release", "fastapi_app_release"),
        ("slipway_batch", "slipway_batches"),
        ("slipway_probe_url", "slipway_probe_urls"),
        ("slipway_urls", "slipway_url"),
        ("slipway_reason", "slipway_lock_reason"),
        ("slipway_image", "fastapi_app_image"),
        ("slipway_zebra", ""),
        ("slipway_url", None),
        ("slipway_lock_reason", None),
        ("slipway_zebra_result", None),
        ("zebra", None),
    ],
)
def test_of_names_that_begin_like_ours_none_is_ignored(name: str, meant: str | None) -> None:
    assert unknown([name], known_variables()).get(name) == meant


@pytest.mark.parametrize("place", ["docs", "inventories", "lab", "molecule"])
def test_what_is_written_of_variables_of_playbooks_is_known(place: str) -> None:
    """As `-e slipway_NAME=` or as a key of YAML."""
    said = re.compile(r"(?:-e |[\"'`{,] *|^ *)(slipway_[a-z_]+)(?:=|\"?: )", re.MULTILINE)
    files = [path for path in (ROOT / place).rglob("*") if path.suffix in {".md", ".yml", ".py"} and path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert unknown([name for text in texts for name in said.findall(text)], known_variables(), COLLECTION) == {}


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
