"""The configuration of the edge, read and run by a real HAProxy."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.behind import away
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge as RuntimeEdge
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError, parse_ports
from ansible_collections.slipway.fleet.plugins.module_utils.edge.maintenance import Page, outcome
from ansible_collections.slipway.fleet.plugins.module_utils.edge.newcomers import held_back
from ansible_collections.slipway.fleet.plugins.module_utils.edge.pieces import Present, Wanted, made
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import slot_ports
from ansible_collections.slipway.fleet.plugins.modules.balancer import change
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.protection import MOST_OF_A_PAGE
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from lab.ports import free_port
from tests.templates.rendering import Role

# Seconds until what is only waited for is a failure. The machine may have other work, or stand still for a while.
PATIENCE = 60
FILES = {
    "pages/502.html": "502.html.j2",
    "pages/503.html": "503.html.j2",
    "pages/504.html": "504.html.j2",
    "pages/maintenance.html": "maintenance.html.j2",
    "pages/planned.html": "planned.html.j2",
}


def app(directory: Path, name: str = "links", **more: Any) -> dict[str, Any]:
    slots = {slot: str(directory / f"{name}-{slot}.sock") for slot in ("blue", "green")}
    return {"name": name, "slots": slots, **more}


def answering(
    name: str, status: int = 200, checked: list[tuple[str, str, str]] | None = None
) -> type[BaseHTTPRequestHandler]:
    """Answers and says what it was asked; what the edge's own checks ask is added to `checked`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps({"slot": name, "path": self.path, "headers": dict(self.headers)}).encode()
            if checked is not None and self.headers["User-Agent"] == "haproxy-check":
                checked.append((self.path, self.headers["Host"], self.headers["X-Forwarded-Proto"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as the base class looks for it

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the name of the base class
            pass

    return Handler


class Slot:
    """A slot of an app: answers 200 and says what it was asked. `checked` is what the edge's own checks ask."""

    def __init__(self, path: str, name: str, status: int = 200) -> None:
        self.checked: list[tuple[str, str, str]] = []

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """HAProxy's check has its answer and is gone."""

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, _ = super().get_request()
                return connection, (name, 0)

        self.server = Server(path, answering(name, status, self.checked))
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        Path(str(self.server.server_address)).unlink()


def configuration(role: Role) -> dict[str, str]:
    """The texts of an edge's files on a new host."""
    pieces = {entry["name"]: role.render("app.cfg.j2", app=entry) for entry in role.value("haproxy_apps")}
    values = role.value("__haproxy_settings")
    return made(Present({}), Wanted(pieces, role.render("edge.cfg.j2"), values)).files


class Edge:
    """A HAProxy with the role's configuration, on a port of its own."""

    def __init__(self, directory: Path, **variables: Any) -> None:
        self.directory = directory
        self.variables = variables
        self.port = free_port()
        self.tls_port = free_port()
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind(str(directory / "log"))
        self.log.settimeout(PATIENCE)
        self.process: subprocess.Popen[bytes] | None = None
        self.variables_of_role: dict[str, Any] = {
            "haproxy_apps": [app(directory)],
            "haproxy_addresses": ["127.0.0.1"],
            "__haproxy_pages": str(directory / "pages"),
            "__haproxy_maintenance_map": str(directory / "maintenance.map"),
            "__haproxy_switched_map": str(directory / "switched.map"),
            "__haproxy_certificate": str(directory / "site.pem"),
            "__haproxy_runtime": str(directory),
            "__haproxy_state_file": str(directory / "server-state"),
            "__haproxy_log": str(directory / "log"),
            # Whoever runs the tests is not root, perhaps.
            "__haproxy_admin_mode": "600",
            "__haproxy_http_port": self.port,
            "__haproxy_https_port": self.tls_port,
            **variables,
        }
        role = Role("haproxy", **self.variables_of_role)
        (directory / "pages").mkdir()
        (directory / "server-state").touch()
        (directory / "switched.map").touch()
        (directory / "health.map").touch()
        (directory / "site.pem").write_text(str(variables.get("haproxy_tls_certificate", "")))
        for name, template in FILES.items():
            (directory / name).write_text(role.render(template))
        for page in role.value("__haproxy_own_pages"):
            Path(page["dest"]).write_text(page["content"])
        (directory / "apps").mkdir()
        for name, text in configuration(role).items():
            (directory / name).write_text(text)

    def check(self) -> subprocess.CompletedProcess[str]:
        """What `haproxy -c` says."""
        return subprocess.run(
            [haproxy(), "-c", "-f", str(self.directory / "haproxy.cfg")], capture_output=True, text=True, check=False
        )

    def start(self) -> None:
        self.process = subprocess.Popen([haproxy(), "-db", "-f", str(self.directory / "haproxy.cfg")])
        wait_for(lambda: (self.directory / "admin.sock").exists() and self._listens())

    def _listens(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 1):
            return True

    def refuses(self) -> bool:
        try:
            return not self._listens()
        except ConnectionRefusedError:
            return True

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)
        self.log.close()

    def restart(self) -> None:
        """As a reboot would: what only the old process knew is gone."""
        assert self.process
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.start()

    def get(self, path: str, method: str = "GET", /, **headers: str) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers=sent)
            response = connection.getresponse()
            return response, response.read().decode()
        finally:
            connection.close()

    def ask(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.directory / "admin.sock"))
            admin.sendall(f"{command}\n".encode())
            return admin.makefile().read()

    def logged(self) -> dict[str, Any]:
        """The next line of the access log; the process's own messages are passed over."""
        while True:
            line = self.log.recv(16384).decode()
            if "{" in line:
                found: dict[str, Any] = json.loads(line[line.index("{") :])
                return found


