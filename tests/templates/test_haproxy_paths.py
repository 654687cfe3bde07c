"""Apps that share a host name, each with other paths: from inventories of their own, with a real HAProxy."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from ansible_collections.slipway.fleet.plugins.module_utils.edge.acme import Renewal
from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import Settings
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.edge.maintenance import outcome
from fastapi import FastAPI, Request

from tests.templates.test_haproxy import Edge, Slot, app, page, wait_for
from tests.templates.test_haproxy_pieces import Asking, Shared
from tests.templates.test_haproxy_protection import running

NAME = "shop.example.org"
NAMES = ("site", "api", "deep", "few", "shut")


def site(directory: Path, **more: Any) -> dict[str, Any]:
    """What has the name but for the paths of others."""
    return app(directory, "site", host_names=[NAME], **more)


def api(directory: Path, *paths: str, **more: Any) -> dict[str, Any]:
    given = {"health_path": f"{paths[0]}/readyz"} if not more.get("strip_path") else {}
    return app(directory, "api", host_names=[NAME], paths=list(paths), **given, **more)


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[None]:
    """A slot of each app that a test may have."""
    found = [Slot(str(tmp_path / f"{name}-blue.sock"), f"{name} blue") for name in NAMES]
    yield
    for slot in found:
        slot.server.shutdown()
        slot.server.server_close()


@pytest.fixture
def shared(slots: None, tmp_path: Path) -> Iterator[Shared]:
    """An edge of the app site, to which other inventories come."""
    found = Shared(tmp_path, haproxy_apps=[site(tmp_path)])
    found.start()
    yield found
    found.stop()


def who(edge: Edge, path: str, host: str = NAME, **headers: str) -> str:
    """The app that answers, with the path that it was asked for where that is another one; else the status."""
    response, body = edge.get(path, Host=host, **headers)
    if response.status != 200:
        return str(response.status)
    told = json.loads(body)
    name = str(told["slot"]).split()[0]
    # The server of a slot takes further slashes at the beginning for one.
    return name if told["path"] == f"/{path.lstrip('/')}" else f"{name} {told['path']}"


@pytest.mark.parametrize(
    ("path", "app_name"),
    [
        ("/", "site"),
        ("/x", "site"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x=/y", "api"),
        ("/api/x/?a=b%20c", "api"),
        ("/apix", "site"),
        ("/api.json", "site"),
        ("/x/api", "site"),
        ("/?/api", "site"),
        ("/API", "site"),
        ("/%61pi/x", "api"),
        ("/%61%50i", "site"),
        ("/api%2Fx", "site"),
        ("/api/%2e%2e/x", "api"),
        ("/api/../x", "api"),
        ("/x/../api", "site"),
        ("//api", "site"),
        ("/./api", "site"),
        ("/api//x", "api"),
        ("/api;x", "site"),
        ("/api;x/y", "site"),
        ("/api%00", "api"),  # HAProxy compares up to there
        ("/api%", "400"),
        ("/api/v1", "deep"),
        ("/%61pi/%76%31/x", "deep"),
        ("/api/v1x", "api"),
        ("/api//v1", "api"),
        ("/v2/x", "api"),
    ],
)
def test_a_request_gets_to_the_app_of_its_path_as_it_was_asked(path: str, app_name: str, ways: Edge) -> None:
    assert who(ways, path) == app_name
    assert who(ways, path, "SHOP.example.org:8080") == app_name


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """One edge for all of the table: site, api with two paths, and deep with one below the first of them."""
    directory = tmp_path_factory.mktemp("ways")
    deep = app(directory, "deep", host_names=[NAME], paths=["/api/v1"], health_path="/api/v1/readyz")
    slots = [Slot(str(directory / f"{name}-blue.sock"), f"{name} blue") for name in ("site", "api", "deep")]
    found = Edge(directory, haproxy_apps=[site(directory), api(directory, "/api", "/v2"), deep])
    found.start()
    wait_for(lambda: [who(found, path) for path in ("/", "/api", "/api/v1")] == ["site", "api", "deep"])
    yield found
    found.stop()
    for slot in slots:
        slot.server.shutdown()
        slot.server.server_close()


def test_one_app_of_a_name_comes_and_goes_and_the_other_one_loses_no_request(shared: Shared) -> None:
    with Asking(shared, NAME) as asking:
        assert who(shared, "/api/x") == "site"
        shared.provision(api(shared.directory, "/api"))
        soon(shared, {"/x": "site", "/api/x": "api"})
        assert not shared.provision(api(shared.directory, "/api"))["changed"]
        shared.remove("api")
        soon(shared, {"/api/x": "site"})
        shared.provision(api(shared.directory, "/api"))
    assert set(asking.answers) == {"200"}
    shared.remove("site")
    soon(shared, {"/x": "404", "/apix": "404", "/api/x": "api"})
    assert who(shared, "/api/x", "other.example.org") == "421", "a name that nobody has"
    shared.remove("api")
    soon(shared, {"/api/x": "421"})


def soon(shared: Shared, expected: dict[str, str]) -> None:
    """Who answers each path, once the process from before a reload takes no connections any more."""
    wait_for(lambda: {path: who(shared, path) for path in expected} == expected)


def test_an_app_without_names_gets_what_no_other_one_has_of_a_name(slots: None, tmp_path: Path) -> None:
    apps = [api(tmp_path, "/api"), app(tmp_path, "deep", paths=["/x"], health_path="/x/readyz")]
    with running(tmp_path, *apps) as edge:
        assert [who(edge, path) for path in ("/api", "/x", "/y")] == ["api", "deep", "404"]
        assert [who(edge, path, "any.example") for path in ("/api", "/x", "/y")] == ["421", "deep", "421"]


def test_what_two_inventories_cannot_both_have_changes_nothing(shared: Shared) -> None:
    shared.provision(api(shared.directory, "/api"))
    before = {path.name: path.read_bytes() for path in shared.directory.rglob("*.cfg")}
    for paths, said in (
        (["/api"], "/api under shop.example.org is a path of api, which is behind this edge already; take it out of"),
        ([], "shop.example.org is a host name of site, which is behind this edge already; take it out"),
        (["/readyz"], "/readyz, by which site is looked at under shop.example.org, is deep's by its paths (/readyz)"),
        (["/api/readyz"], "/api/readyz, by which api is looked at under shop.example.org, is deep's by its paths"),
    ):
        with pytest.raises(EdgeError, match="^Nothing of the edge was changed: ") as refused:
            shared.provision(app(shared.directory, "deep", host_names=[NAME], paths=paths, health_path="/y"))
        assert said in str(refused.value)
    assert {path.name: path.read_bytes() for path in shared.directory.rglob("*.cfg")} == before


def test_an_app_that_knows_nothing_of_its_path_is_asked_without(slots: None, tmp_path: Path) -> None:
    with running(tmp_path, api(tmp_path, "/api", "/v2/x", strip_path=True), app(tmp_path, "site")) as edge:
        _, body = edge.get("/v2/x/y?z", Host=NAME, X_Forwarded_Prefix="/evil")
        assert json.loads(body)["headers"]["x-forwarded-prefix"] == "/v2/x"
        line = edge.logged()
        assert (line["app"], line["path"]) == ("app_api", "/v2/x/y"), "the log has what was asked for"
        asked = {
            "/api": "/",
            "/api/": "/",
            "/api?q=/api/1": "/?q=/api/1",
            "/api/items/?q=%20": "/items/?q=%20",
            "/%61pi/a%2Fb/c": "/a%2Fb/c",
            "/api/api/x": "/api/x",
            "/api/../x": "/../x",
            "/v2/x": "/",
            "/v2/%78/y": "/y",
        }
        assert {path: who(edge, path) for path in asked} == {path: f"api {seen}" for path, seen in asked.items()}
        assert [who(edge, path) for path in ("/apix", "/v2", "/api%2Fx", "/x")] == ["site"] * 4
        _, body = edge.get("/y", Host=NAME, X_Forwarded_Prefix="/evil")
        assert "x-forwarded-prefix" not in json.loads(body)["headers"]


def test_a_proxy_that_is_believed_took_its_own_part_away_before(slots: None, tmp_path: Path) -> None:
    believed = {"haproxy_trusted_proxies": ["127.0.0.1"]}
    with running(tmp_path, api(tmp_path, "/api", strip_path=True), **believed) as edge:
        _, body = edge.get("/api/x", Host=NAME, X_Forwarded_Prefix="/outer")
        assert json.loads(body)["headers"]["x-forwarded-prefix"] == "/outer/api"


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("path", ["/metrics", "/api/metrics", "/api/metrics/x", "/%61pi/%6detrics", "/api/metrics?x"])
def test_what_is_private_is_that_below_a_path_too(path: str, strip: bool, private: dict[bool, Edge]) -> None:
    assert private[strip].get(path, Host=NAME)[0].status == 403
    assert private[strip].get("/api/metricsx", Host=NAME)[0].status == 503, "the app's, which does not run"


@pytest.mark.parametrize("path", ["/api%00/metrics", "/api%00x/metrics", "/api%00/%6detrics/x"])
def test_nothing_leads_around_that_an_app_would_see_as_private(path: str, private: dict[bool, Edge]) -> None:
    assert private[True].get(path, Host=NAME)[0].status == 403


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Edge]]:
    """By whether an app is asked without its path, an edge at which nobody is in a private network."""
    found = {}
    for strip in (False, True):
        directory = tmp_path_factory.mktemp("private")
        apps = [site(directory), api(directory, "/api", strip_path=strip)]
        found[strip] = Edge(directory, haproxy_apps=apps, haproxy_private_networks=["192.0.2.0/24"])
        found[strip].start()
    yield found
    for edge in found.values():
        edge.stop()


def test_what_protects_one_app_of_a_name_is_nothing_to_the_other_one(slots: None, tmp_path: Path) -> None:
    crypted = ["openssl", "passwd", "-6", "tide"]
    users = {"review": subprocess.run(crypted, capture_output=True, text=True, check=True).stdout.strip()}
    apps = [
        site(tmp_path),
        api(tmp_path, "/api", basic_auth=users, robots=False),
        app(tmp_path, "deep", host_names=[NAME], paths=["/deep"], strip_path=True, basic_auth=users),
        app(tmp_path, "few", host_names=[NAME], paths=["/few"], health_path="/few/a", max_body_mib=1)
        | {"rate_limit": {"requests": 2, "seconds": 60}},
        app(
            tmp_path, "shut", host_names=[NAME], paths=["/shut"], health_path="/shut/a", allowed_networks=["192.0.2.1"]
        ),
    ]
    with running(tmp_path, *apps, haproxy_private_networks=["192.0.2.0/24"]) as edge:
        assert [who(edge, path) for path in ("/x", "/api/x", "/deep/x", "/shut/x")] == ["site", "401", "401", "403"]
        assert [who(edge, path) for path in ("/readyz", "/api/readyz", "/deep/readyz", "/shut/a")] == [
            "site", "api", "deep /readyz", "shut",
        ], "whoever looks whether an app is well asks for its own path"  # fmt: skip
        known = {"Authorization": "Basic cmV2aWV3OnRpZGU="}
        assert [who(edge, path, **known) for path in ("/api/x", "/deep/x")] == ["api", "deep /x"]
        assert "X-Robots-Tag" in edge.get("/api/x", Host=NAME)[0].headers
        assert "X-Robots-Tag" not in edge.get("/x", Host=NAME)[0].headers
        assert who(edge, "/robots.txt") == "site"
        assert [who(edge, "/few/x") for _ in range(3)] == ["few", "few", "429"]
        assert who(edge, "/few/y", Content_Length="2000000") == "429"
        assert [who(edge, "/x") for _ in range(3)] == ["site"] * 3


def test_the_page_of_one_app_of_a_name_leaves_the_other_one(slots: None, tmp_path: Path) -> None:
    apps = [site(tmp_path), api(tmp_path, "/api", strip_path=True)]
    with running(tmp_path, *apps, haproxy_maintenance_passes=["192.0.2.0/24"]) as edge:
        outcome(page(edge, "api"), "on", check_mode=False)
        assert [who(edge, path) for path in ("/x", "/api/x", "/api/readyz")] == ["site", "503", "api /readyz"]
        outcome(page(edge, "api"), "off", check_mode=False)
        outcome(page(edge, "site"), "on", check_mode=False)
        assert [who(edge, path) for path in ("/x", "/api/x")] == ["503", "api /x"]


def test_a_redirect_name_leads_to_the_first_name_whatever_the_path(tmp_path: Path) -> None:
    apps = [site(tmp_path), api(tmp_path, "/api", strip_path=True, redirect_names=["api.example.org"])]
    with running(tmp_path, *apps) as edge:
        for path in ("/api/x?y=1", "/x"):
            answer, _ = edge.get(path, Host="api.example.org")
            assert (answer.status, answer.headers["Location"]) == (308, f"http://{NAME}{path}")


def test_a_name_of_two_apps_has_one_certificate(tmp_path: Path) -> None:
    edge = Shared(tmp_path, haproxy_apps=[site(tmp_path), api(tmp_path, "/api", redirect_names=["api.example.org"])])
    edge.log.close()
    place: dict[str, Any] = dict.fromkeys(
        ("email", "directory", "listen", "certificates", "https_map", "socket", "state", "token"), "/x"
    )
    settings = Settings(**place, pieces=str(tmp_path))
    assert Renewal(settings).wanted() == ["api.example.org", NAME]
    (tmp_path / "apps/site.cfg").unlink()
    assert Renewal(settings).wanted() == ["api.example.org", NAME], "the other one has it still"


def test_a_balancer_sends_the_paths_of_each_app_to_its_own_hosts(tmp_path: Path) -> None:
    """Both apps have the same host here: its edge tells them apart by the same paths."""
    directories = [tmp_path / name for name in ("host", "balancer")]
    for directory in directories:
        directory.mkdir()
    here, there = directories
    slots = [Slot(str(here / f"{name}-blue.sock"), f"{name} blue") for name in ("site", "api")]
    host = Edge(here, haproxy_apps=[site(here), api(here, "/api", strip_path=True)])
    servers = {"servers": {"web1": f"127.0.0.1:{host.port}"}, "host_names": [NAME]}
    of_balancer = [
        {"name": "site", **servers},
        {"name": "api", **servers, "paths": ["/api"], "health_path": "/api/readyz"},
    ]
    balancer = Edge(there, haproxy_apps=of_balancer)
    host.start()
    balancer.start()
    try:
        wait_for(lambda: [who(balancer, path) for path in ("/x", "/api/x", "/apix")] == ["site", "api /x", "site"])
        wait_for(lambda: {look[0] for look in slots[1].checked} >= {"/readyz"})
        assert who(balancer, "/api/readyz") == "api /readyz", "asked as the balancer's own check asks"
    finally:
        balancer.stop()
        host.stop()
        for slot in slots:
            slot.stop()


@contextmanager
def served(application: FastAPI, socket: Path, **settings: Any) -> Iterator[None]:
    """An app as uvicorn serves it on a slot's socket."""
    server = uvicorn.Server(uvicorn.Config(application, uds=str(socket), log_level="error", **settings))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(10)


