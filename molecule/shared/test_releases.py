"""Releases under load, good ones and broken ones. Each test starts from what the one before it left serving."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from contract import PATIENCE, ROOT, SECRET_FILES, SELDOM, Promise, assert_no_secret, read_json, running_slots, until
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
# A module of the app that says a secret in every way that programs have, and fails by it.
PLANTED = "Xk9'planted/\"<&%secret+valu\u00eb-of-the-broken-releases"
LEAK = """
import base64
import html
import json
import os
import urllib.parse
from pathlib import Path

from pydantic import BaseModel

directory = Path(os.environ.get("CREDENTIALS_DIRECTORY") or "/run/secrets")
secret = (directory / "PLANTED_KEY").read_text(encoding="utf-8").rstrip()
encoded = base64.b64encode(secret.encode()).decode()


class Settings(BaseModel):
    planted_key: int


def say():
    print("PLANTED_KEY", secret, repr(secret), secret.encode(), flush=True)
    print(urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), html.escape(secret))
    print(json.dumps({"message": json.dumps({"PLANTED_KEY": secret})}), secret.encode().hex())
    print(encoded, *(encoded[at : at + 19] for at in range(0, len(encoded), 19)), sep="\\n")
    print(*(f"\u2502 {secret[at : at + 13]} \u2502" for at in range(0, len(secret), 13)), sep="\\n", flush=True)
    Settings(planted_key=secret)


if __name__ == "__main__":
    say()
"""
# Put at the end of app/main.py: it does so where it is told to.
LEAKY = """
import os

from app import leak

_whole = app
if os.environ.get("LEAKS") == "settings":
    leak.say()


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "http" and scope["path"] == "/readyz" and os.environ["LEAKS"] == "gate":
        leak.say()
    await _whole(scope, receive, send)
"""
# Where a release fails that says its secret meanwhile.
LEAKS: dict[str, dict[str, Any]] = {
    "settings": {},
    "migration": {"fastapi_app_migrations": "", "fastapi_app_migrate_command": ["python3", "-m", "app.leak"]},
    "gate": {},
    "process": {"fastapi_app_processes": {"worker": {"command": ["python3", "-m", "app.leak"]}}},
}
# A busy machine may be as slow as it likes, and stand still for some seconds: in two nobody may ask the new release.
COUNTED = {"fastapi_app_canary": {"judged": True, "ms_difference": 60000}, "fastapi_app_soak": 10}
# A migration that has no end, and does not end when it is asked to.
ENDLESS = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3601)"
GREEDY = """

_whole = app
_eaten = []


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "lifespan":
        _eaten.append(b"x" * (1 << 30))
    await _whole(scope, receive, send)
