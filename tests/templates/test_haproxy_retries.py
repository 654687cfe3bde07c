"""What a load balancer asks of a second host, and what it does not: a real HAProxy before those of two hosts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_haproxy import PATIENCE, Edge, Slot, answering, app, statuses, wait_for

HOSTS = ("web1", "web2")
# Requests a second that a host lets a balancer ask another one again (__haproxy_again_rate).
AGAIN = 10
BOTH = dict.fromkeys(HOSTS, "UP")


class Asked:
    """The slots of all hosts, which count what they are asked, and may be busy until `goes_on`."""

    def __init__(self) -> None:
        self.count = 0
        self.status = 200
        self.goes_on = threading.Event()
        self._lock = threading.Lock()
        asked = self

        class Handler(answering("slot")):  # type: ignore[misc]
            def do_GET(self) -> None:  # noqa: N802 - the name of the base class
                if self.headers["User-Agent"] == "haproxy-check":
                    super().do_GET()
                    return
                with asked._lock:
                    asked.count += 1
                if self.path == "/slow":
                    asked.goes_on.wait(PATIENCE)
                body = json.dumps({"said by": "the app", "headers": dict(self.headers)}).encode()
                self.send_response(asked.status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Slipway-Final", "1")
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815 - as the base class looks for it

        self.handler = Handler


@contextmanager
def balanced(
    directory: Path, asked: Asked, of_the_app: dict[str, Any], *without: str, **of_the_balancer: Any
) -> Iterator[Edge]:
    """A balancer before two hosts, of which those in `without` have no slot; it has not seen that yet."""
    with ExitStack() as stack:
        servers = {}
        for name in HOSTS:
            there = directory / name
            there.mkdir()
            if name not in without:
                slot = Slot(str(there / "links-blue.sock"), name)
                slot.server.RequestHandlerClass = asked.handler
                stack.callback(slot.stop)
            edge = Edge(there, haproxy_apps=[app(there, **of_the_app)], __haproxy_queue_timeout=1)
            edge.start()
            stack.callback(edge.stop)
            servers[name] = f"127.0.0.1:{edge.port}"
        there = directory / "lb"
        there.mkdir()
        balancer = Edge(there, haproxy_apps=[{"name": "links", "servers": servers, **of_the_balancer}])
        balancer.start()
        stack.callback(balancer.stop)
        for name in HOSTS:
            if name in without:
                # As if its checks, which take three seconds to see it, had not been asked yet.
                balancer.ask(f"disable health app_links/{name}")
                balancer.ask(f"set server app_links/{name} health up")
        wait_for(lambda: statuses(balancer).keys() == set(HOSTS) and "DOWN" not in statuses(balancer).values())
        yield balancer


def retried(balancer: Edge) -> int:
    """How many requests it has asked of another host."""
    names, *rows = (line.split(",") for line in balancer.ask("show stat").splitlines() if line)
    (backend,) = (row for row in rows if row[:2] == ["app_links", "BACKEND"])
    return int(backend[names.index("wretr")])


def test_one_host_that_is_full_costs_nobody_an_answer(tmp_path: Path) -> None:
    asked = Asked()
    # Longer than the free one takes for all of them, on a busy machine, too.
    waits = {"max_connections": 1, "max_wait": 6}
    with balanced(tmp_path, asked, waits) as balancer, ThreadPoolExecutor(5) as clients:
        busy = clients.submit(balancer.get, "/slow")
        wait_for(lambda: asked.count == 1)
        answers = [one.result()[0].status for one in [clients.submit(balancer.get, "/x") for _ in range(4)]]
        assert retried(balancer) > 0, "the full one was asked, too"
        asked.goes_on.set()
        assert busy.result()[0].status == 200
    assert answers == [200] * 4


def test_where_all_hosts_are_full_few_requests_are_asked_again(tmp_path: Path) -> None:
    """Each would be four, and would wait four times as long."""
    asked = Asked()
    with balanced(tmp_path, asked, {"max_connections": 1}) as balancer, ThreadPoolExecutor(62) as clients:
        busy = [clients.submit(balancer.get, "/slow") for _ in HOSTS]
        wait_for(lambda: asked.count == 2)
        began = time.monotonic()
        shed = [clients.submit(balancer.get, "/x").result for _ in range(60)]
        answers = [result() for result in shed]
        seconds = time.monotonic() - began
        asked_again = retried(balancer)
        asked.goes_on.set()
        assert {one.result()[0].status for one in busy} == {200}
    assert {answer.status for answer, _ in answers} == {503}
    assert all("Error 503, request " in body for _, body in answers)
    assert {answer.headers["Retry-After"] for answer, _ in answers} == {"5"}
    assert not [answer for answer, _ in answers if "X-Slipway-Final" in answer.headers]
    assert 0 < asked_again <= most_asked_again(seconds)
    assert asked.count == 2, "and none of them reached the app"


def most_asked_again(seconds: float) -> float:
    """By one balancer of both hosts, within so many seconds; a thread or two may count at the same moment."""
    return len(HOSTS) * (AGAIN * (seconds + 1) + 2)


@pytest.mark.parametrize("status", [529, 200])
def test_what_the_app_says_itself_is_its_answer(tmp_path: Path, status: int) -> None:
    asked = Asked()
    asked.status = status
    with balanced(tmp_path, asked, {}) as balancer:
        answers = [balancer.get("/x") for _ in range(10)]
    assert {answer.status for answer, _ in answers} == {status}, "also a 529 of its own, with our header"
    assert {json.loads(body)["said by"] for _, body in answers} == {"the app"}
    assert not [body for _, body in answers if "slipway-balancer" in body.lower()], "the app hears nothing of it"
    assert asked.count == 10


def test_an_app_that_says_503_everywhere_is_asked_little_more_than_users_ask(tmp_path: Path) -> None:
    asked = Asked()
    asked.status = 503
    with balanced(tmp_path, asked, {}) as balancer:
        began = time.monotonic()
        answers = [balancer.get("/x") for _ in range(200)]
        seconds = time.monotonic() - began
    assert {answer.status for answer, _ in answers} == {503}
    assert {json.loads(body)["said by"] for _, body in answers} == {"the app"}
    assert not [answer for answer, _ in answers if "X-Slipway-Final" in answer.headers]
    assert 0 < asked.count - 200 <= most_asked_again(seconds)


def test_what_may_not_be_asked_twice_leaves_the_others_theirs(tmp_path: Path) -> None:
    asked = Asked()
    asked.status = 503
    with balanced(tmp_path, asked, {}) as balancer:
        assert {balancer.get("/x", "POST")[0].status for _ in range(60)} == {503}
        assert asked.count == 60
        balancer.get("/x")
    assert asked.count == 64


def test_a_host_without_a_slot_costs_nobody_anything(tmp_path: Path) -> None:
    asked = Asked()
    with balanced(tmp_path, asked, {}, "web1") as balancer:
        answers = [balancer.get("/x")[0].status for _ in range(10)]
        asked_again = retried(balancer)
    assert answers == [200] * 10
    assert asked_again > 0, "the first host was asked, too"
    assert asked.count == 10


def test_without_a_balancer_a_full_host_says_503(tmp_path: Path) -> None:
    asked = Asked()
    slot = Slot(str(tmp_path / "links-blue.sock"), "blue")
    slot.server.RequestHandlerClass = asked.handler
    edge = Edge(tmp_path, haproxy_apps=[app(tmp_path, max_connections=1)], __haproxy_queue_timeout=1)
    edge.start()
    try:
        with ThreadPoolExecutor(1) as clients:
            busy = clients.submit(edge.get, "/slow")
            wait_for(lambda: asked.count == 1)
            assert edge.get("/x")[0].status == 503
            asked.goes_on.set()
            assert busy.result()[0].status == 200
    finally:
        edge.stop()
        slot.stop()