def items() -> FastAPI:
    """An app that was written for a name of its own."""
    application = FastAPI()

    @application.get("/readyz")
    def well() -> None:
        pass

    @application.get("/items/")
    def read(request: Request) -> dict[str, str]:
        return {"url": str(request.url), "read": str(request.url_for("read"))}

    return application


def test_a_real_app_below_a_path_answers_and_its_links_are_right(tmp_path: Path) -> None:
    """What docs/hosts.md says of UVICORN_ROOT_PATH, with FastAPI and uvicorn as they are."""
    with (
        served(items(), tmp_path / "api-blue.sock", root_path="/api"),
        running(tmp_path, api(tmp_path, "/api", strip_path=True)) as edge,
    ):
        told = json.loads(edge.get("/api/items/", Host=NAME)[1])
        assert told == {"url": f"http://{NAME}/api/items/", "read": f"http://{NAME}/api/items/"}
        answer, _ = edge.get("/api/items", Host=NAME)
        assert (answer.status, answer.headers["Location"]) == (307, f"http://{NAME}/api/items/")
        assert '"/api/openapi.json"' in edge.get("/api/docs", Host=NAME)[1].replace("'", '"')
        described = json.loads(edge.get("/api/openapi.json", Host=NAME)[1])
        assert (described["servers"], list(described["paths"])) == ([{"url": "/api"}], ["/readyz", "/items/"])
