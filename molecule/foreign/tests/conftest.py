"""The apps of this scenario, as their teams would write their inventories."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import on, ssh_inventory
from foreign import ADDRESS, HOST, QUICK, App

Make = Callable[..., App]
BROKER_PORT = 6399
APPS = Path(__file__).resolve().parents[1] / "apps"
# Where no registry is reached, the lab's Python image stands in for python:3.13-slim. Lab hosts share the memory of
# one machine.
LAB = {
    "fastapi_image_build_args": {"PYTHON": "slipway.lab/python:3.13"},
    "fastapi_app_memory_mib": 192,
    "fastapi_app_disk_reserve": 256,
}


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Write the inventory of an app, which has what its team would write, and make it ready for the lab."""

    def make(**variables: Any) -> App:
        name = str(variables["fastapi_app_name"])
        whole: dict[str, Any] = LAB | variables
        scratch = tmp_path_factory.mktemp(name)
        inventory = ssh_inventory(scratch, {HOST: ADDRESS}, {"web": [HOST]})
        (scratch / "group_vars").mkdir()
        (scratch / "group_vars" / "web.yml").write_text(yaml.safe_dump(whole))
        names = tuple(variables["fastapi_app_host_names"])
        place: dict[str, Any] = {"inventory": inventory, "url": "", "scratch": scratch, "usual": QUICK}
        return App(**place, name=name, variables=whole, names=names)

    return make


@pytest.fixture(scope="session")
def broker() -> Callable[[], Any]:
    """Start what stands in for a broker, beside the host's apps; returns a way to ask what it has seen."""
    subprocess.run(["docker", "cp", str(APPS / "broker.py"), f"{HOST}:/usr/local/bin/broker.py"], check=True)
    start = f"[Service]\\nExecStart=python3 /usr/local/bin/broker.py {BROKER_PORT}\\n"
    unit = start + "[Install]\\nWantedBy=multi-user.target\\n"
    on(HOST, f"printf '{unit}' >/etc/systemd/system/broker.service && systemctl enable --now broker")

    def told() -> Any:
        with urllib.request.urlopen(f"http://{ADDRESS}:{BROKER_PORT}/told", timeout=10) as answer:
            return json.load(answer)

    return told


@pytest.fixture(scope="session")
def tiles(make_app: Make) -> App:
    return make_app(
        fastapi_app_name="tiles",
        fastapi_app_host_names=["tiles.example.org"],
        fastapi_image_context=str(APPS / "tiles"),
        fastapi_app_port=80,
        fastapi_app_health_path="/healthz",
    )


@pytest.fixture(scope="session")
def shop(make_app: Make) -> App:
    return make_app(
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
            "BROKER": f"{ADDRESS}:{BROKER_PORT}",
        },
        fastapi_app_secrets={"PAYMENT_KEY": "planted-$payment-key"},
        fastapi_app_processes={
            "worker": {"command": ["python", "-m", "src.worker"], "replicas": 2, "stop_grace": 60, "memory_mib": 64},
            "beat": {"command": ["python", "-m", "src.beat"], "singleton": True, "memory_mib": 64},
        },
        fastapi_app_jobs={
            "tally": {"command": ["python", "-m", "src.tally"], "schedule": "*:*:0/10", "limit": 60},
            "ledger": {"command": ["sh", "-c", "echo no ledger of $RELEASE_APP today; exit 3"], "schedule": "*-01-01"},
        },
    )


@pytest.fixture(scope="session")
def board(make_app: Make) -> App:
    return make_app(
        fastapi_app_name="board",
        fastapi_app_host_names=["board.example.org", "forum.example.org"],
        fastapi_image_context=str(APPS / "board"),
        fastapi_app_port=5000,
        fastapi_app_health_path="/",
        fastapi_app_assets=["/srv/board/static"],
        fastapi_app_jobs={"yearly": {"command": ["true"], "schedule": "yearly"}},
    )


@pytest.fixture(scope="session")
def feed(make_app: Make) -> App:
    return make_app(
        fastapi_app_name="feed",
        fastapi_app_host_names=["feed.example.org"],
        fastapi_image_context=str(APPS / "feed"),
        fastapi_app_port=8080,
        fastapi_app_health_path="/",
    )


@pytest.fixture(scope="session")
def depot(make_app: Make) -> App:
    """Nothing in its image but Python could make a variable of the secret."""
    return make_app(
        fastapi_app_name="depot",
        fastapi_app_host_names=["depot.example.org"],
        fastapi_image_context=str(APPS / "depot"),
        fastapi_app_port=8000,
        fastapi_app_health_path="/ready",
        fastapi_app_secrets={"DEPOT_KEY": "planted-key"},
    )
