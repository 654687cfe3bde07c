"""The apps of this scenario, as their teams would write their inventories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import ssh_inventory
from foreign import ADDRESS, HOST, QUICK, App

APPS = Path(__file__).resolve().parents[1] / "apps"
# Where no registry is reached, the lab's Python image stands in for python:3.13-slim. Lab hosts share the memory of
# one machine.
LAB = {
    "fastapi_image_build_args": {"PYTHON": "slipway.lab/python:3.13"},
    "fastapi_app_memory_mib": 192,
    "fastapi_app_disk_reserve": 256,
}


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Write the inventory of an app, which has what its team would write, and make it ready for the lab."""

    def make(**variables: Any) -> App:
        name = variables["fastapi_app_name"]
        scratch = tmp_path_factory.mktemp(name)
        inventory = ssh_inventory(scratch, {HOST: ADDRESS}, {"web": [HOST]})
        (scratch / "group_vars").mkdir()
        (scratch / "group_vars" / "web.yml").write_text(yaml.safe_dump(LAB | variables))
        names = tuple(variables["fastapi_app_host_names"])
        return App(inventory=inventory, url="", scratch=scratch, usual=QUICK, name=name, names=names)

    return make


@pytest.fixture(scope="session")
def tiles(make_app: Any) -> App:
    app: App = make_app(
        fastapi_app_name="tiles",
        fastapi_app_host_names=["tiles.example.org"],
        fastapi_image_context=str(APPS / "tiles"),
        fastapi_app_port=80,
        fastapi_app_health_path="/healthz",
    )
    return app


@pytest.fixture(scope="session")
def shop(make_app: Any) -> App:
    app: App = make_app(
        fastapi_app_name="shop",
        fastapi_app_host_names=["shop.example.org"],
        fastapi_image_context=str(APPS / "shop"),
        fastapi_app_port=8000,
        fastapi_app_volumes={"uploads": "/home/shop/uploads"},
        fastapi_app_health_path="/health/",
        fastapi_app_environment={
            "PRICE_FORMAT": '$ {price} 100% "net"',
            "ORIGINS": ["https://shop.example.org", "https://www.example.org"],
            "BETA": True,
        },
        fastapi_app_secrets={"PAYMENT_KEY": "planted-$payment-key"},
    )
    return app


@pytest.fixture(scope="session")
def board(make_app: Any) -> App:
    app: App = make_app(
        fastapi_app_name="board",
        fastapi_app_host_names=["board.example.org", "forum.example.org"],
        fastapi_image_context=str(APPS / "board"),
        fastapi_app_port=5000,
        fastapi_app_health_path="/",
    )
    return app
