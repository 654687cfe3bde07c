"""How a release is looked at belongs to it, whatever the run wants that looks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Gate, Probe, TransactionError
from ansible_collections.slipway.fleet.plugins.module_utils.release.observe import observe
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit.memory import Crash, Host, assert_whole, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here

PATHS = {"one": "/healthz", "two": "/api/health/?full=1"}
# What the inventory says meanwhile: a path that neither of them has.
ELSEWHERE = Gate(path="/somewhere/else")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """One that serves release `one`; both are looked at in their own ways."""
    found = Host(paths=dict(PATHS))
    for release, path in PATHS.items():
        stage(tmp_path, release, path=path)
    transaction(tmp_path, found, "one", gate=Gate(path=PATHS["one"])).run()
    return found


def test_a_release_with_another_health_path_is_gone_to_and_back_from(tmp_path: Path, host: Host) -> None:
    for release in ("two", "one", "two"):
        host.served.clear()
        transaction(tmp_path, host, release, gate=ELSEWHERE).run()
        assert_whole(tmp_path, host, release)
        assert None not in host.served, "there was a moment in which nothing served"
        seen = observe(transaction(tmp_path, host, "", gate=ELSEWHERE))
        assert (seen["health"], seen["drift"], seen["serving"]["release"]) == ("200", [], release)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("point", range(1, 12))
def test_a_crash_between_them_is_finished_or_undone(tmp_path: Path, host: Host, point: int, after: bool) -> None:
    host.crash_at, host.crash_after = host.effects + point, after
    with pytest.raises(Crash):
        transaction(tmp_path, host, "two", gate=Gate(path=PATHS["two"])).run()
    host.crash_at = 0
    serves = host.serving()
    assert serves in PATHS
    host.served.clear()
    transaction(tmp_path, host, serves, gate=ELSEWHERE).reconcile()
    assert host.serving() in PATHS
    assert None not in host.served, "what answers was stopped"
    transaction(tmp_path, host, "one", gate=ELSEWHERE).run()
    assert_whole(tmp_path, host, "one")


def test_the_earlier_release_is_started_again_by_its_own_path(tmp_path: Path, host: Host) -> None:
    """It died while the new one was tried, which is sick."""
    host.sick["two"] = Probe(500, "broken")
    host.waits.append(lambda: host.ended.add("one") if host.seconds < 5 else host.ended.discard("one"))
    with pytest.raises(TransactionError, match="GET /api/health/\\?full=1 answered 500"):
        transaction(tmp_path, host, "two", gate=ELSEWHERE).run()
    host.waits.clear()
    host.ended.clear()
    assert host.serving() == "one"


def test_one_from_before_is_looked_at_as_the_run_says(tmp_path: Path) -> None:
    host = Host(paths={"one": "/healthz"})
    stage(tmp_path, "one")
    with pytest.raises(TransactionError, match="GET /readyz answered 404"):
        transaction(tmp_path, host, "one").run()
    transaction(tmp_path, host, "one", gate=Gate(path="/healthz")).run()
    assert_whole(tmp_path, host, "one")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"timeout": 0, "deadline": 0, "unknown": 1, "path": 3}'])
def test_a_file_that_says_nothing_is_as_none(tmp_path: Path, text: str) -> None:
    stage(tmp_path, "one")
    (tmp_path / "releases/one/gate.json").write_text(text)
    assert transaction(tmp_path, Host(), "one").gate_of("one") == Gate()


def test_time_is_the_runs(tmp_path: Path) -> None:
    stage(tmp_path, "one", path="/healthz", statuses="200", host="links.example.org", proto="https")
    found = transaction(tmp_path, Host(), "one", gate=Gate(path="/x", deadline=7.0, passes=2)).gate_of("one")
    told: dict[str, Any] = {"statuses": "200", "host": "links.example.org", "proto": "https"}
    assert found == Gate(path="/healthz", deadline=7.0, passes=2, **told)


def test_the_edge_is_told_before_the_slot_starts(tmp_path: Path, host: Host) -> None:
    """Its check would take the path of the release before, and never pass."""
    told: list[tuple[str, dict[str, str]]] = []
    start = host.start

    def starting(slot: str, release: str) -> None:
        told.append((slot, dict(host.checks)))
        start(slot, release)

    host.start = starting  # type: ignore[method-assign]
    transaction(tmp_path, host, "two", gate=ELSEWHERE).run()
    assert told == [("green", {"blue": "/healthz", "green": "/api/health/?full=1"})]


def test_an_edge_that_was_never_told_hears_of_what_serves(tmp_path: Path, host: Host) -> None:
    """Of a release from before: the next provisioning may bring another path for both slots."""
    host.checks.clear()
    assert not transaction(tmp_path, host, "one", gate=ELSEWHERE).run()["changed"]
    assert host.checks == {"blue": "/healthz"}


def test_without_a_version_the_runtime_says_whose_the_answers_are(tmp_path: Path, host: Host) -> None:
    """Somebody starts another release in the slot while it is looked at."""
    stage(tmp_path, "three", path="/healthz")
    host.paths["three"] = "/healthz"
    host.waits.append(lambda: host.running.update(green="one") if host.running["green"] else None)
    with pytest.raises(TransactionError, match="slot green runs release one and not three; somebody started it"):
        transaction(tmp_path, host, "three", gate=ELSEWHERE).run()


@pytest.mark.parametrize(
    ("statuses", "good", "bad"),
    [("200-299", [200, 204, 299], [199, 300, 404, 500]), ("200,401,403-404", [200, 401, 403, 404], [201, 402, 405])],
)
def test_statuses_are_codes_and_ranges(statuses: str, good: list[int], bad: list[int]) -> None:
    gate = Gate(statuses=statuses)
    assert [gate.takes(status) for status in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


def test_a_release_can_take_other_statuses(tmp_path: Path) -> None:
    host = Host()
    host.sick["one"] = Probe(401, "who are you?")
    stage(tmp_path, "one", statuses="200-299,401")
    work = transaction(tmp_path, host, "one", gate=Gate(edge=0.0))
    host.start("blue", "one")
    assert not work.ready("blue", "one").error
    assert work.ready("blue", "one").status == 401


ASKED = "with Host: localhost and X-Forwarded-Proto: http"


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Probe(400, "Invalid host header"), "have a name first in fastapi_app_host_names that the app takes"),
        (Probe(307, "", location="https://localhost/readyz"), "set fastapi_app_edge_scheme: https"),
        (
            Probe(307, "", location="http://localhost/readyz/"),
            "set fastapi_app_health_path to a path that answers itself",
        ),
        (Probe(302, "", location=""), "look at fastapi_app_host_names and fastapi_app_edge_scheme"),
    ],
)
def test_an_answer_to_the_wrong_name_or_scheme_says_what_to_set(tmp_path: Path, answer: Probe, advice: str) -> None:
    host = Host(sick={"one": answer})
    stage(tmp_path, "one", path="/readyz")
    with pytest.raises(TransactionError) as refused:
        transaction(tmp_path, host, "one").run()
    assert ASKED in refused.value.cause
    assert advice in refused.value.cause
    assert answer.location in refused.value.cause


def test_another_answer_gets_no_such_advice(tmp_path: Path) -> None:
    host = Host(sick={"one": Probe(503, "starting")})
    stage(tmp_path, "one")
    with pytest.raises(TransactionError, match="answered 503: starting$"):
        transaction(tmp_path, host, "one").run()


def test_a_change_of_it_by_hand_is_seen(tmp_path: Path, host: Host) -> None:
    (tmp_path / "releases/one/gate.json").write_text(json.dumps({"path": "/readyz"}))
    assert Store(tmp_path).changed_files("one") == ["gate.json"]


STRICT = """
from fastapi import FastAPI
from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

