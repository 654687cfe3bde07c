"""The development setup, as far as it can be judged without Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import load_settings
from lab.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])


def test_the_app_accepts_its_settings_and_they_fit_the_services(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRETS_DIR", "/nowhere")
    database = services["postgres"]["environment"]
    for name in ("web", "migrate"):
        for variable, value in services[name]["environment"].items():
            monkeypatch.setenv(variable, value)
        url = load_settings().database()
        assert url.host in services
        assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
        assert url.password == database["POSTGRES_PASSWORD"]


def test_nothing_waits_for_a_health_that_nobody_checks(services: dict[str, Any]) -> None:
    for service in services.values():
        for other, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], other


def test_images_are_those_that_the_lab_has(services: dict[str, Any]) -> None:
    official = {recipe.official for recipe in RECIPES}
    images = [services["postgres"]["image"], services["redis"]["image"]]
    images += [services[name]["build"]["args"]["BASE_IMAGE"] for name in ("web", "migrate")]
    assert {image.partition(":-")[2].removesuffix("}") for image in images} <= official


def test_only_this_machine_reaches_it(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == len({"web", "postgres", "redis"})
    assert all(port.startswith("127.0.0.1:") for port in ports)
