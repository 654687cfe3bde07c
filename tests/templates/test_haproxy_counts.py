"""What a real HAProxy counts of the answers of slots, and keeps of what was asked, as a canary reads it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import Answers, counts, forget, paths
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError

from tests.templates.test_haproxy import Edge, Slot, app
from tests.templates.test_haproxy_protection import running


def as_told(handler: BaseHTTPRequestHandler) -> None:
    """Answers with the status of the query, after as many seconds, without the bytes that it lacks, or not at all."""
    told = {name: values[0] for name, values in parse_qs(urlsplit(handler.path).query).items()}
    time.sleep(float(told.get("seconds", 0)))
    if "hangs_up" in told:
        handler.close_connection = True
        return
    handler.send_response(int(told.get("status", 200)))
    handler.send_header("Content-Length", told.get("lacks", "0"))
    handler.end_headers()
    handler.close_connection |= "lacks" in told


class Taught(Slot):
    """A slot that answers what it is asked to."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(path, name)
        handler: Any = self.server.RequestHandlerClass
        handler.do_GET = handler.do_POST = as_told


def reset_next(slot: Slot, count: int) -> None:
    """Have a slot close so many connections of users with the request in them unread."""
    handler: Any = slot.server.RequestHandlerClass
    left = iter(range(count))

    class Resetting(handler):  # type: ignore[misc]
        def handle(self) -> None:
            begin = self.connection.recv(1000, socket.MSG_PEEK)
            if b" /a " not in begin or next(left, None) is None:
                super().handle()
            else:
                # At once: the server would say first that nothing more comes, and that is no reset.
                self.connection.close()

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    slot.server.RequestHandlerClass = Resetting


@pytest.fixture
def taught(tmp_path: Path) -> Iterator[dict[str, Slot]]:
    found: dict[str, Slot] = {name: Taught(str(tmp_path / f"links-{name}.sock"), name) for name in ("blue", "green")}
    yield found
    for slot in found.values():
        slot.stop()


@pytest.fixture
def edge(taught: dict[str, Slot], tmp_path: Path) -> Iterator[Edge]:
    """An edge of which blue alone gets requests."""
    links = app(tmp_path, version_path="/version")
    with running(tmp_path, links, haproxy_private_networks=["127.0.0.0/8"]) as found:
        send_to(found, "blue")
        yield found


def send_to(edge: Edge, slot: str) -> None:
    for name in ("blue", "green"):
        edge.ask(f"set server app_links/{name} state {'ready' if name == slot else 'drain'}")


def seen(edge: Edge, slot: str) -> Answers:
    return counts(edge.ask, "app_links").ever.get(slot, Answers())


def test_answers_are_counted_by_slot_status_and_time(edge: Edge) -> None:
    for path in ("/a", "/a", "/b?status=302", "/b?status=404", "/b?status=500", "/b?status=503", "/c?seconds=0.15"):
        edge.get(path)
    found = seen(edge, "blue")
    assert (found.answered, found.failed, found.unanswered) == (7, 2, 0)
    slow = max(found.times)
    assert slow >= 150
    assert len(str(slow).rstrip("0")) <= 2, "two digits"
    send_to(edge, "green")
    edge.get("/a")
    assert (seen(edge, "green").answered, seen(edge, "blue")) == (1, found)


def test_the_last_minutes_are_known_as_well(edge: Edge) -> None:
    for path in ("/a", "/a?status=500", "/a?hangs_up=1", "/a"):
        edge.get(path)
    found = counts(edge.ask, "app_links")
    assert found.recent == 300
    for blue in (found.ever["blue"], found.lately["blue"]):
        assert (blue.answered, blue.failed, blue.unanswered) == (3, 1, 1)
    assert found.lately["blue"].times == found.ever["blue"].times


def test_what_the_edge_answers_itself_is_counted_as_unanswered(edge: Edge) -> None:
    for _ in range(3):
        connection_answer, _ = edge.get("/a?hangs_up=1", Accept="application/json")
        assert connection_answer.status == 502
    found = seen(edge, "blue")
    assert (found.answered, found.failed, found.unanswered) == (0, 0, 3)
    edge.get("/a")
    assert (seen(edge, "blue").answered, seen(edge, "blue").unanswered) == (1, 3)


