"""What a release does to its users, on a host with a load: worse ones go back or never serve, a twin stays.

All are made from one source, and differ by a variable. Figures are far from the limits, so that no other work of the
machine decides.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from contract import PATIENCE, ROOT, Promise, read_json, until
from deployment import Deployment, Outcome

# Put at the end of app/main.py: the app, with one thing that is wrong where its environment says so.
SICK = """

import asyncio as _asyncio
import os as _os

_sick = _os.environ.get("SICK", "")
if _sick == "api":
    api.router.routes[:] = [one for one in api.router.routes if "DELETE" not in getattr(one, "methods", ())]
    app = create_app(load_settings())
_whole = app


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    path, method = scope.get("path", ""), scope.get("method")
    if (_sick, method) == ("posts", "POST") or _sick == "route" and path.startswith("/links/"):
        raise RuntimeError("it is sick")
    if _sick == "slow" and path not in ("/health", "/livez", "/readyz", "/version", "/openapi.json"):
        await _asyncio.sleep(12)
    await _whole(scope, receive, send)
"""
# So many ask, each after so many seconds; every twentieth request is a POST: 5 % of all, and none that a replay asks.
CLIENTS, PAUSE, EVERY = 80, 4.0, 20
JUDGED: dict[str, Any] = {"fastapi_app_canary": {"judged": True}, "fastapi_app_soak": 20, "fastapi_app_drain": 2}


@dataclass
class Users:
    """What many people got who look at pages and make a link now and then; statuses, in the order of the answers."""

    url: str
    slug: str
    statuses: list[int] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def asking(self, clients: int = CLIENTS, pause: float = PAUSE) -> Iterator[None]:
        """While the block runs; it begins when some have been answered."""
        done = threading.Event()
        with ThreadPoolExecutor(clients) as pool:
            asked = [pool.submit(self._ask, done, pause) for _ in range(clients)]
            try:
                until(lambda: len(self.statuses) > clients, "users are answered")
                yield
            finally:
                done.set()
        for one in asked:
            one.result()

    def _ask(self, done: threading.Event, pause: float) -> None:
        to = urlsplit(self.url)
        while not done.wait(pause):
            connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=PATIENCE)
            number = next(self._numbers)
            if number % EVERY:
                connection.request("GET", "/" if number % 2 else f"/{self.slug}")
            else:
                link = json.dumps({"url": f"https://example.com/canary/{number}"})
                connection.request("POST", "/links", link, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            self.statuses.append(answer.status)

    def failed(self) -> int:
        return sum(status >= 500 for status in self.statuses)


def posted(deployment: Deployment) -> httpx.Response:
    return httpx.post(f"{deployment.url}/links", json={"url": "https://example.com/canary"}, timeout=PATIENCE)


@pytest.fixture(scope="module")
def users(deployment: Deployment) -> Users:
    return Users(deployment.url, posted(deployment).json()["slug"])


@pytest.fixture(scope="module")
def sick(deployment: Deployment, environment: dict[str, str]) -> Any:
    """From what is wrong to the variables of the release that has it."""
    source = deployment.source("sick", {"app/main.py": SICK})

    def release(what: str, **more: Any) -> dict[str, Any]:
        about = {"fastapi_app_revision": f"sick: {what}", "fastapi_app_environment": environment | {"SICK": what}}
        return {**deployment.made_from(source), **about, **JUDGED, **more}

    return release


@contextmanager
def noise(host: Any) -> Iterator[None]:
    """The host's processors have other work all the time."""
    unit = "slipway-test-noise"
    loops = "for n in $(seq $(nproc)); do while :; do :; done & done; wait"
    host.check_output(f"systemd-run --quiet --unit={unit} sh -c '{loops}'")
    try:
        yield
    finally:
        host.check_output(f"systemctl stop {unit}")


def recorded(host: Any, promise: Promise, what: str) -> dict[str, Any]:
    """The last record that has this; the end of a drain may have come after it."""
    lines = host.file(f"{promise.root}/ledger.jsonl").content_string.splitlines()
    return next(record for record in map(json.loads, reversed(lines)) if record.get(what))