app = FastAPI()
app.add_middleware(HTTPSRedirectMiddleware)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=["links.example.org"])


@app.get("/health/")
def health(full: int = 0) -> dict[str, int]:
    return {"full": full}
"""


@pytest.fixture(scope="module")
def strict() -> Iterator[str]:
    """The socket of an app as such are written, which takes its own host name and HTTPS alone."""
    with TemporaryDirectory(prefix="slot") as here:
        Path(here, "strict.py").write_text(STRICT)
        command = [sys.executable, "-m", "uvicorn", "strict:app", "--uds", f"{here}/app.sock", "--log-level", "warning"]
        environment = {**os.environ, "FORWARDED_ALLOW_IPS": "*"}
        with subprocess.Popen(command, cwd=here, env=environment) as process:
            deadline = time.monotonic() + 60
            while get(f"{here}/app.sock", "/", 5).error:
                assert process.poll() is None, "it ended"
                assert time.monotonic() < deadline, "it never listened"
                time.sleep(0.1)
            yield f"{here}/app.sock"
            process.terminate()


OWN, HEALTH = "links.example.org", "/health/?full=1"


@pytest.mark.parametrize(
    ("host", "proto", "path", "said"),
    [
        (OWN, "https", HEALTH, (200, '{"full":1}', "")),
        ("localhost", "https", HEALTH, (400, "Invalid host header", "")),
        (OWN, "http", HEALTH, (307, "", f"https://{OWN}{HEALTH}")),
        (OWN, "https", "/health", (307, "", f"https://{OWN}/health/")),
    ],
)
def test_an_app_that_takes_only_its_own_name_and_https_is_asked_so(
    strict: str, host: str, proto: str, path: str, said: tuple[int, str, str]
) -> None:
    found = get(strict, path, 60, Gate(host=host, proto=proto))
    assert (found.status, found.body, found.location) == said
