"""What else is on a host, by the files that the roles put there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release import neighbours
from ansible_collections.slipway.fleet.plugins.module_utils.release.neighbours import App, others, services

from tests.templates.rendering import Role

NOWHERE = Path("/nonexistent")
DATABASE = {"postgres_database": "a", "postgres_user": "a", "postgres_password": "b" * 16, "postgres_memory_mib": 400}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def release(apps: Path, name: str, template: str) -> None:
    """An app that serves a release as the role renders it."""
    app = Role("fastapi_app", fastapi_app_name=name, fastapi_app_memory_mib=300, fastapi_app_workers=3)
    write(apps / name / "releases/one" / template.removesuffix(".j2"), app.render(template))
    write(apps / name / "state.json", json.dumps({"release": "one", "slot": "blue"}))


def test_a_host_without_anything_has_nothing(tmp_path: Path) -> None:
    assert services(tmp_path, NOWHERE) == {}
    assert others(tmp_path, "shop") == {}


def test_database_and_cache_in_containers(tmp_path: Path) -> None:
    write(tmp_path / "postgres/compose.yaml", Role("postgres", **DATABASE).render("compose.yaml.j2"))
    cache = Role("redis", redis_password="b" * 16, redis_memory_mib=96)
    write(tmp_path / "redis/compose.yaml", cache.render("compose.yaml.j2"))
    assert services(tmp_path, NOWHERE) == {"postgres": 400, "redis": 96}


def test_database_and_cache_of_the_distribution(tmp_path: Path) -> None:
    database = Role("postgres", postgres_provider="native", **DATABASE)
    write(tmp_path / "postgres/config/postgresql.conf", database.render("postgresql.conf.j2"))
    cache = Role("redis", redis_provider="native", redis_password="b" * 16, redis_memory_mib=96)
    write(tmp_path / "units/redis-server.service.d/slipway.conf", cache.render("unit.conf.j2"))
    assert services(tmp_path, tmp_path / "units") == {"postgres": 400, "redis": 96}
    # What a former provider left there takes nothing.
    write(tmp_path / "postgres/compose.yaml", "    mem_limit: 999m\n")
    write(tmp_path / "postgres/server.json", json.dumps({"app": "a", "settings": {"postgres_provider": "native"}}))
    assert services(tmp_path, tmp_path / "units") == {"postgres": 400, "redis": 96}


def test_caches_beside_the_first_one(tmp_path: Path) -> None:
    shop = Role("redis", redis_instance="shop", redis_password="b" * 16, redis_memory_mib=64)
    write(tmp_path / "redis/instances/shop/compose.yaml", shop.render("compose.yaml.j2"))
    tiles = Role("redis", redis_instance="tiles", redis_provider="native", redis_password="b" * 16, redis_memory_mib=48)
    write(tmp_path / "redis/instances/tiles/config/redis.conf", tiles.render("redis.conf.j2"))
    (unit,) = (item["dest"] for item in tiles.value("__redis_unit_files") if item["dest"].endswith(".conf"))
    write(tmp_path / "units" / Path(unit).relative_to("/etc/systemd/system"), tiles.render("unit.conf.j2"))
    assert services(tmp_path, tmp_path / "units") == {"redis-shop": 64, "redis-tiles": 48}


@pytest.mark.parametrize("template", ["compose.yaml.j2", "unit.service.j2"])
def test_other_apps_by_the_release_that_serves(tmp_path: Path, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "processors", lambda: 8)
    release(tmp_path, "shop", template)
    release(tmp_path, "tiles", template)
    processes = {"worker": {"command": ["w"], "replicas": 2, "memory_mib": 100, "cpus": 0.5}}
    write(tmp_path / "tiles/releases/one/processes.json", json.dumps(processes))
    assert others(tmp_path, "shop") == {"tiles": App(500, 5, 3.0)}
    assert others(tmp_path, "tiles") == {"shop": App(300, 3, 2.0)}
    monkeypatch.setattr(neighbours, "processors", lambda: 1)
    assert others(tmp_path, "tiles") == {"shop": App(300, 3, 1.0)}, "none has more than there are"
    write(tmp_path / "units/slipway-tiles@job-nightly.timer", "")
    assert others(tmp_path, "shop", tmp_path / "units") == {"tiles": App(800, 5, 2.0)}, "a job beside the slot"


def test_records_that_cannot_be_read_count_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "shop/state.json", "{")
    write(tmp_path / "tiles/state.json", json.dumps({"release": "gone"}))
    assert others(tmp_path, "links") == {"tiles": App(0, 1)}
