"""What a slot under systemd survives: killed workers and masters, memory, a stop with requests in flight."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from contract import PATIENCE, Promise, app_processes, live_slot, live_unit, requests_in_flight, shown, until
from deployment import Deployment, assert_nothing_lost

# Put at the end of app/main.py: a path that takes as much memory as there is.
HUNGRY = """

_whole = app
_eaten = []


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "http" and scope["path"] == "/eat":
        while True:
            _eaten.append(b"x" * (16 << 20))
    await _whole(scope, receive, send)
"""


@pytest.fixture
def unit(host: Any, promise: Promise) -> str:
    return live_unit(host, promise)


def workers(host: Any, promise: Promise, unit: str) -> list[int]:
    return [pid for pid in app_processes(host, promise) if pid != int(shown(host, unit, "MainPID"))]


def test_a_killed_worker_is_replaced(deployment: Deployment, host: Any, promise: Promise, unit: str) -> None:
    victim, *others = workers(host, promise, unit)
    host.check_output(f"kill -9 {victim}")
    until(lambda: victim not in workers(host, promise, unit), "the killed worker is gone")
    until(lambda: len(workers(host, promise, unit)) == 1 + len(others), "another worker is in its place")
    deployment.wait_until_serving()
    assert shown(host, unit, "NRestarts") == "0", "the master lives on"


def test_a_killed_master_is_started_again(deployment: Deployment, host: Any, promise: Promise, unit: str) -> None:
    before = deployment.version()
    old = app_processes(host, promise)
    host.check_output(f"kill -9 {shown(host, unit, 'MainPID')}")
    took = until(lambda: shown(host, unit, "NRestarts") == "1", "systemd starts the master again")
    print(f"back after {took + deployment.wait_until_serving():.1f} s")
    assert deployment.version() == before
    assert not set(old) & set(app_processes(host, promise)), "no worker of the old master is left"
    assert shown(host, unit, "NRestarts") == "1", "once"


def test_only_the_worker_that_takes_too_much_memory_is_killed(
    deployment: Deployment, host: Any, promise: Promise
) -> None:
    source = deployment.source("hungry", {"app/main.py": HUNGRY})
    outcome = deployment.deploy(**deployment.made_from(source), fastapi_app_revision="hungry")
    assert outcome.code == 0, outcome.output
    unit = live_unit(host, promise)
    master = shown(host, unit, "MainPID")
    status, _ = deployment.get("/eat")
    assert status != 200
    deployment.wait_until_serving()
    assert shown(host, unit, "MainPID") == master
    assert shown(host, unit, "ActiveState") == "active"
    journal = f"journalctl --no-pager --output=cat --unit={unit} --lines=200"
    until(lambda: "perhaps out of memory" in host.check_output(journal).lower(), "the master says why its worker ended")
    observed = deployment.play("status")
    assert observed.code == 0, observed.output
    assert re.search(rf" redis +cache +native +\d+ of \d+ MiB +{promise.app} +none", observed.output)


def test_a_stop_lets_requests_end(deployment: Deployment, host: Any, promise: Promise, unit: str) -> None:
    slot = live_slot(host, promise)
    answers: list[tuple[int, str]] = []
    # Long enough to be seen in the slot on a machine on which a look takes seconds.
    slow = threading.Thread(target=lambda: answers.append(deployment.get("/slow?seconds=20")))
    slow.start()
    until(lambda: requests_in_flight(host, promise, slot) > 0, "the request is in the slot")
    host.check_output(f"systemctl stop {unit}")
    ended = shown(host, unit, "Result")
    slow.join()
    host.check_output(f"systemctl start {unit}")
    assert answers[0][0] == 200, answers
    assert ended == "success", "nothing had to be killed at the end of TimeoutStopSec"
    deployment.wait_until_serving()


@pytest.mark.one_host
def test_a_missing_secret_stops_the_start_by_its_name(deployment: Deployment, host: Any, promise: Promise) -> None:
    """Of a release that is staged and whose secret then is gone; what serves is not touched."""
    before = deployment.version()
    release = host.check_output(f"ls -t {promise.root}/releases").split()
    (old,) = [name for name in release if name != before["release"]][:1]
    secret = f"{promise.root}/releases/{old}/secrets/SECRET_KEY"
    host.check_output(f"mv {secret} /run/kept")
    try:
        outcome = deployment.play("rollback", fastapi_app_release=old, fastapi_app_gate_deadline=PATIENCE)
    finally:
        host.check_output(f"mv /run/kept {secret}")
    assert outcome.code != 0, outcome.output
    assert "SECRET_KEY is missing" in outcome.output
    assert deployment.version() == before


def test_a_release_without_any_network(deployment: Deployment, host: Any, promise: Promise) -> None:
    """Database, cache and edge are sockets, so the app needs no network at all."""
    with deployment.load("local") as report:
        outcome = deployment.deploy(
            **deployment.made_from(str(deployment.scratch / "hungry")), fastapi_app_addresses=[]
        )
    assert outcome.code == 0, outcome.output
    assert_nothing_lost(report)
    unit = live_unit(host, promise)
    said = host.check_output(f"systemd-analyze security --no-pager {unit}")
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", said)
    assert found
    assert float(found[1]) <= 0.3, said
    assert deployment.get("/readyz")[0] == 200
    pid = shown(host, unit, "MainPID")
    assert host.check_output(f"nsenter --target {pid} --net ip -o link").count("\n") == 0, "the loopback alone"


@pytest.mark.one_host
def test_a_rollback_brings_the_earlier_unit_back(deployment: Deployment, host: Any, promise: Promise) -> None:
    """A release's own hardening and limits come with it."""
    outcome = deployment.play("rollback")
    assert outcome.code == 0, outcome.output
    assert shown(host, live_unit(host, promise), "PrivateNetwork") == "no"
    assert deployment.get("/readyz")[0] == 200