"""


def test_two_releases_lose_nothing(deployment: Deployment, host: Any, promise: Promise) -> None:
    first = deployment.version()["release"]
    served = [first]
    with deployment.load("good", "--at-least", str(ENOUGH)) as report:
        for name in ("v2", "v3"):
            source = deployment.source(name, {"app/__init__.py": f"\n# {name}\n"})
            outcome = deployment.deploy(**deployment.made_from(source), fastapi_app_revision=name, **COUNTED)
            assert outcome.code == 0, outcome.output
            version = deployment.version()
            assert version["revision"] == name
            served.append(version["release"])
    assert len(set(served)) == 3, "each is a release of its own"
    assert_nothing_lost(report)
    assert report["total"] >= ENOUGH
    assert [seen["release"] for seen in report["releases"]] == served, "and each was seen serving, in this order"
    assert {seen["slot"] for seen in report["releases"]} == {"blue", "green"}
    lines = host.file(f"{promise.root}/ledger.jsonl").content_string.splitlines()
    canary = [entry["canary"] for entry in map(json.loads, lines) if entry.get("canary")][-1]
    assert canary["word"] != "worse", canary
    for slot in ("new", "old"):
        assert canary[slot]["requests"] > 0, "the edge of this host counts, whichever HAProxy and runtime it has"
        assert canary[slot]["errors"] == 0


def test_the_same_deploy_again_changes_nothing(deployment: Deployment, host: Any, promise: Promise) -> None:
    until(lambda: len(running_slots(host, promise)) == 1, "the slot before has ended", every=SELDOM)
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
    # A release that ends is refused when it does, and one that says 500 at the deadline: it has to be there by then.
    good = {"fastapi_app_revision": fault, "fastapi_app_gate_deadline": 60 if fault == "gate" else PATIENCE}
    in_code = {"import error": IMPORT_ERROR, "out of memory": GREEDY}
    in_variables: dict[str, dict[str, Any]] = {
        "wrong port": {"fastapi_app_environment": environment | {"GUNICORN_BIND": "0.0.0.0:9999"}},
        "endless migration": {
            "fastapi_app_migrations": "",
            "fastapi_app_migrate_command": ["python3", "-c", ENDLESS],
            "fastapi_app_migrate_timeout": 5,
        },
        "missing secret": {"fastapi_app_secrets": {key: SECRETS[key] for key in SECRETS if key != "SECRET_KEY"}},
    }
    source = str(deployment.scratch / "v3")
    if fault in LEAKS:
        source = leaky(deployment)
        in_variables[fault] = {
            "fastapi_app_environment": environment | {"LEAKS": fault},
            "fastapi_app_secrets": SECRETS | {"PLANTED_KEY": PLANTED},
            **LEAKS[fault],
        }
    if fault in in_code:
        source = deployment.source(fault.replace(" ", "-"), {"app/main.py": in_code[fault]})
    return good | in_variables.get(fault, {}) | deployment.made_from(source)


def leaky(deployment: Deployment) -> str:
    """One source for all of these."""
    if not (deployment.scratch / "leaky").exists():
        deployment.source("leaky", {"app/leak.py": LEAK, "app/main.py": LEAKY})
    return str(deployment.scratch / "leaky")


def pieces() -> dict[str, str]:
    """Twelve characters from anywhere in the secret, as programs write it."""
    raw = PLANTED.encode()
    forms = {
        "text": PLANTED,
        "base64": base64.b64encode(raw).decode(),
        "hex": raw.hex(),
        "URL": quote(PLANTED, safe=""),
    }
    return {
        f"{name} from {at}": form[at : at + 12] for name, form in forms.items() for at in range(0, len(form) - 11, 6)
    }


def left_in(text: str) -> list[str]:
    """What of the secret stands in a text, over the ends of its lines as well."""
    whole = re.sub(r"[\s\u2502]+", "", text)
    return [name for name, piece in pieces().items() if piece in text or piece in whole]


@pytest.fixture(scope="class")
def load_over_all(deployment: Deployment) -> Iterator[None]:
    """One load over a whole class of tests; what it saw is judged after the last of them."""
    serving = deployment.version()["release"]
    with deployment.load("broken", "--rate", "8") as report:
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
            ("settings", ["check", "ValidationError"]),
            ("migration", ["migration", "ValidationError"]),
            ("endless migration", ["the migration", "did not end within 5 s", "fastapi_app_migrate_timeout"]),
            ("gate", ["/readyz", "500"]),
            ("process", ["worker", "ValidationError"]),
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
        outcome = deployment.deploy("--diff", "-vvv", **broken(fault, deployment, environment))
        assert not left_in(outcome.output)
        assert outcome.code != 0, outcome.output
        for cause in causes:
            assert cause in outcome.failure(), outcome.output
        assert deployment.version() == before
        assert read_json(host, f"{promise.root}/state.json")["release"] == before["release"]
        assert not host.file(f"{promise.root}/intent.json").exists
        assert len(running_slots(host, promise)) == 1, "nothing of the refused release is left"
        assert host.run("pgrep -f 'time[.]sleep[(]3601[)]'").rc == 1


def test_what_they_said_of_their_secrets_is_nowhere(host: Any, promise: Promise, deployment: Deployment) -> None:
    """Not in reports, ledger, history and logs, the engine's words, units, nor what any file of the host has."""
    ledger = host.file(f"{promise.root}/ledger.jsonl").content_string
    assert "ValidationError" in ledger, "what one said is told, or this would prove nothing"
    history = deployment.play("history")
    reports = [path for path in (ROOT / "reports").rglob("*.*") if path.stat().st_mtime > began(deployment)]
    said = [path for path in reports if "ValidationError" in path.read_text(encoding="utf-8")]
    assert len(said) >= 4, "page and figures of the two that were tried in a slot"
    told = {"history": history.output, **{str(path): path.read_text(encoding="utf-8") for path in reports}}
    assert not {where: left_in(text) for where, text in told.items() if left_in(text)}
    assert left_in(base64.b64encode(PLANTED.encode()).decode()), "or this would prove nothing"
    # Under systemd what an app prints is in the journal, as it printed it.
    journal = ("/var/log/journal/*", "/run/log/journal/*", "journalctl *") if promise.runtime == "systemd" else ()
    assert_no_secret(host, pieces(), (*SECRET_FILES, *journal), app=promise)


def began(deployment: Deployment) -> float:
    return (deployment.scratch / "leaky" / "app" / "leak.py").stat().st_mtime


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


def test_a_reboot_brings_back_the_same_release(deployment: Deployment, host: Any, promise: Promise, name: str) -> None:
    before = deployment.version()
    subprocess.run(["docker", "restart", name], check=True, capture_output=True, timeout=PATIENCE)
    took = deployment.wait_until_serving()
    print(f"serving {took:.0f} s after the host was back")
    assert deployment.version() == before
    closed = host.check_output("nft list set inet slipway_metadata users")
    assert str(promise.uid) in closed, "the metadata service is shut again, in what is a new network"