def haproxy() -> str:
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    assert found, "these tests need HAProxy; install it with: sudo apt-get install haproxy"
    return found


def wait_for(attempt: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if attempt():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def reload(master: subprocess.Popen[bytes], worker: Callable[[], str]) -> None:
    """A new worker; the master sees a signal that comes before its loop with the next one only."""
    before, last = worker(), 0.0

    def has_come() -> bool:
        nonlocal last
        if time.monotonic() - last > 5:
            master.send_signal(signal.SIGUSR2)
            last = time.monotonic()
        return worker() != before

    wait_for(has_come)


@pytest.fixture
def edge(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Edge]:
    variables = dict(getattr(request, "param", {}))
    of_the_app = {name: variables.pop(name) for name in ("health_path", "health_statuses") if name in variables}
    if variables.get("haproxy_tls_certificate") is True:
        variables["haproxy_tls_certificate"] = request.getfixturevalue("certificate")
        of_the_app["host_names"] = ["a.example"]
    if of_the_app:
        variables["haproxy_apps"] = [app(tmp_path, **of_the_app)]
    found = Edge(tmp_path, **variables)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[dict[str, Slot]]:
    """Both slots of the app, there before HAProxy starts when named before `edge`."""
    found = {name: Slot(str(tmp_path / f"links-{name}.sock"), name) for name in ("blue", "green")}
    yield found
    for slot in found.values():
        slot.server.shutdown()
        slot.server.server_close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=links.example.test", "-keyout", "key.pem", "-out", "chain.pem"],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip
    return (directory / "chain.pem").read_text() + (directory / "key.pem").read_text()


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"haproxy_apps": []},
        {"haproxy_private_paths": []},
        {"haproxy_addresses": ["*", "[::]"]},
        {"haproxy_trusted_proxies": ["10.0.0.0/8", "fd00::/8"]},
        {"haproxy_response_headers": {"Content-Security-Policy": "default-src 'self'; report-uri /csp?a=100%"}},
        {"haproxy_maintenance": ["links"]},
        {
            "haproxy_apps": [
                app(Path("/run/slipway"), "links", host_names=["links.example.test", "l.example.test"]),
                app(Path("/run/slipway"), "shop", health_path="/livez", server_timeout=20),
            ]
        },
    ],
)
def test_haproxy_accepts_the_configuration(variables: dict[str, Any], tmp_path: Path) -> None:
    found = Edge(tmp_path, **variables)
    said = found.check()
    found.stop()
    assert said.returncode == 0, said.stderr


def test_the_runtime_interface_is_where_releases_look_for_it(tmp_path: Path) -> None:
    text = configuration(Role("haproxy", haproxy_apps=[app(tmp_path)]))["haproxy.cfg"]
    assert "stats socket /run/haproxy/admin.sock mode 400 level admin\n" in text
    assert "server-state-file /var/lib/haproxy/server-state" in text
    assert "chroot" not in text.replace("without chroot", "")
    assert "backend app_links" in text


def runtime(edge: Edge, name: str = "links") -> RuntimeEdge:
    """The edge as a release has it."""
    return RuntimeEdge(str(edge.directory / "admin.sock"), f"app_{name}", str(edge.directory / "server-state"))


def is_checked(slot: Slot, asks: tuple[str, str, str]) -> None:
    """From now on the edge's checks of a slot ask this and nothing else."""

    def asked() -> bool:
        slot.checked.clear()
        wait_for(lambda: bool(slot.checked))
        return set(slot.checked) == {asks}

    wait_for(asked)


@pytest.mark.parametrize(
    ("edge", "blue"),
    [
        ({}, ("/readyz", "localhost", "http")),
        ({"haproxy_tls_certificate": True, "health_path": "/up/?full=1"}, ("/up/?full=1", "a.example", "https")),
    ],
    indirect=["edge"],
)
def test_each_slot_is_looked_at_as_its_release_wants(
    slots: dict[str, Slot], edge: Edge, blue: tuple[str, str, str]
) -> None:
    is_checked(slots["green"], blue)
    green = ("/api/health/?deep=yes&full=1", "links.example.test", "https")
    runtime(edge).set_check("green", *green)
    is_checked(slots["green"], green)
    is_checked(slots["blue"], blue)
    edge.restart()
    is_checked(slots["green"], green)
    is_checked(slots["blue"], blue)


@pytest.mark.parametrize("edge", [{"health_statuses": [204, "401-403"]}], indirect=True)
def test_other_statuses_are_good_answers_where_the_app_says_so(tmp_path: Path, edge: Edge) -> None:
    found = {name: Slot(str(tmp_path / f"links-{name}.sock"), name, status) for name, status in GIVEN.items()}
    wait_for(lambda: runtime(edge).servers()["blue"].check.startswith("L7OK"))
    wait_for(lambda: runtime(edge).servers()["green"].check.startswith("L7STS 404"))
    for slot in found.values():
        slot.stop()


GIVEN = {"blue": 403, "green": 404}


