"""A host changes its runtime by releases, there and back and there again, and nobody notices."""

from __future__ import annotations

from typing import Any

from contract import ROOT, SELDOM, Promise, read_json, until
from deployment import Deployment, assert_nothing_lost

ENOUGH = 2000  # requests over all changes
UNDER_SYSTEMD = {
    "fastapi_app_runtime": "systemd",
    "fastapi_app_command": ["gunicorn", "--config", "/srv/gunicorn_conf.py", "app.main:app"],
    "fastapi_app_environment": {
        "DATABASE_URL": "postgresql+asyncpg://shortlinks@127.0.0.1:5432/shortlinks",
        "REDIS_URL": "redis://127.0.0.1:6379/0",
    },
}


def slots(host: Any, promise: Promise) -> tuple[int, int]:
    """How many containers and units of the app are there."""
    containers = host.check_output(f"docker ps --all --quiet --filter label=slipway.app={promise.app}")
    units = host.check_output(f"ls /etc/systemd/system | grep '^slipway-{promise.app}@' || true")
    return len(containers.split()), len(units.split())


def test_there_and_back_and_there_again(deployment: Deployment, host: Any, promise: Promise) -> None:
    first = deployment.version()["release"]
    source = deployment.made_from(str(ROOT))
    with deployment.load("switch", "--at-least", str(ENOUGH)) as report:
        prepared = deployment.play("provision", **UNDER_SYSTEMD)
        assert prepared.code == 0, prepared.output
        there = deployment.deploy(**source, **UNDER_SYSTEMD)
        assert there.code == 0, there.output
        second = deployment.version()["release"]
        until(lambda: slots(host, promise) == (0, 1), "the container has drained and is gone", every=SELDOM)

        back = deployment.play("rollback")
        assert back.code == 0, back.output
        assert deployment.version()["release"] == first, "the same release as before, by its own runtime"
        until(lambda: slots(host, promise) == (1, 0), "the unit has drained and is gone", every=SELDOM)

        again = deployment.deploy(**source, **UNDER_SYSTEMD)
        assert again.code == 0, again.output
    assert_nothing_lost(report)
    assert report["total"] >= ENOUGH
    assert [(seen["release"], seen["slot"]) for seen in report["releases"]] == [(first, "blue"), (second, "green")]


def test_the_records_and_the_database_are_one(deployment: Deployment, host: Any, promise: Promise) -> None:
    state = read_json(host, f"{promise.root}/state.json")
    assert state["release"] == deployment.version()["release"]
    observed = deployment.play("status")
    assert observed.code == 0, observed.output
    volumes = host.check_output("docker volume ls --quiet").split()
    assert {"slipway-postgres-data", "slipway-redis-data"} <= set(volumes), "left where they were"


def test_the_database_moves_when_asked_to(deployment: Deployment, host: Any) -> None:
    """Into the distribution's package, with every row; the app then reaches it over its socket."""
    links = deployment.get("/links/export")
    assert links[0] == 200
    # Its port on the host belongs to the container, which still runs.
    native = {"postgres_provider": "native", "postgres_publish": ""}
    for playbook in ("provision", "adopt_database"):
        outcome = deployment.play(playbook, **UNDER_SYSTEMD, **native)
        assert outcome.code == 0, outcome.output
    again = deployment.play("adopt_database", **UNDER_SYSTEMD, **native)
    assert (again.code, again.changed) == (0, 0), again.output

    on_socket = {"DATABASE_URL": "postgresql+asyncpg://shortlinks@/shortlinks?host=/run/postgresql"}
    environment = UNDER_SYSTEMD["fastapi_app_environment"]
    assert isinstance(environment, dict)
    outcome = deployment.deploy(
        **deployment.made_from(str(ROOT)),
        **UNDER_SYSTEMD | native | {"fastapi_app_environment": environment | on_socket},
    )
    assert outcome.code == 0, outcome.output
    host.check_output("docker stop slipway-postgres-postgres-1")
    assert deployment.get("/readyz")[0] == 200
    assert deployment.get("/links/export") == links
