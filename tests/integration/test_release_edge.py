"""The edge against a real HAProxy on Unix sockets."""

from __future__ import annotations

import http.server
import shutil
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import (
    Edge,
    EdgeError,
    NotStored,
    Server,
    parse_servers,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get

# Seconds until what is only waited for is a failure.
PATIENCE = 60.0
CONFIGURATION = """
global
    stats socket {here}/admin.sock mode 600 level admin
    server-state-file {here}/state
defaults
    mode http
    timeout connect 60s
    timeout client 60s
    timeout server 60s
    # Else a check of which the answer takes longer than from one to the next has failed, as on a busy machine.
    timeout check 60s
    load-server-state-from-file global
frontend web
    bind unix@{here}/web.sock
    default_backend app_links
backend app_links
    option httpchk GET /readyz
    default-server check inter 100ms fastinter 100ms downinter 100ms fall 2 rise 1
    server blue unix@{here}/blue.sock
    server green unix@{here}/green.sock
"""


class Answer(http.server.BaseHTTPRequestHandler):
    """Says which slot it is, or its name."""

    name = ""

    def do_GET(self) -> None:
        body = (self.name or Path(self.server.server_address).stem).encode()  # type: ignore[arg-type]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "slot"

    def log_message(self, *_: object) -> None:
        return


class Slot(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("e")
    (directory / "state").touch()
    slots = [Slot(str(directory / f"{name}.sock"), Answer) for name in ("blue", "green")]
    for slot in slots:
        threading.Thread(target=slot.serve_forever, daemon=True).start()
    yield directory
    for slot in slots:
        slot.shutdown()
        slot.server_close()


@pytest.fixture
def haproxy(here: Path) -> Iterator[Callable[[], Edge]]:
    binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
    (here / "haproxy.cfg").write_text(CONFIGURATION.format(here=here))
    processes: list[subprocess.Popen[bytes]] = []

    def stop() -> None:
        while processes:
            process = processes.pop()
            process.terminate()
            process.wait(timeout=PATIENCE)

    def start() -> Edge:
        """Start it, or start it anew as a reboot would."""
        stop()
        processes.append(subprocess.Popen([binary, "-db", "-f", str(here / "haproxy.cfg")]))
        edge = Edge(str(here / "admin.sock"), "app_links", str(here / "state"))
        until(lambda: (here / "admin.sock").exists() and all(server.answers for server in edge.servers().values()))
        return edge

    yield start
    stop()


def until(true: Callable[[], bool]) -> None:
    """Wait for something that must happen; the limit only ends a test that has failed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if true():
                return
        except EdgeError:
            pass
        time.sleep(0.05)
    pytest.fail("it did not happen")


def test_drain_and_ready_move_requests_and_survive_a_restart(here: Path, haproxy: Callable[[], Edge]) -> None:
    edge = haproxy()
    assert {server.enabled for server in edge.servers().values()} == {True}
    edge.set_state("blue", "drain")
    assert {get(str(here / "web.sock"), "/", PATIENCE).body for _ in range(6)} == {"green"}
    until(lambda: edge.servers()["blue"] == Server(enabled=False, answers=True, sessions=0))
    edge = haproxy()
    assert [edge.servers()[slot].enabled for slot in ("blue", "green")] == [False, True]
    assert {get(str(here / "web.sock"), "/", PATIENCE).body for _ in range(6)} == {"green"}
    edge.set_state("blue", "ready")
    edge.set_state("green", "drain")
    assert {get(str(here / "web.sock"), "/", PATIENCE).body for _ in range(6)} == {"blue"}


def test_a_slot_that_answers_loses_no_request_to_one_that_does_not(here: Path, haproxy: Callable[[], Edge]) -> None:
    edge = haproxy()
    edge.set_state("green", "drain")
    (here / "green.sock").unlink()
    until(lambda: not edge.servers()["green"].answers)
    with pytest.raises(EdgeError, match="check of slot green does not pass, so slot blue keeps its requests"):
        edge.set_state("blue", "drain", beside="green")
    assert [edge.servers()[slot].enabled for slot in ("blue", "green")] == [True, False]
    edge.set_state("green", "drain", beside="blue")  # where nothing is lost, nothing is refused
    (here / "blue.sock").unlink()
    until(lambda: not edge.servers()["blue"].answers)
    edge.set_state("blue", "drain", beside="green")
    assert [edge.servers()[slot].enabled for slot in ("blue", "green")] == [False, True]


def test_requests_go_from_one_slot_to_the_other_in_one_step(here: Path, haproxy: Callable[[], Edge]) -> None:
    edge = haproxy()
    edge.set_state("green", "drain")
    edge.set_state("blue", "drain", beside="green")
    assert {get(str(here / "web.sock"), "/", PATIENCE).body for _ in range(6)} == {"green"}
    edge.set_state("green", "drain", beside="blue")
    assert {get(str(here / "web.sock"), "/", PATIENCE).body for _ in range(6)} == {"blue"}


def test_a_state_that_cannot_be_stored_is_set_all_the_same(here: Path, haproxy: Callable[[], Edge]) -> None:
    haproxy()
    edge = Edge(str(here / "admin.sock"), "app_links", str(here / "nowhere/state"))
    with pytest.raises(NotStored, match="cannot be written"):
        edge.set_state("blue", "drain")
    assert [edge.servers()[slot].enabled for slot in ("blue", "green")] == [False, True]


class Answers(Edge):
    """An edge whose answers are made up: the worker of `workers[0]` answers until the next `set server`."""

    def __init__(self, here: Path, *workers: str) -> None:
        super().__init__(str(here / "admin.sock"), "app_links", str(here / "state"))
        self.workers = list(workers)
        self.told: list[str] = []

    def ask(self, command: str) -> str:
        if command.startswith("set"):
            self.told.append(command)
            return ""
        enabled = self.workers.pop(0) if len(self.workers) > 1 else self.workers[0]
        rows = "".join(f"3 app_links 1 {slot} 2 {0 if slot in enabled.split() else 8}\n" for slot in ("blue", "green"))
        return f"1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state\n{rows}"


def test_a_worker_that_does_not_know_what_was_set_is_told_again_before_it_is_stored(tmp_path: Path) -> None:
    edge = Answers(tmp_path, "blue", "blue", "blue green")
    edge.set_state("green", "ready")
    assert len(edge.told) == 3
    assert "green 2 0" in (tmp_path / "state").read_text()


@pytest.mark.parametrize("checked", [False, True])
def test_a_worker_that_goes_refuses_nothing_by_each_part_of_its_answer(tmp_path: Path, checked: bool) -> None:
    class Goes(Answers):
        def ask(self, command: str) -> str:
            answer = super().ask(command)
            goes = command.startswith("set") and len(self.told) == 1
            # As HAProxy 2.6 answers a worker's client after it was told to go.
            return "Proxy is disabled.\n\n" * len(command.split(";")) if goes else answer

    edge = Goes(tmp_path, "blue", "blue green")
    edge.set_state("green", "ready", checked=checked)
    assert len(edge.told) == 2


def test_one_part_of_a_command_that_is_refused_is_named(tmp_path: Path) -> None:
    class Refuses(Answers):
        def ask(self, command: str) -> str:
            return "Proxy is disabled.\n\nNo such server.\n\n" if command.startswith("set") else super().ask(command)

    with pytest.raises(EdgeError, match=r"HAProxy refused .* health down`: No such server\.$"):
        Refuses(tmp_path, "blue").set_state("green", "ready", checked=True)


def test_one_that_never_keeps_it_is_named_and_nothing_is_stored(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="did not keep"):
        Answers(tmp_path, "blue").set_state("green", "ready")
    assert not (tmp_path / "state").exists()


def test_two_apps_never_store_an_older_dump_over_a_newer_one(tmp_path: Path) -> None:
    """Every dump has the servers of all apps; set, dump and store are one step for the host."""
    current: dict[str, str] = {}

    class Shared(Answers):
        def ask(self, command: str) -> str:
            if command.startswith("set"):
                current[command.split()[2]] = command.rsplit(maxsplit=1)[-1]
                return ""
            rows = [f"3 {name.replace('/', ' 1 ')} 2 {0 if state == 'ready' else 8}" for name, state in current.items()]
            time.sleep(0.01)
            return "1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state\n" + "\n".join(rows) + "\n"

    def work(backend: str) -> None:
        edge = Shared(tmp_path, "")
        edge.backend = backend
        for state in ("ready", "drain") * 10:
            edge.set_state("blue", state)

    threads = [threading.Thread(target=work, args=(f"app_{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "state").read_text().count(" 8\n") == 4


def test_what_is_wrong_is_named(here: Path, haproxy: Callable[[], Edge]) -> None:
    haproxy()
    stranger = Edge(str(here / "admin.sock"), "app_other", str(here / "state"))
    with pytest.raises(EdgeError, match="no backend app_other with the servers blue and green"):
        stranger.servers()
    with pytest.raises(EdgeError, match="HAProxy refused"):
        stranger.set_state("blue", "drain")
    with pytest.raises(EdgeError, match=r"does not answer on .*nowhere"):
        Edge(str(here / "nowhere"), "app_links", str(here / "state")).servers()


def test_a_drained_server_that_is_down_is_not_taken_for_enabled() -> None:
    statistics = "# pxname,svname,scur,status,check_status\napp_a,blue,0,DOWN,L4CON\napp_a,green,2,UP,* L7OK\n"
    states = (
        "1\n# be_id be_name srv_id srv_name srv_op_state srv_admin_state\n3 app_a 1 blue 0 8\n3 app_a 2 green 2 0\n"
    )
    assert parse_servers(statistics, states, "app_a") == {
        "blue": Server(enabled=False, answers=False, sessions=0),
        "green": Server(enabled=True, answers=True, sessions=2),
    }


@pytest.mark.parametrize(("name", "words"), [("gone.sock", "does not exist"), ("dead.sock", "nothing listens")])
def test_a_probe_names_what_it_met(here: Path, name: str, words: str) -> None:
    dead = Slot(str(here / "dead.sock"), Answer)
    dead.server_close()
    assert words in get(str(here / name), "/", 1).error


def test_an_edge_whose_configuration_has_no_map_goes_on_as_before(here: Path, haproxy: Callable[[], Edge]) -> None:
    """What it is told is there when it is provisioned."""
    edge = haproxy()
    edge.set_check("green", "/healthz", "links.example.org", "https")
    edge.keep_checks()
    assert "app_links/green /healthz|links.example.org|https\n" in (here / "health.map").read_text()
    assert edge.servers()["green"].check.startswith("L7OK")


@pytest.fixture
def mapped(here: Path, haproxy: Callable[[], Edge]) -> Edge:
    """An edge that looks at each slot as the map says."""
    (here / "health.map").write_text("# kept\napp_other/blue /other|localhost|http\n")
    look = (
        "option httpchk\n"
        "    http-check set-var(check.slot) srv_name\n"
        f"    http-check set-var(check.look) be_name,concat(/,check.slot),map_str({here}/health.map,/readyz)\n"
        '    http-check send meth GET uri-lf "%[var(check.look),word(1,|)]"'
    )
    text = (here / "haproxy.cfg").read_text()
    assert "option httpchk GET /readyz" in text
    (here / "haproxy.cfg").write_text(text.replace("option httpchk GET /readyz", look))
    return haproxy()


def test_what_a_slot_is_asked_is_set_at_once_and_kept(here: Path, mapped: Edge) -> None:
    for path in ("/healthz", "/up/?a=1&b=2"):
        mapped.set_check("green", path, "links.example.org", "https")
        shown = mapped.ask(f"show map {here}/health.map")
        assert f"app_links/green {path}|links.example.org|https\n" in shown
        lines = (here / "health.map").read_text().splitlines()[1:]
        assert lines == [f"app_links/green {path}|links.example.org|https", "app_other/blue /other|localhost|http"]


def test_what_a_reload_took_back_is_set_again(here: Path, mapped: Edge) -> None:
    mapped.set_check("green", "/healthz", "localhost", "http")
    map_file = here / "health.map"
    for command in (f"set map {map_file} app_links/green /before|localhost|http", f"clear map {map_file}"):
        mapped.ask(command)
        assert "/healthz" not in mapped.ask(f"show map {here}/health.map")
        mapped.keep_checks()
        assert "app_links/green /healthz|localhost|http\n" in mapped.ask(f"show map {here}/health.map")


def test_a_full_disk_keeps_no_slot_from_being_asked(here: Path, mapped: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy.write_durably", full)
    with pytest.raises(NotStored, match=r"health.map cannot be written \(No space left on device\)"):
        mapped.set_check("green", "/healthz", "localhost", "http")
    assert "app_links/green /healthz|localhost|http\n" in mapped.ask(f"show map {here}/health.map")


def test_what_the_last_check_got_is_told(here: Path, mapped: Edge) -> None:
    until(lambda: mapped.servers()["blue"].check.startswith("L7OK 200"))
    states = mapped.ask("show servers state")
    table = "# pxname,svname,scur,status,check_status,check_code,last_chk,\napp_links,blue,0,DOWN,{},\n"
    cases = {"L7STS,404,Not Found": "L7STS 404 Not Found", "L4CON,,Permission denied": "L4CON Permission denied"}
    for said, told in cases.items():
        for under_way in ("", "* "):
            assert parse_servers(table.format(under_way + said), states, "app_links")["blue"].check == told