@pytest.mark.parametrize(("resets", "status", "unanswered"), [(1, 200, 0), (3, 200, 0), (4, 502, 1)])
def test_what_was_asked_again_is_no_failure(
    edge: Edge, taught: dict[str, Slot], resets: int, status: int, unanswered: int
) -> None:
    """HAProxy counts each connection that is reset, and the last one twice; users see the last answer alone.

    An app resets a connection that it takes for idle in the moment in which a request comes.
    """
    reset_next(taught["blue"], resets)
    answer, _ = edge.get("/a")
    assert answer.status == status
    found = seen(edge, "blue")
    assert found.broken >= resets, "or this would prove nothing"
    assert (found.answered, found.failed, found.unanswered) == (1 - unanswered, 0, unanswered)
    assert counts(edge.ask, "app_links").ever.keys() == {"blue"}


def test_an_answer_that_was_cut_is_a_failure(edge: Edge) -> None:
    with pytest.raises(IncompleteRead):
        edge.get("/a?lacks=1")
    assert seen(edge, "blue").unanswered == 1


def test_what_another_release_did_in_a_slot_is_forgotten(edge: Edge) -> None:
    for number in range(130):
        edge.get(f"/a?status={200 + number // 10 % 4 * 100}&seconds={number / 2000}")
    send_to(edge, "green")
    edge.get("/a")
    assert (seen(edge, "blue").answered, seen(edge, "green").answered) == (130, 1)
    forget(edge.ask, "app_links", "blue")
    found = counts(edge.ask, "app_links")
    assert (set(found.ever), set(found.lately)) == ({"green"}, {"green"})
    send_to(edge, "blue")
    edge.get("/a?status=500")
    again = counts(edge.ask, "app_links").lately["blue"]
    assert (again.answered, again.failed) == (1, 1)


def test_whoever_looks_whether_the_app_is_well_is_no_user(edge: Edge) -> None:
    edge.get("/readyz")
    edge.get("/version")
    edge.get("/a", X_Slipway_Probe="1")
    edge.get("/a")
    assert seen(edge, "blue").answered == 1
    assert paths(edge.ask, "app_links") == ["/a"]


def test_a_worker_that_came_counts_anew(edge: Edge) -> None:
    edge.get("/a")
    before = counts(edge.ask, "app_links")
    edge.restart()
    after = counts(edge.ask, "app_links")
    assert before.worker != after.worker
    assert after.ever == {}


def test_what_users_were_answered_well_is_kept_with_its_query(edge: Edge) -> None:
    for path in ("/a", "/b?status=404", "/b?status=500", "/c?status=307", "/d?q=a%20b&x=\\z", "/metrics", "/a"):
        edge.get(path)
    edge.get("/e", Upgrade="websocket", Connection="Upgrade")
    edge.get(f"/{'f' * 511}")
    edge.get(f"/{'g' * 510}")
    found = paths(edge.ask, "app_links")
    assert sorted(path for path in found if len(path) < 500) == ["/a", "/c?status=307", "/d?q=a%20b&x=\\z"]
    assert found.index("/a") < found.index("/c?status=307"), "the last one first"
    assert [path[:2] for path in found if len(path) >= 500] == ["/g"], "none that was cut"


def test_what_is_private_below_a_path_is_not_kept(taught: dict[str, Slot], tmp_path: Path) -> None:
    below = app(tmp_path, paths=["/shop"], host_names=["a.example"])
    with running(tmp_path, below, haproxy_private_networks=["127.0.0.0/8"]) as found:
        for path in ("/shop/metrics", "/shop/a"):
            assert found.get(path, Host="a.example")[0].status == 200
        assert paths(found.ask, "app_links") == ["/shop/a"]


def test_what_is_not_ascii_is_not_told(edge: Edge) -> None:
    edge.get("/a")
    edge.ask("set table asked_links key /caf\u00e9 data.gpc0 1")
    assert paths(edge.ask, "app_links") == ["/a"]


def test_an_edge_that_does_not_count_is_told_to_be_provisioned(edge: Edge) -> None:
    for read in (counts, paths):
        with pytest.raises(EdgeError, match="run slipway.fleet.provision"):
            read(edge.ask, "app_other")
