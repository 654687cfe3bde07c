"""A release with another health path than the one before, behind a balancer: a real HAProxy before that of a host."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.templates.test_haproxy import Edge, Slot, answering, app, statuses, wait_for

PATHS = {"blue": "/a", "green": "/b?deep=1"}
# Checks in a row that a balancer takes a host out for is three.
CHECKS = 4


class Release:
    """A slot whose release has one health path, and nothing at the other one's. `asked` is what the balancer got."""

    def __init__(self, socket: Path, path: str) -> None:
        self.asked: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        release = self

        class Handler(answering("slot")):  # type: ignore[misc]
            def do_GET(self) -> None:  # noqa: N802 - the name of the base class
                status = 200 if self.path == path else 404
                if self.headers["User-Agent"] == "haproxy-check" and self.headers["X-Forwarded-For"]:
                    with release._lock:
                        release.asked.append((self.path, status))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        self.slot = Slot(str(socket), "slot")
        self.slot.server.RequestHandlerClass = Handler


class Behind:
    """A host with both releases, and a balancer that asks it by the path of the first."""

    def __init__(self, directory: Path, stack: ExitStack, variables: dict[str, Any] | None = None) -> None:
        there, before = directory / "web1", directory / "lb"
        there.mkdir()
        before.mkdir()
        self.releases = {slot: Release(there / f"links-{slot}.sock", path) for slot, path in PATHS.items()}
        for release in self.releases.values():
            stack.callback(release.slot.stop)
        self.host = Edge(there, haproxy_apps=[app(there, health_path=PATHS["blue"])], **variables or {})
        looks = [f"app_links/{slot} {path}|localhost|http\n" for slot, path in PATHS.items()]
        (there / "health.map").write_text("".join(looks))
        self.host.start()
        stack.callback(self.host.stop)
        self.serve("blue")
        servers = {"web1": f"127.0.0.1:{self.host.port}"}
        self.balancer = Edge(before, haproxy_apps=[{"name": "links", "servers": servers, "health_path": PATHS["blue"]}])
        self.balancer.start()
        stack.callback(self.balancer.stop)
        wait_for(lambda: statuses(self.balancer) == {"web1": "UP"})

    def serve(self, slot: str) -> None:
        other = "green" if slot == "blue" else "blue"
        self.host.ask(f"set server app_links/{slot} state ready")
        self.host.ask(f"set server app_links/{other} state drain")

    def checked(self, slot: str) -> list[tuple[str, int]]:
        """What the balancer got of a slot in more checks than it needs to take a host out."""
        release = self.releases[slot]
        release.asked.clear()
        wait_for(lambda: len(release.asked) >= CHECKS)
        return list(release.asked)


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    with ExitStack() as stack:
        yield Behind(tmp_path, stack, {"haproxy_maintenance_passes": ["192.0.2.66"]})


def test_the_balancer_is_answered_by_the_path_of_what_serves(behind: Behind) -> None:
    """A deploy with another path, and the way back: no host is taken out, whatever path the balancer was told."""
    for slot in ("blue", "green", "blue"):
        behind.serve(slot)
        assert set(behind.checked(slot)) == {(PATHS[slot], 200)}
        assert statuses(behind.balancer) == {"web1": "UP"}
        assert behind.balancer.get(PATHS[slot])[0].status == 200


def test_it_is_so_after_a_restart_and_under_the_maintenance_page(behind: Behind) -> None:
    """What HAProxy was told of the slots comes from the file of its states then."""
    behind.serve("green")
    (behind.host.directory / "server-state").write_text(behind.host.ask("show servers state"))
    (behind.host.directory / "switched.map").write_text("links on\n")
    behind.releases["blue"].asked.clear()
    behind.host.restart()
    assert set(behind.checked("green")) == {(PATHS["green"], 200)}
    assert behind.host.get("/x")[0].status == 503
    assert not behind.releases["blue"].asked, "the slot that is drained is asked by its own edge alone"


def test_the_door_on_loopback_counts_as_the_slot(tmp_path: Path) -> None:
    with ExitStack() as stack:
        behind = Behind(tmp_path, stack)
        server = ThreadingHTTPServer(("127.0.0.1", 0), answering("green"))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        behind.host.ask(f"set server app_links/green-port addr 127.0.0.1 port {server.server_port}")
        behind.host.ask("set server app_links/green state maint")
        behind.host.ask("set server app_links/green-port state ready")
        behind.host.ask("set server app_links/blue state drain")
        wait_for(lambda: "/b?deep=1" in behind.host.get("/a", User_Agent="haproxy-check")[1])


def test_who_says_to_be_a_balancer_gets_nothing_that_is_private(tmp_path: Path) -> None:
    with ExitStack() as stack:
        private = {"haproxy_private_paths": ["/b"], "haproxy_private_networks": ["192.0.2.0/24"]}
        behind = Behind(tmp_path, stack, private)
        assert behind.host.get("/a", User_Agent="haproxy-check")[0].status == 200
        behind.serve("green")
        assert behind.host.get("/a", User_Agent="haproxy-check")[0].status == 403
        assert behind.host.get("/a")[0].status == 404, "who does not say so gets what is there"
