"""Whose settings a shared server has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import UNNAMED, Access, AccessError, Login
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.keeping import Kept, keeper, read, takes

SHOP, TILES = Login("shop", "shop"), Login("tiles", "tiles")
BOTH = Access({"shop": (SHOP,), "tiles": (TILES,)})
LEGACY = Access({UNNAMED: (SHOP,)})


@pytest.mark.parametrize(
    ("known", "found", "app", "login", "whose"),
    [
        (None, Access({}), "shop", SHOP, "shop"),
        ("tiles", BOTH, "shop", SHOP, "tiles"),
        (None, BOTH, "tiles", TILES, "shop"),
        ("gone", BOTH, "tiles", TILES, "shop"),
        (None, LEGACY, "shop", SHOP, "shop"),
        (None, LEGACY, "tiles", TILES, UNNAMED),
    ],
)
def test_whose_they_are(known: str | None, found: Access, app: str, login: Login, whose: str) -> None:
    assert keeper(Kept(known, {}) if known else None, found, app, (login,)) == whose


HERE = {"postgres_max_connections": 100, "postgres_image": "postgres:17.6"}


@pytest.mark.parametrize(
    ("there", "shared", "taken"),
    [
        (HERE, "refuse", False),
        ({"postgres_max_connections": "100"}, "refuse", False),
        ({"postgres_max_connections": 200}, "keep", False),
        ({"postgres_max_connections": 200}, "replace", True),
    ],
)
def test_another_app_s_settings_are_left_alone(there: dict[str, Any], shared: str, taken: bool) -> None:
    assert takes(Kept("shop", there), "shop", Kept("tiles", HERE), shared) is taken


def test_other_settings_are_refused_with_both() -> None:
    with pytest.raises(AccessError) as refused:
        takes(Kept("shop", {"postgres_max_connections": 200}), "shop", Kept("tiles", HERE), "refuse")
    assert "are those of shop" in str(refused.value)
    assert "postgres_max_connections (there 200, here 100). Give both the same" in str(refused.value)


def test_one_s_own_are_taken_whatever_they_were() -> None:
    assert takes(Kept("shop", {"postgres_max_connections": 200}), "shop", Kept("shop", HERE), "refuse")


def test_the_record(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    assert read(file) is None
    file.write_text(Kept("shop", HERE).text)
    assert read(file) == Kept("shop", HERE)
    file.write_text("{")
    with pytest.raises(Damaged):
        read(file)