def test_a_balancer_asks_as_requests_come(tmp_path: Path) -> None:
    text = Role(
        "haproxy",
        app={"name": "links", "servers": {"web1": "10.0.0.1:80"}, "host_names": ["l.test"], "health_path": "/up/?a=1"},
        haproxy_tls_certificate="there is one",
    ).render("app.cfg.j2")
    asked = "http-check send meth GET uri /up/?a=1 ver HTTP/1.1 hdr Host l.test hdr X-Forwarded-Proto https hdr "
    assert asked in text
    assert "acl passes_maintenance path /up/\n" in text


def test_requests_go_to_the_slot_that_is_not_drained(slots: dict[str, Slot], edge: Edge) -> None:
    assert edge.ask("set server app_links/blue state drain").strip() == ""
    assert {json.loads(edge.get("/x")[1])["slot"] for _ in range(4)} == {"green"}
    edge.ask("set server app_links/blue state ready")
    edge.ask("set server app_links/green state drain")
    assert {json.loads(edge.get("/x")[1])["slot"] for _ in range(4)} == {"blue"}


def test_a_slot_that_dies_costs_no_get(slots: dict[str, Slot], edge: Edge) -> None:
    slots["blue"].stop()
    assert [edge.get("/x")[0].status for _ in range(20)] == [200] * 20
    slots["blue"] = Slot(str(edge.directory / "links-blue.sock"), "blue")


def test_an_idle_connection_may_ask_once_more_after_a_reload(slots: dict[str, Slot], edge: Edge) -> None:
    """A load balancer that sends a POST over it just then could not send it again."""
    assert edge.process
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
    connection.request("GET", "/before")
    connection.getresponse().read()
    edge.process.send_signal(signal.SIGUSR1)  # what a reload sends to the old process
    wait_for(edge.refuses)
    connection.request("GET", "/after")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")


def test_the_drained_slot_is_drained_after_a_restart(slots: dict[str, Slot], edge: Edge) -> None:
    edge.ask("set server app_links/blue state drain")
    (edge.directory / "server-state").write_text(edge.ask("show servers state").lstrip("\n"))
    assert edge.process is not None
    edge.process.terminate()
    edge.process.wait(PATIENCE)
    edge.start()
    assert {json.loads(edge.get("/x")[1])["slot"] for _ in range(4)} == {"green"}


def test_no_slot_is_a_page_for_people_and_json_for_programs(edge: Edge) -> None:
    response, body = edge.get("/")
    wait_for(lambda: "no server" not in edge.get("/")[1] and edge.get("/")[0].status == 503)
    response, body = edge.get("/", Accept="text/html")
    assert (response.status, response.headers["Retry-After"]) == (503, "5")
    assert "<!doctype html>" in body
    assert "http" not in body.replace("http-equiv", ""), "a page without assets from elsewhere"
    assert "padding: .125rem .75rem; border: 1px solid" in body
    assert "min-height: 100vh; display: grid" in body
    wait_for(lambda: edge.get("/", Accept="application/json")[1].startswith('{"status":"unavailable","request_id":"'))


@pytest.mark.parametrize("edge", [{"haproxy_trusted_proxies": ["127.0.0.0/8"]}], indirect=True)
def test_an_error_page_has_the_id_of_the_request(edge: Edge) -> None:
    """No slot is there."""
    wait_for(lambda: edge.get("/")[0].status == 503)
    answer, body = edge.get("/")
    assert f"<small>Error 503, request {answer.headers['X-Request-ID']}</small>" in body
    assert "rgb(0 0 0 / 6%)" in body
    assert "request from-a.proxy_1</small>" in edge.get("/", X_Request_ID="from-a.proxy_1")[1]
    assert "request %3Cscript%3E</small>" in edge.get("/", X_Request_ID="<script>")[1]
    assert "request </small>" in edge.get("/", X_Request_ID="a" * 65)[1]


def test_the_request_id_is_the_edge_s_own(slots: dict[str, Slot], edge: Edge) -> None:
    response, body = edge.get("/x", X_Request_ID="from-the-client", X_Forwarded_For="192.0.2.1")
    told = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    assert response.headers["X-Request-ID"] == told["x-request-id"] != "from-the-client"
    assert told["x-forwarded-for"] == "127.0.0.1"
    assert told["x-forwarded-proto"] == "http"


@pytest.mark.parametrize("edge", [{"haproxy_trusted_proxies": ["127.0.0.0/8"]}], indirect=True)
def test_a_trusted_proxy_is_believed(slots: dict[str, Slot], edge: Edge) -> None:
    response, body = edge.get(
        "/x", X_Request_ID="from-the-proxy", X_Forwarded_For="192.0.2.1", X_Forwarded_Proto="https"
    )
    told = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    assert response.headers["X-Request-ID"] == told["x-request-id"] == "from-the-proxy"
    assert told["x-forwarded-proto"] == "https"


