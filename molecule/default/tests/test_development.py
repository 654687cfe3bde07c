"""The setup for development, started on a host that has its images: a change is seen live."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from contract import ROOT, Promise, until

PLACE = "/root/development"
# Beside what the host serves itself.
PORTS = {"WEB_PORT": 18000, "POSTGRES_PORT": 15432, "REDIS_PORT": 16379}
IMAGES = {"POSTGRES_IMAGE": "slipway.lab/postgres:17", "REDIS_IMAGE": "slipway.lab/redis:8"}
COMPOSE = f"cd {PLACE} && env {' '.join(f'{key}={value}' for key, value in (PORTS | IMAGES).items())} docker compose"


@pytest.fixture
def development(host: Any, name: str, promise: Promise) -> Iterator[str]:
    """The setup runs, with the image that the host serves from and a copy of the app's source; its URL."""
    host.check_output(f"mkdir -p {PLACE}")
    for part in ("compose.yaml", "app"):
        subprocess.run(["docker", "cp", str(ROOT / part), f"{name}:{PLACE}/{part}"], check=True, capture_output=True)
    host.check_output(f"chmod -R a+rX {PLACE}/app")
    image = host.check_output(f"docker ps --filter label=slipway.app={promise.app} --format '{{{{.Image}}}}'").split()[
        0
    ]
    host.check_output(f"docker tag {image} shortlinks-development")
    try:
        host.check_output(f"{COMPOSE} up --detach --no-build 2>&1")
        yield f"http://127.0.0.1:{PORTS['WEB_PORT']}"
    finally:
        host.check_output(f"{COMPOSE} down --volumes 2>&1 && docker image rm shortlinks-development && rm -r {PLACE}")


def test_a_change_is_seen_live_and_the_services_answer_on_loopback(host: Any, development: str) -> None:
    def answers(path: str) -> bool:
        ask = f"import urllib.request as u; u.urlopen('{development}{path}', timeout=60)"
        return bool(host.run(f'python3 -c "{ask}"').rc == 0)

    until(lambda: answers("/readyz"), "the development setup is ready")
    assert not answers("/seen/live")
    change = r"\n\n@app.get('/seen/live')\nasync def seen_live() -> str:\n    return 'live'\n"
    host.check_output(f'printf "{change}" >>{PLACE}/app/main.py')
    until(lambda: answers("/seen/live"), "the change is live")

    sockets = host.check_output("ss --no-header --listening --tcp --numeric | awk '{print $4}'").split()
    for port in PORTS.values():
        assert [address for address in sockets if address.endswith(f":{port}")] == [f"127.0.0.1:{port}"]
    assert host.check_output(f"{COMPOSE} exec -T redis redis-cli -h 127.0.0.1 ping") == "PONG"
    said = host.check_output(f"{COMPOSE} exec -T postgres pg_isready --host 127.0.0.1 --username shortlinks")
    assert "accepting connections" in said