def judged(word: str, outcome: Outcome, host: Any, promise: Promise) -> dict[str, Any]:
    """The verdict, which is the same in table, report and ledger; with its figures."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in outcome.output.splitlines()]
    header, row = next((line, after) for line, after in itertools.pairwise(lines) if line[:2] == ["host", "was"])
    assert dict(zip(header, row, strict=True))["canary"] == word
    found = re.search(r"The report is (\S+)", outcome.output)
    assert found
    written = ROOT / found[1]
    (told,) = json.loads(written.with_suffix(".json").read_text(encoding="utf-8"))["hosts"]
    page = written.read_text(encoding="utf-8")
    verdict: dict[str, Any] = recorded(host, promise, "canary")["canary"]
    assert verdict["word"] == told["canary"]["word"] == word
    assert verdict["sentence"] == told["canary"]["sentence"]
    assert verdict["sentence"] in page
    assert verdict["sentence"] in " ".join(outcome.output.split())
    for slot in ("new", "old"):
        assert told["canary"][slot] == verdict[slot]
        assert verdict[slot]["requests"] >= 50
    return verdict


def test_one_that_breaks_a_route_is_refused_before_a_user_meets_it(
    deployment: Deployment, users: Users, sick: Any, promise: Promise, host: Any
) -> None:
    """Of that route there are a few requests alone, of which nobody could judge."""
    served = deployment.version()
    few = Users(deployment.url, f"links/{users.slug}")
    with few.asking(clients=1, pause=1):
        outcome = deployment.deploy(**sick("route"))
    assert outcome.code == 2, outcome.output
    assert "GET /links/" in outcome.failure(), outcome.output
    assert "answers 500 where release" in outcome.failure()
    assert "fastapi_app_replay=warn" in outcome.failure()
    assert few.failed() == 0
    assert deployment.version() == served
    last = recorded(host, promise, "result")
    assert last["result"] == "failed"
    assert last["replay"]["breaks"]
    assert "switch" not in {phase["phase"] for phase in last["phases"]}


def test_one_that_breaks_the_api_is_refused_where_that_is_wanted(
    deployment: Deployment, sick: Any, host: Any, promise: Promise
) -> None:
    served = deployment.version()
    outcome = deployment.deploy(**sick("api", fastapi_app_breaking_api="refuse"))
    assert outcome.code == 2, outcome.output
    assert "DELETE /links/{slug} is gone" in outcome.failure(), outcome.output
    assert "fastapi_app_breaking_api=warn" in outcome.failure()
    assert deployment.version() == served
    assert read_json(host, f"{promise.root}/state.json")["release"] == served["release"]


def test_one_that_fails_five_of_a_hundred_requests_goes_back(
    deployment: Deployment, users: Users, sick: Any, host: Any, promise: Promise
) -> None:
    served = deployment.version()
    with users.asking():
        outcome = deployment.deploy(**sick("posts"))
        assert deployment.version() == served
        assert posted(deployment).status_code == 201
    assert outcome.code == 2, outcome.output
    assert "answers worse than the old one" in outcome.failure(), outcome.output
    verdict = judged("worse", outcome, host, promise)
    assert 0.02 < verdict["new"]["errors"] / verdict["new"]["requests"] < 0.1, verdict


def test_one_that_is_four_times_as_slow_goes_back(
    deployment: Deployment, users: Users, sick: Any, host: Any, promise: Promise, name: str
) -> None:
    """Or more, as the answers of what serves may take seconds on a busy machine. A replay would only be slow, too.

    Each of them asks within the pause, and has an answer in the soak twenty seconds before its end.
    """
    served = deployment.version()
    with users.asking(clients=120):
        outcome = deployment.deploy(**sick("slow", fastapi_app_replay="ignore", fastapi_app_soak=36))
        assert deployment.version() == served
    assert outcome.code == 2, outcome.output
    assert "answers worse than the old one" in outcome.failure(), outcome.output
    verdict = judged("worse", outcome, host, promise)
    assert verdict["new"]["p95"] >= 12000, verdict


def test_a_twin_of_what_serves_stays_though_the_machine_is_busy(
    deployment: Deployment, users: Users, sick: Any, host: Any, promise: Promise, name: str
) -> None:
    with noise(host), users.asking():
        outcome = deployment.deploy(**sick("not at all"))
    assert outcome.code == 0, outcome.output
    assert f"{name}: canary good: " in outcome.output
    judged("good", outcome, host, promise)
