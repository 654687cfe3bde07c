"""Releases under load, good ones and broken ones. Each test starts from what the one before it left serving."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from contract import Promise, assert_no_secret, read_json, running_slots, until
from deployment import Deployment, assert_nothing_lost

# What a release does is the same on every distribution; that it serves there, other tests of a scenario show.
pytestmark = pytest.mark.one_host

ENOUGH = 1000  # requests over the two good releases
# References, not values: what is planted is decrypted on the controller only, as in a real inventory.
SECRETS = {
    "DATABASE_PASSWORD": "{{ vault_postgres_password }}",
    "REDIS_PASSWORD": "{{ vault_redis_password }}",
    "SECRET_KEY": "{{ vault_secret_key }}",
}
# Put at the end of app/main.py: the app with one thing that goes wrong.
IMPORT_ERROR = "\nimport a_module_that_nobody_has  # noqa: F401 - it is there to fail\n"
UNREADY = """

_whole = app


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "http" and scope["path"] == "/readyz":
        raise RuntimeError("readiness is broken on purpose")
    await _whole(scope, receive, send)
"""
GREEDY = """

_whole = app
_eaten = []


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "lifespan":
        _eaten.append(b"x" * (1 << 30))
    await _whole(scope, receive, send)
"""


def test_two_releases_lose_nothing(deployment: Deployment) -> None:
    first = deployment.version()["release"]
    served = [first]
    with deployment.load("good", "--at-least", str(ENOUGH)) as report:
        for name in ("v2", "v3"):
            source = deployment.source(name, {"app/__init__.py": f"\n# {name}\n"})
            outcome = deployment.deploy(**deployment.made_from(source), fastapi_app_revision=name)
            assert outcome.code == 0, outcome.output
            version = deployment.version()
            assert version["revision"] == name
            served.append(version["release"])
    assert len(set(served)) == 3, "each is a release of its own"
    assert_nothing_lost(report)
    assert report["total"] >= ENOUGH
    assert [seen["release"] for seen in report["releases"]] == served, "and each was seen serving, in this order"
    assert {seen["slot"] for seen in report["releases"]} == {"blue", "green"}


def test_the_same_deploy_again_changes_nothing(deployment: Deployment, host: Any, promise: Promise) -> None:
    until(lambda: len(running_slots(host, promise)) == 1, "the slot before has ended")
    before = deployment.version()
    started = running_slots(host, promise)
    source = str(deployment.scratch / "v3")
    outcome = deployment.deploy(**deployment.made_from(source), fastapi_app_revision="v3")
    assert outcome.code == 0, outcome.output
    assert outcome.changed == 0, outcome.output
    assert deployment.version() == before
    assert running_slots(host, promise) == started, "not even restarted"


def broken(fault: str, deployment: Deployment, environment: dict[str, str]) -> dict[str, Any]:
    """The variables of a release with one fault; everything else is as in what serves."""
    good = {"fastapi_app_revision": fault, "fastapi_app_gate_deadline": 25}
    in_code = {"import error": IMPORT_ERROR, "500 on readiness": UNREADY, "out of memory": GREEDY}
    in_variables: dict[str, dict[str, Any]] = {
        "wrong port": {"fastapi_app_environment": environment | {"GUNICORN_BIND": "0.0.0.0:9999"}},
        "missing secret": {"fastapi_app_secrets": {key: SECRETS[key] for key in SECRETS if key != "SECRET_KEY"}},
    }
    source = str(deployment.scratch / "v3")
    if fault in in_code:
        source = deployment.source(fault.replace(" ", "-"), {"app/main.py": in_code[fault]})
    return good | in_variables.get(fault, {}) | deployment.made_from(source)


@pytest.fixture(scope="class")
def load_over_all(deployment: Deployment) -> Iterator[None]:
    """One load over a whole class of tests; what it saw is judged after the last of them."""
    serving = deployment.version()["release"]
    with deployment.load("broken") as report:
        yield
    assert_nothing_lost(report)
    assert [seen["release"] for seen in report["releases"]] == [serving], "no broken release ever served"


@pytest.mark.usefixtures("load_over_all")
class TestBrokenReleases:
    @pytest.mark.parametrize(
        ("fault", "causes"),
        [
            ("import error", ["a_module_that_nobody_has"]),
            ("wrong port", ["listens on tcp port 9999"]),
            ("500 on readiness", ["/readyz", "500"]),
            ("out of memory", ["out of memory"]),
            ("missing secret", ["SECRET_KEY is missing"]),
        ],
    )
    def test_it_is_refused_and_its_cause_named(
        self,
        fault: str,
        causes: list[str],
        deployment: Deployment,
        environment: dict[str, str],
        host: Any,
        promise: Promise,
    ) -> None:
        before = deployment.version()
        outcome = deployment.deploy(**broken(fault, deployment, environment))
        assert outcome.code != 0, outcome.output
        for cause in causes:
            assert cause in outcome.failure(), outcome.output
        assert deployment.version() == before
        assert read_json(host, f"{promise.root}/state.json")["release"] == before["release"]
        assert not host.file(f"{promise.root}/intent.json").exists
        assert len(running_slots(host, promise)) == 1, "nothing of the refused release is left"


def test_a_changed_configuration_is_a_release(deployment: Deployment, environment: dict[str, str]) -> None:
    before = deployment.version()
    source = str(deployment.scratch / "v3")
    with deployment.load("configuration") as report:
        outcome = deployment.deploy(
            **deployment.made_from(source),
            fastapi_app_revision="v3",
            fastapi_app_environment=environment | {"HITS_FLUSH_INTERVAL": "0.5"},
        )
    assert outcome.code == 0, outcome.output
    assert deployment.version()["release"] != before["release"]
    assert_nothing_lost(report)


def test_a_changed_secret_is_a_release_and_stays_secret(deployment: Deployment, host: Any, promise: Promise) -> None:
    before = deployment.version()
    canary = "canary-9bY2kQ-of-the-release-scenario"
    outcome = deployment.deploy(
        "--diff",
        "-vvv",
        **deployment.made_from(str(deployment.scratch / "v3")),
        fastapi_app_revision="v3",
        fastapi_app_secrets=SECRETS | {"SECRET_KEY": canary},
    )
    assert outcome.code == 0, outcome.output
    assert deployment.version()["release"] != before["release"]
    assert canary not in outcome.output, "not even with --diff -vvv"
    assert_no_secret(host, {"canary": canary}, app=promise)


def test_the_ledger_tells_all_of_it(host: Any, promise: Promise) -> None:
    lines = host.file(f"{promise.root}/ledger.jsonl").content_string.splitlines()
    entries = [entry for entry in map(json.loads, lines) if "release" in entry]
    story = entries[max(number for number, entry in enumerate(entries) if entry.get("revision") == "v2") :]
    good = [entry["revision"] for entry in story if entry.get("result") == "good"]
    assert good == ["v2", "v3", "v3", "v3"], "the code twice, the configuration, the secret"
    failed = [entry for entry in story if entry.get("result") == "failed"]
    assert "out of memory" in {entry["revision"] for entry in failed}
    assert all(entry["cause"] for entry in failed)


def test_a_reboot_brings_back_the_same_release(deployment: Deployment, name: str) -> None:
    before = deployment.version()
    subprocess.run(["docker", "restart", name], check=True, capture_output=True, timeout=120)
    took = deployment.wait_until_serving()
    print(f"serving {took:.0f} s after the host was back")
    assert deployment.version() == before