CDN, CLIENT, LIE = "198.51.100.9", "203.0.113.7", "192.0.2.66"
PROXIES: dict[str, tuple[dict[str, Any], str, list[str], str]] = {
    # what is in front: variables, the PROXY line, X-Forwarded-For as it comes, who asks
    "nobody": ({}, "", [LIE], "127.0.0.1"),
    "a proxy that is not believed": ({"haproxy_trusted_proxies": ["10.0.0.0/8"]}, "", [CLIENT], "127.0.0.1"),
    "an own balancer": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", [CLIENT], CLIENT),
    "an own balancer, IPv6": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", ["2001:db8::7"], "2001:db8::7"),
    "an own balancer that says nothing": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", [], "127.0.0.1"),
    "an appending balancer": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", [f"{LIE}, {CLIENT}"], CLIENT),
    "an appending balancer, by lines": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", [LIE, CLIENT], CLIENT),
    "a balancer that passes nonsense": (
        {"haproxy_trusted_proxies": ["127.0.0.0/8"]},
        "",
        [f"{CLIENT}, unknown"],
        "127.0.0.1",
    ),
    "a CDN": ({"haproxy_trusted_proxies": ["127.0.0.0/8"]}, "", [f"{LIE}, {LIE}, {CLIENT}"], CLIENT),
    "a CDN and an own balancer": (
        {"haproxy_trusted_proxies": ["127.0.0.0/8", "198.51.100.0/24"]},
        "",
        [f"{LIE}, {CLIENT}, {CDN}"],
        CLIENT,
    ),
    "a liar who names the CDN": (
        {"haproxy_trusted_proxies": ["127.0.0.0/8", "198.51.100.0/24"]},
        "",
        [f"{LIE}, {CDN}, {CLIENT}"],
        CLIENT,
    ),
    "more proxies than are read": (
        {"haproxy_trusted_proxies": ["127.0.0.0/8", "198.51.100.0/24"]},
        "",
        [", ".join([LIE, *[CDN] * 5])],
        CDN,
    ),
    "the PROXY protocol": (
        {"haproxy_proxy_protocol": ["127.0.0.0/8"]},
        f"PROXY TCP4 {CLIENT} 10.0.0.1 4711 80\r\n",
        [LIE],
        CLIENT,
    ),
    "a CDN and the PROXY protocol": (
        {"haproxy_proxy_protocol": ["127.0.0.0/8"], "haproxy_trusted_proxies": ["198.51.100.0/24"]},
        f"PROXY TCP4 {CDN} 10.0.0.1 4711 80\r\n",
        [f"{LIE}, {CLIENT}"],
        CLIENT,
    ),
}


