"""What the edge counts for the canary under a load of thousands of requests a second, with nothing slow beside it.

Slots and edge are real HAProxys, and clients send hundreds of requests at once on a connection that stays (RFC 9112,
section 9.3.2), so that a test needs no program for it. Each request says which status it is to be answered.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import Counts, counts, forget
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import (
    GOOD,
    WORSE,
    Canary,
    Thresholds,
    Verdict,
)

from tests.templates.test_haproxy import PATIENCE, Edge, app, haproxy, wait_for
from tests.templates.test_haproxy_counts import send_to
from tests.templates.test_haproxy_protection import running

CLIENTS, AT_ONCE = 8, 100
SLOT = """
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend slot
    bind unix@{socket}
    http-request return status 500 if {{ url_param(status) -m str 500 }}
    http-request return status 200
"""


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """An edge with two slots that answer as fast as it asks."""
    slots = []
    try:
        for name in ("blue", "green"):
            where = tmp_path / f"links-{name}.sock"
            (tmp_path / f"{name}.cfg").write_text(SLOT.format(socket=where))
            slots.append(subprocess.Popen([haproxy(), "-db", "-f", str(tmp_path / f"{name}.cfg")]))
            wait_for(where.exists)
        with running(tmp_path, app(tmp_path, version_path="/version")) as found:
            send_to(found, "blue")
            yield found
    finally:
        for slot in slots:
            slot.kill()
            slot.wait(PATIENCE)


def ask(edge: Edge, requests: int, failing_of_1000: int) -> Counter[bytes]:
    """The statuses that so many requests were answered, of which so many are to fail."""

    def client(number: int) -> Counter[bytes]:
        statuses: Counter[bytes] = Counter()
        with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as connection:
            reader = connection.makefile("rb")
            for first in range(number * AT_ONCE, requests, CLIENTS * AT_ONCE):
                count = min(AT_ONCE, requests - first)
                connection.sendall(b"".join(_request(one, failing_of_1000) for one in range(first, first + count)))
                for _ in range(count):
                    statuses[reader.readline().split()[1]] += 1
                    while reader.readline().strip():
                        pass  # a header: there is no body
        return statuses

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)), Counter())


def _request(number: int, failing_of_1000: int) -> bytes:
    status = 500 if number % 1000 < failing_of_1000 else 200
    return b"GET /links?status=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % status


def released(edge: Edge, requests: int, before: int, after: int) -> tuple[Verdict, Counts]:
    """The verdict on a switch from blue to green with so many failures of 1,000 on each, and what was counted."""
    canary = Canary(
        lambda: counts(edge.ask, "app_links"), lambda slot: forget(edge.ask, "app_links", slot), Thresholds()
    )
    assert ask(edge, requests, before) == +Counter(
        {b"200": requests * (1000 - before) // 1000, b"500": requests * before // 1000}
    )
    canary.begin("green")
    send_to(edge, "green")
    ask(edge, requests, after)
    return canary.verdict("green", "blue"), counts(edge.ask, "app_links")


@pytest.mark.parametrize(("after", "word"), [(10, GOOD), (40, WORSE)])
def test_every_request_of_thousands_a_second_is_counted_once(edge: Edge, after: int, word: str) -> None:
    began = time.monotonic()
    verdict, counted = released(edge, 20_000, 10, after)
    print(f"{40_000 / (time.monotonic() - began):.0f} requests a second")
    blue, green = counted.ever["blue"], counted.ever["green"]
    assert (blue.answered, blue.failed, blue.unanswered) == (20_000, 200, 0)
    assert (green.answered, green.failed, green.unanswered) == (20_000, 20 * after, 0)
    assert counted.lately["blue"] == blue, "all of it was in the last minutes"
    assert verdict.word == word, verdict.sentence
    assert verdict.sentence.startswith(f"{after / 10:.1f}% of 20000 requests failed, on the old release 1.0% of 20000")


def test_who_reads_the_counts_meanwhile_disturbs_none(edge: Edge) -> None:
    """Reading a table locks it, and a canary reads while requests come."""
    done = threading.Event()

    def reads() -> int:
        seen = 0
        while not done.is_set():
            now = counts(edge.ask, "app_links").ever.get("blue")
            assert now is None or now.answered >= seen, "what was counted is there still"
            seen = now.answered if now else 0
        return seen

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(reads)
        try:
            ask(edge, 10_000, 50)
        finally:
            done.set()
        assert reader.result() <= 10_000
    found = counts(edge.ask, "app_links").ever["blue"]
    assert (found.answered, found.failed, found.unanswered) == (10_000, 500, 0)


def test_who_goes_away_before_an_answer_is_no_failure_of_the_release(edge: Edge) -> None:
    """A load generator that ends, or people who leave, cut what is under way."""
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as connection:
            connection.sendall(b"".join(_request(500, 0) for _ in range(20)))
    ask(edge, 1_000, 0)
    found = counts(edge.ask, "app_links").ever["blue"]
    assert (found.failed, found.unanswered) == (0, 0)
    assert 1_000 <= found.answered <= 5_000
