"""A page in a real browser while two hosts behind a balancer serve different releases: it finds its own script."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.assets import Assets

from tests.browser.chromium import Browser
from tests.templates.test_haproxy import Edge, Slot, app, statuses, wait_for
from tests.templates.test_haproxy_protection import statuses_of_slots

AT = "/srv/app/static"
PAGE = '<!doctype html><html data-release="{0}"><title>no script</title><script src="/static/main-{0}.js"></script>'


def writes(file: Path, text: str) -> None:
    file.write_text(text)


class Host:
    """An edge, the app in one of its slots, and the static files of its releases as a deploy has them there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "releases").mkdir(parents=True)
        self.assets = Assets(directory / "releases")
        self.edge = Edge(directory, haproxy_apps=[app(directory)], haproxy_trusted_proxies=["127.0.0.1"])
        self.slots: dict[str, Slot] = {}
        self.asked: list[tuple[str, str, int]] = []  # release, path and status

    def stage(self, release: str, *, shared: bool = True) -> None:
        (self.directory / "releases" / release).mkdir()
        script = f"document.title = 'by the script of {release}'"
        self.assets.have(release, [AT], lambda _, to: writes(to / f"main-{release}.js", script))
        if shared:
            self.assets.share(release, [AT])

    def serve(self, release: str, slot: str) -> None:
        """Have the release in that slot, which gets the requests."""
        asked, files = self.asked, self.directory / "releases" / release / "assets/served" / AT.lstrip("/")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                static = files / self.path.removeprefix("/static/")
                kind, body = "text/html", PAGE.format(release)
                if self.path.startswith("/static/"):
                    kind, body = "text/javascript", static.read_text() if static.is_file() else ""
                    asked.append((release, self.path, 200 if body else 404))
                self.send_response(200 if body else 404)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": len(body),
                    "Cache-Control": "no-store",
                }.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the base class
                pass

        found = Slot(str(self.directory / f"links-{slot}.sock"), release)
        found.server.RequestHandlerClass = Handler
        if not self.slots:
            self.edge.start()
        self.slots[slot] = found
        wait_for(lambda: statuses_of_slots(self.edge).get(slot) == "UP")
        for other in self.slots.keys() - {slot}:
            self.edge.ask(f"set server app_links/{other} state drain")

    def stop(self) -> None:
        self.edge.stop()
        for slot in self.slots.values():
            slot.stop()


class Site:
    """Two hosts, and a load balancer with a name in the browser."""

    def __init__(self, directory: Path) -> None:
        self.hosts = [Host(directory / name) for name in ("web1", "web2")]
        for host in self.hosts:
            host.stage("one")
            host.serve("one", "blue")
        servers = {f"web{number}": f"127.0.0.1:{host.edge.port}" for number, host in enumerate(self.hosts, 1)}
        (directory / "balancer").mkdir()
        self.balancer = Edge(directory / "balancer", haproxy_apps=[{"name": "links", "servers": servers}])
        self.balancer.start()
        wait_for(lambda: set(statuses(self.balancer).values()) == {"UP"})

    def begin_roll(self, *, shared: bool = True) -> None:
        """Staged is on every host before the first one switches."""
        for host in self.hosts:
            host.stage("two", shared=shared)
        self.hosts[0].serve("two", "green")
        for host in self.hosts:
            host.asked.clear()

    def titles(self, browser: Browser, count: int = 8) -> set[tuple[str, str]]:
        """Release of the page, and its title, of so many pages."""
        return {self._title(browser, number) for number in range(count)}

    def _title(self, browser: Browser, number: int) -> tuple[str, str]:
        address = f"http://127.0.0.1:{self.balancer.port}/?{number}"
        browser.call("Page.navigate", url=address)
        deadline = time.monotonic() + 60
        while browser.evaluate("document.readyState + location.href") != f"complete{address}":
            assert time.monotonic() < deadline, f"{address} does not load"
            time.sleep(0.02)
        release, title = browser.evaluate("[document.documentElement.dataset.release, document.title]")
        return str(release), str(title)

    def stop(self) -> None:
        self.balancer.stop()
        for host in self.hosts:
            host.stop()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        found = Site(tmp_path)
        stack.callback(found.stop)
        yield found


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as found:
        yield found


def test_in_the_middle_of_a_roll_each_page_finds_its_script(site: Site, browser: Browser) -> None:
    assert site.titles(browser, 2) == {("one", "by the script of one")}
    site.begin_roll()
    assert site.titles(browser) == {("one", "by the script of one"), ("two", "by the script of two")}
    crossed = {asked for host in site.hosts for asked in host.asked if f"main-{asked[0]}.js" not in asked[1]}
    assert crossed == {("one", "/static/main-two.js", 200), ("two", "/static/main-one.js", 200)}


def test_without_assets_of_both_a_page_does_not(site: Site, browser: Browser) -> None:
    """What the test above relies on."""
    site.begin_roll(shared=False)
    assert ("two", "no script") in site.titles(browser)