def ask_as(edge: Edge, line: str, path: str, forwarded: list[str]) -> tuple[int, str]:
    """Status and body of GET over a connection that may begin with a line of the PROXY protocol."""
    with socket.create_connection(("127.0.0.1", edge.port), PATIENCE) as connection:
        headers = "".join(f"X-Forwarded-For: {value}\r\n" for value in forwarded)
        lies = f"X-Real-IP: {LIE}\r\nForwarded: for={LIE}\r\nSlipway-Replay: 1\r\n"
        text = f"{line}GET {path} HTTP/1.1\r\nHost: localhost\r\n{lies}{headers}\r\n"
        connection.sendall(text.encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode()


def seen_by_uvicorn(headers: dict[str, str]) -> str:
    """The address that the app gets, as Gunicorn's configuration has Uvicorn read the headers."""
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        del receive, send
        seen.append(scope["client"][0])

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope: Any = {"type": "http", "client": None, "headers": raw, "scheme": "http"}
    asyncio.run(ProxyHeadersMiddleware(inner, trusted_hosts="*")(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize("case", PROXIES)
def test_one_address_is_who_asks(case: str, slots: dict[str, Slot], tmp_path: Path) -> None:
    """For the app, the log, the private paths and the maintenance page alike."""
    variables, line, forwarded, who = PROXIES[case]
    inside = {"haproxy_private_networks": [who], "haproxy_maintenance_passes": [who], "haproxy_maintenance": ["links"]}
    outside = {"haproxy_private_networks": ["192.0.2.66"], "haproxy_maintenance_passes": ["192.0.2.66"]}
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    within = Edge(tmp_path / "inside", haproxy_apps=[app(tmp_path)], **variables, **inside)
    without = Edge(tmp_path / "outside", haproxy_apps=[app(tmp_path)], **variables, **outside)
    for edge in (within, without):
        edge.start()
    try:
        status, body = ask_as(within, line, "/metrics", forwarded)
        assert status == 200, "in the private network, and past the maintenance page"
        told = json.loads(body)["headers"]
        assert [value for name, value in told.items() if name.lower() == "x-forwarded-for"] == [who]
        assert not {"x-real-ip", "forwarded", "slipway-replay"} & {name.lower() for name in told}
        assert seen_by_uvicorn(told) == who
        assert within.logged()["client"] == who
        assert ask_as(without, line, "/metrics", forwarded)[0] == 403
        (tmp_path / "outside/maintenance.map").write_text("links on\n")
        without.restart()
        assert ask_as(without, line, "/x", forwarded)[0] == 503
    finally:
        within.stop()
        without.stop()


@pytest.mark.parametrize("edge", [{"haproxy_proxy_protocol": ["127.0.0.0/8"]}], indirect=True)
def test_a_balancer_of_the_proxy_protocol_cannot_leave_it_out(slots: dict[str, Slot], edge: Edge) -> None:
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        ask_as(edge, "", "/x", [LIE])


@pytest.mark.parametrize("edge", [{"haproxy_trusted_proxies": ["127.0.0.0/8"]}], indirect=True)
@pytest.mark.parametrize(
    ("said", "told"), [("https", "https"), ("HTTPS", "HTTPS"), ("gopher", "http"), ("a, b", "http")]
)
def test_the_scheme_is_http_or_https(said: str, told: str, slots: dict[str, Slot], edge: Edge) -> None:
    headers = json.loads(edge.get("/x", X_Forwarded_Proto=said)[1])["headers"]
    assert {name.lower(): value for name, value in headers.items()}["x-forwarded-proto"] == told


def test_headers_are_added_where_the_app_has_none(slots: dict[str, Slot], edge: Edge) -> None:
    response, _ = edge.get("/x")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers.get_all("Referrer-Policy") == ["no-referrer"], "the app's own value stays, alone"
    assert "Server" not in response.headers


@pytest.mark.parametrize("edge", [{"haproxy_private_networks": ["192.0.2.0/24"]}], indirect=True)
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/metrics", 403),
        ("/metrics/x", 403),
        ("/%6detrics", 403),
        ("/metrics?x=1", 403),
        ("/metricsx", 200),
        ("/x/metrics", 200),
    ],
)
def test_private_paths(slots: dict[str, Slot], edge: Edge, path: str, status: int) -> None:
    assert edge.get(path)[0].status == status


def test_private_paths_are_open_to_the_networks_that_may(slots: dict[str, Slot], edge: Edge) -> None:
    assert edge.get("/metrics")[0].status == 200


def page(edge: Edge, app_name: str = "links") -> Page:
    admin = RuntimeEdge(str(edge.directory / "admin.sock"), f"app_{app_name}", str(edge.directory / "server-state"))
    return Page(admin, app_name, edge.directory / "maintenance.map", edge.directory / "switched.map")


@pytest.mark.parametrize("edge", [{"haproxy_maintenance_passes": ["192.0.2.0/24"]}], indirect=True)
def test_maintenance_is_switched_while_it_runs(slots: dict[str, Slot], edge: Edge) -> None:
    assert edge.get("/x")[0].status == 200
    assert outcome(page(edge), "on", check_mode=True) == {"changed": True, "shown": True}
    assert edge.get("/x")[0].status == 200
    assert outcome(page(edge), "on", check_mode=False)["changed"]
    assert not outcome(page(edge), "on", check_mode=False)["changed"]
    response, body = edge.get("/x")
    assert (response.status, response.headers["Retry-After"]) == (503, "120")
    assert "maintenance" in body
    assert f"Planned, request {response.headers['X-Request-ID']}<" in body
    response, body = edge.get("/x", Accept="application/json")
    assert json.loads(body) == {"status": "maintenance", "request_id": response.headers["X-Request-ID"]}
    assert edge.get("/readyz")[0].status == 200, "a balancer would take the host out"
    edge.restart()
    wait_for(lambda: edge.get("/x")[0].status == 503)
    assert outcome(page(edge), "off", check_mode=False)["changed"]
    wait_for(lambda: edge.get("/x")[0].status == 200)
    assert (edge.directory / "switched.map").read_text().endswith("links off\n")


@pytest.mark.parametrize("checks_clients", [False, True])
def test_an_app_shows_a_page_of_its_own(certificate: str, tmp_path: Path, checks_clients: bool) -> None:
    """Also one as large as it may be, whatever else has a part of HAProxy's buffers."""
    begin, end = "<p>We move, {{ as }} 100% said:   Grüße REQUEST_ID", "</p>\n"
    page_of_links, page_of_shop = tmp_path / "links.html", tmp_path / "shop.html"
    page_of_links.write_text(begin + end)
    page_of_shop.write_text("x" * MOST_OF_A_PAGE)
    apps = [
        app(tmp_path, "links", host_names=["l.test"], maintenance_page=str(page_of_links)),
        app(tmp_path, "shop", host_names=["s.test"], maintenance_page=str(page_of_shop)),
        app(tmp_path, "blog", host_names=["b.test"]),
    ]
    more: dict[str, Any] = {}
    if checks_clients:
        (tmp_path / "ca.pem").write_text(certificate.partition("-----BEGIN PRIVATE")[0])
        more = {
            "haproxy_tls_certificate": certificate,
            "haproxy_client_ca_file": str(tmp_path / "ca.pem"),
            "__haproxy_client_ca": str(tmp_path / "ca.pem"),
        }
    edge = Edge(
        tmp_path, haproxy_apps=apps, haproxy_maintenance=["links", "shop", "blog"],
        haproxy_maintenance_passes=["192.0.2.0/24"], haproxy_trusted_proxies=["127.0.0.1"], **more,
    )  # fmt: skip
    edge.start()
    try:
        shown = [asked(edge, name, tls=checks_clients) for name in ("l.test", "s.test", "b.test")]
    finally:
        edge.stop()
    assert shown[0] == (503, "<p>We move, {{ as }} 100% said:   Grüße abc-1</p>\n")
    assert shown[1] == (503, "x" * MOST_OF_A_PAGE)
    assert "Planned, request abc-1<" in shown[2][1]


def asked(edge: Edge, name: str, tls: bool) -> tuple[int, str]:
    """What is answered under a name to a request whose id is abc-1, where it is believed."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection: http.client.HTTPConnection = (
        http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=PATIENCE, context=context)
        if tls
        else http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
    )
    try:
        connection.request("GET", "/x", headers={"Host": name, "X-Request-ID": "abc-1"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_page_that_is_no_longer_wanted_goes() -> None:
    mine = {"name": "links", "maintenance_page": "page.html"}
    stale = [
        Role("haproxy", haproxy_apps=[entry]).value("__haproxy_edge")["stale"] for entry in (mine, {"name": "links"})
    ]
    assert ["/etc/haproxy/pages/planned-links.html" in one for one in stale] == [False, True]


@pytest.mark.parametrize("edge", [{"haproxy_maintenance": ["links"]}], indirect=True)
def test_a_page_that_the_variables_want_is_not_switched_off(slots: dict[str, Slot], edge: Edge) -> None:
    with pytest.raises(EdgeError, match="the page was not switched; haproxy_maintenance names links"):
        outcome(page(edge), "off", check_mode=False)
    with pytest.raises(EdgeError, match="knows no app other"):
        outcome(page(edge, "other"), "on", check_mode=False)


@pytest.mark.parametrize(
    "edge",
    [
        {
            "haproxy_maintenance": ["links"],
            "haproxy_maintenance_passes": ["192.0.2.0/24"],
            "haproxy_trusted_proxies": ["127.0.0.1"],
        }
    ],
    indirect=True,
)
def test_behind_a_balancer_it_counts_who_asked_the_balancer(slots: dict[str, Slot], edge: Edge) -> None:
    assert edge.get("/x", X_Forwarded_For="192.0.2.7")[0].status == 200
    assert edge.get("/x", X_Forwarded_For="192.0.2.7, 198.51.100.1")[0].status == 503
    assert edge.get("/x")[0].status == 503


@pytest.mark.parametrize(
    "edge", [{"haproxy_maintenance": ["links"], "haproxy_maintenance_passes": ["192.0.2.0/24"]}], indirect=True
)
def test_maintenance_is_on_from_the_start_where_it_is_set(slots: dict[str, Slot], edge: Edge) -> None:
    assert edge.get("/x")[0].status == 503


def test_each_request_is_one_json_object_whatever_it_holds(slots: dict[str, Slot], edge: Edge) -> None:
    response, _ = edge.get('/q"\\?token=not-for-the-log', User_Agent='a"b\\c]')
    found = edge.logged()
    assert found["path"] == '/q"\\'
    assert found["agent"] == 'a"b\\c]'
    assert found["status"] == 200
    assert found["app"] == "app_links"
    assert found["slot"] in ("blue", "green")
    assert found["request_id"] == response.headers["X-Request-ID"]
    assert "sample" not in found, "each of them is here"
    assert "not-for-the-log" not in json.dumps(found)


class Finds(answering("blue")):  # type: ignore[misc]
    """A slot that has nothing at /none."""

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(404 if self.path == "/none" else code, message)


@pytest.mark.parametrize("sample", [2, 1_000_000])
def test_of_good_answers_the_log_has_some_and_of_others_each(
    slots: dict[str, Slot], tmp_path: Path, sample: int
) -> None:
    for slot in slots.values():
        slot.server.RequestHandlerClass = Finds
    only = Edge(tmp_path, haproxy_apps=[app(tmp_path, host_names=["l.example"])], haproxy_log_sample=sample)
    only.start()
    good: list[int] = []

    def other() -> dict[str, Any]:
        """The next line of none of the good answers, which come late where another thread writes theirs."""
        while (line := only.logged())["status"] == 200:
            good.append(line["sample"])
        return line

    try:
        for _ in range(40):
            assert only.get("/x", Host="l.example")[0].status == 200
            assert only.get("/none", Host="l.example")[0].status == 404
            line = other()
            assert (line["status"], line.get("sample")) == (404, None)
        assert only.get("/x", Host="other.example")[0].status == 421
        line = other()
        assert (line["status"], line.get("sample")) == (421, None), "of the edge itself"
        with socket.create_connection(("127.0.0.1", only.port), PATIENCE) as user:
            user.sendall(b"no HTTP\r\n\r\n")
            assert b" 400 " in user.recv(4096)
        assert other()["status"] == 400, "before any rule"
        assert set(good) <= {sample}
        assert (good == []) if sample > 2 else (0 < len(good) < 40)
    finally:
        only.stop()


def test_names_lead_to_their_apps(slots: dict[str, Slot], tmp_path: Path) -> None:
    only = Edge(tmp_path, haproxy_apps=[app(tmp_path, host_names=["links.example.test"])])
    only.start()
    try:
        assert only.get("/x", Host="LINKS.example.test:8080")[0].status == 200
        assert only.get("/x", Host="other.example.test")[0].status == 421
    finally:
        only.stop()


def test_with_a_certificate_everything_is_https(slots: dict[str, Slot], certificate: str, tmp_path: Path) -> None:
    secure = Edge(tmp_path, haproxy_tls_certificate=certificate)
    secure.start()
    try:
        response, _ = secure.get("/x?y=1", Host="links.example.test")
        assert (response.status, response.headers["Location"]) == (308, "https://links.example.test/x?y=1")
        trust = ssl.create_default_context(cadata=certificate.partition("-----BEGIN PRIVATE KEY-----")[0])
        trust.check_hostname = False
        connection = http.client.HTTPSConnection("127.0.0.1", secure.tls_port, timeout=PATIENCE, context=trust)
        connection.request("GET", "/x")
        answer = connection.getresponse()
        assert json.loads(answer.read())["path"] == "/x"
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        connection.close()
    finally:
        secure.stop()


@pytest.mark.parametrize(("key", "accepted"), [("own", True), ("none", False)])
def test_a_certificate_is_read_before_it_is_used(key: str, accepted: bool, certificate: str, tmp_path: Path) -> None:
    text = certificate if key == "own" else certificate.partition("-----BEGIN PRIVATE KEY-----")[0]
    (tmp_path / "new.pem").write_text(text)
    (tmp_path / "check.cfg").write_text(Role("haproxy", haproxy_apps=[]).render("certificate-check.cfg.j2"))
    said = subprocess.run(
        [haproxy(), "-c", "-f", str(tmp_path / "check.cfg")],
        env={"SLIPWAY_CERTIFICATE": str(tmp_path / "new.pem")}, capture_output=True, check=False,
    )  # fmt: skip
    assert (said.returncode == 0) is accepted


@pytest.fixture
def balanced(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Edge, dict[str, Edge]]]:
    """A load balancer before the edges of two hosts; the parameter is what it knows of the app beyond them."""
    hosts = {}
    for name in ("web1", "web2"):
        directory = tmp_path / name
        directory.mkdir()
        Slot(str(directory / "links-blue.sock"), f"blue of {name}")
        hosts[name] = Edge(directory, haproxy_trusted_proxies=["127.0.0.1"])
        hosts[name].start()
    directory = tmp_path / "lb"
    directory.mkdir()
    servers = {name: f"127.0.0.1:{edge.port}" for name, edge in hosts.items()}
    more = getattr(request, "param", {})
    balancer = Edge(directory, haproxy_apps=[{"name": "links", "servers": servers, **more}])
    balancer.start()
    wait_for(lambda: statuses(balancer) == {"web1": "UP", "web2": "UP"})
    yield balancer, hosts
    for edge in (balancer, *hosts.values()):
        edge.stop()


def statuses(balancer: Edge) -> dict[str, str]:
    rows = [line.split(",") for line in balancer.ask("show stat").splitlines() if line.startswith("app_links,web")]
    return {row[1]: row[17] for row in rows}


def answered_by(balancer: Edge, count: int = 8) -> set[str]:
    return {json.loads(balancer.get("/")[1])["slot"] for _ in range(count)}


def test_a_load_balancer_shares_requests_and_leaves_out_a_host_that_is_gone(
    balanced: tuple[Edge, dict[str, Edge]],
) -> None:
    balancer, hosts = balanced
    assert answered_by(balancer) == {"blue of web1", "blue of web2"}
    hosts["web1"].stop()
    assert answered_by(balancer) == {"blue of web2"}, "the first requests too: they are asked again at the other host"
    hosts["web1"].log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def test_a_port_that_changed_is_taken_from_the_configuration(balanced: tuple[Edge, dict[str, Edge]]) -> None:
    balancer, hosts = balanced
    piece = balancer.directory / "haproxy.cfg"
    known = balancer.directory / "server-state"
    moved = piece.read_text().replace(f":{hosts['web1'].port}", f":{hosts['web2'].port}")
    wanted = {"app_links": dict.fromkeys(hosts, (str(hosts["web2"].port), "0"))}
    known.write_text(held_back(balancer.ask("show servers state"), wanted))
    piece.write_text(moved)
    balancer.restart()
    assert answered_by(balancer) == {"blue of web2"}


def test_the_app_learns_who_asked_the_load_balancer(balanced: tuple[Edge, dict[str, Edge]]) -> None:
    balancer, _ = balanced
    response, body = balancer.get("/")
    headers = {name.lower(): value for name, value in json.loads(body)["headers"].items()}
    assert headers["x-request-id"] == response.headers["X-Request-ID"], "one id over both edges"
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_a_drained_host_gets_nothing_new_and_the_last_one_stays_in(balanced: tuple[Edge, dict[str, Edge]]) -> None:
    balancer, _ = balanced
    edge = RuntimeEdge(
        str(balancer.directory / "admin.sock"),
        "app_links",
        str(balancer.directory / "server-state"),
        expected=["web1", "web2"],
    )
    assert change(edge, "web1", "drain", wait=PATIENCE) == 0
    assert answered_by(balancer) == {"blue of web2"}
    record = {"operation": "drain", "what": "web1", "who": "ada"}
    with pytest.raises(EdgeError, match="web2 is the last host of links that gets requests, so it was left in") as left:
        change(edge, "web2", "drain", wait=PATIENCE, records=[record])
    drained = "web1 is drained by an operator (ada): it gets nothing; slipway.fleet.drain -e haproxy_server=web1 "
    assert str(left.value).endswith(f". {drained}-e haproxy_server_state=ready brings it back")
    change(edge, "web1", "ready", wait=PATIENCE)
    assert answered_by(balancer) == {"blue of web1", "blue of web2"}


@pytest.mark.parametrize("balanced", [{}, {"sticky": True}], indirect=True)
def test_the_status_sees_which_hosts_get_nothing(balanced: tuple[Edge, dict[str, Edge]]) -> None:
    balancer, hosts = balanced
    socket_, state = str(balancer.directory / "admin.sock"), str(balancer.directory / "server-state")
    edge = RuntimeEdge(socket_, "app_links", state, expected=["web1", "web2"])
    assert away(edge.servers(), []) == {}
    change(edge, "web1", "drain", wait=PATIENCE)
    record = {"operation": "drain", "what": "web1", "who": "ada"}
    (name, told), *others = away(edge.servers(), [record]).items()
    assert (name, others) == ("web1", [])
    assert told.why.startswith(
        "drained by an operator (ada): it gets nothing; slipway.fleet.drain -e haproxy_server=web1 "
    )
    since = edge.servers()["web1"].since
    assert since < PATIENCE, "it counts from the drain"
    # Its own edge restarts, and nobody takes that for worse than it is.
    hosts["web1"].stop()
    hosts["web1"].log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    wait_for(lambda: statuses(balancer)["web1"] in ("DOWN", "MAINT"))
    (told,) = away(edge.servers(), []).values()
    assert (told.amiss, told.why.startswith("taken out")) == (False, True)
    # Put back while nobody answers there.
    change(edge, "web1", "ready", 0.5)
    wait_for(lambda: "L4CON" in away(edge.servers(), [])["web1"].why)
    assert away(edge.servers(), [])["web1"].why.startswith("down: L4CON")


def test_a_release_that_listens_beside_its_directory_is_shown_in_it(tmp_path: Path) -> None:
    """Provisioning a host from before slots had directories costs no request, and follows nothing that an app left."""
    slots = {slot: str(tmp_path / slot / "app.sock") for slot in ("blue", "green")}
    role = Role("haproxy", haproxy_apps=[{"name": "links", "slots": slots}])
    script = role.task("configure.yml", "beside the directory of its slot", "ansible.builtin.shell")
    (tmp_path / "green.sock").symlink_to("/dev/log")
    with socket.socket(socket.AF_UNIX) as serving:
        serving.bind(str(tmp_path / "blue.sock"))
        serving.listen()
        said = [subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout for _ in "12"]
        assert said == [f"linked {slots['blue']}\n", ""], "once"
        with socket.socket(socket.AF_UNIX) as edge:
            edge.connect(slots["blue"])
    assert not (tmp_path / "green").exists()


def test_a_slot_has_a_second_door_that_is_shut_until_it_is_opened(tmp_path: Path, slots: dict[str, Slot]) -> None:
    by_port = ThreadingHTTPServer(("127.0.0.1", 0), answering("green by port"))
    threading.Thread(target=by_port.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    ports = {"green": by_port.server_port}
    edge = Edge(tmp_path, haproxy_apps=[app(tmp_path, ports=ports)])
    edge.start()
    try:
        of_slots = slot_ports("links") | ports
        assert parse_ports(edge.ask("show servers state").lstrip("\n")) == {
            ("app_links", slot): port for slot, port in of_slots.items()
        }
        assert {json.loads(edge.get("/x")[1])["slot"] for _ in range(8)} == {"blue", "green"}
        for door, state in {"blue": "drain", "green": "maint", "green-port": "ready"}.items():
            assert edge.ask(f"set server app_links/{door} state {state}").strip() == ""
        wait_for(lambda: edge.get("/x")[0].status == 200)
        found, body = edge.get("/x", X_Slipway_Probe="1")
        assert json.loads(body)["slot"] == "green by port"
        assert found.headers["X-Slipway-Answer"] == "app green", "the slot and not the door"
        (tmp_path / "server-state").write_text(edge.ask("show servers state").lstrip("\n"))
        edge.restart()
        wait_for(lambda: edge.get("/x")[0].status == 200)
        assert {json.loads(edge.get("/x")[1])["slot"] for _ in range(8)} == {"green by port"}
    finally:
        edge.stop()
        by_port.shutdown()
        by_port.server_close()


def visit(balancer: Edge, cookie: str) -> tuple[str, str]:
    """Who answers somebody with this cookie, and the cookie that is set, if one is."""
    answer, body = balancer.get("/", **({"Cookie": cookie} if cookie else {}))
    assert answer.status == 200
    return json.loads(body)["slot"], (answer.headers["Set-Cookie"] or "").partition(";")[0]


@pytest.mark.parametrize("balanced", [{"sticky": True}], indirect=True)
def test_a_visitor_comes_back_to_the_same_host_unless_it_is_out(balanced: tuple[Edge, dict[str, Edge]]) -> None:
    balancer, hosts = balanced
    first, cookie = visit(balancer, "")
    assert "web" not in cookie, "it tells nobody which hosts there are"
    assert {visit(balancer, cookie) for _ in range(6)} == {(first, "")}
    mine = first.rpartition(" ")[2]
    other = next(name for name in hosts if name != mine)
    state = balancer.directory / "server-state"
    edge = RuntimeEdge(str(balancer.directory / "admin.sock"), "app_links", str(state), expected=[mine])
    answer = balancer.get("/", Cookie=cookie)[0]
    assert answer.headers["Set-Cookie"] is None

    # One that is drained would still get whoever has its cookie.
    assert change(edge, mine, "drain", PATIENCE) == 0
    there, new = visit(balancer, cookie)
    assert there.endswith(other)
    assert new not in ("", cookie), "and stays there"
    assert {visit(balancer, cookie)[0] for _ in range(6)} == {there}
    with pytest.raises(EdgeError, match="is the last host"):
        change(edge, other, "drain", PATIENCE)
    balancer.restart()
    wait_for(lambda: statuses(balancer)[other] == "UP")
    assert {visit(balancer, cookie)[0] for _ in range(6)} == {there}, "after a restart, too"

    # Put back while nobody answers there, it gets nothing.
    hosts[mine].stop()
    hosts[mine].log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    change(edge, mine, "ready", 0.5)
    assert {visit(balancer, cookie)[0] for _ in range(6)} == {there}
    assert edge.servers()[mine].enabled
    assert statuses(balancer)[mine].startswith("DOWN")
    hosts[mine].start()
    wait_for(lambda: visit(balancer, cookie)[0] == first)

    # Who puts one back may take out the next one at once.
    assert change(edge, other, "drain", PATIENCE) == 0
    change(edge, other, "ready", PATIENCE)
    assert change(edge, mine, "drain", PATIENCE) == 0
