"""Apps of several inventories behind one edge, and hosts from before apps had pieces: with a real HAProxy."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge as RuntimeEdge
from ansible_collections.slipway.fleet.plugins.module_utils.host.files import TreeError
from ansible_collections.slipway.fleet.plugins.modules.edge import act

from tests.templates.rendering import ROOT, Role
from tests.templates.test_haproxy import Edge, Slot, app, configuration, haproxy, reload, wait_for

BEFORE = Path(__file__).with_name("before_pieces.cfg")


class Shared(Edge):
    """An edge under a master process, as on a host, provisioned by inventories of their own."""

    def provision(self, *apps: dict[str, Any], **variables: Any) -> dict[str, Any]:
        """What role haproxy does on the host in one run, the reload included."""
        role = Role("haproxy", **{**self.variables_of_role, "haproxy_apps": list(apps), **variables})
        pieces = {entry["name"]: role.render("app.cfg.j2", app=entry) for entry in apps}
        sent = {"files": {}, "pieces": pieces, "edge": role.render("edge.cfg.j2")}
        states = {name: role.value("__haproxy_edge")[name] for name in ("admin_socket", "state_file")}
        return self.apply(sent, settings=role.value("__haproxy_settings"), **states)

    def remove(self, name: str) -> dict[str, Any]:
        return self.apply({"files": {}, "pieces": {}}, removed=[name])

    def apply(self, sent: dict[str, Any], **more: Any) -> dict[str, Any]:
        result = act(
            {
                "directory": str(self.directory),
                "files": [],
                "settings": {},
                "shared_settings": "refuse",
                "removed": [],
                "switched": str(self.directory / "switched.map"),
                "stale": [],
                "owner": str(os.getuid()),
                "group": str(os.getgid()),
                "validate": f"{haproxy()} -c -f %s",
                "contents": base64.b64encode(json.dumps(sent).encode()).decode(),
                **more,
            },
            check_mode=False,
        )
        if result["changed"]:
            self.reload()
        return result

    def start(self) -> None:
        command = [haproxy(), "-W", "-db", "-f", str(self.directory / "haproxy.cfg")]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(self._listens)

    def reload(self) -> None:
        assert self.process
        reload(self.process, self.worker)

    def worker(self) -> str:
        return next(line for line in self.ask("show info").splitlines() if line.startswith("Pid:"))

    def slot_of(self, host: str) -> str:
        response, body = self.get("/x", Host=host)
        return str(json.loads(body)["slot"]) if response.status == 200 else str(response.status)

    def serving(self, name: str) -> set[str]:
        edge = RuntimeEdge(str(self.directory / "admin.sock"), f"app_{name}", str(self.directory / "server-state"))
        return {slot for slot, server in edge.servers().items() if server.enabled and slot in ("blue", "green")}

    def switch(self, name: str, slot: str) -> None:
        """Take a slot out, as a release does."""
        edge = RuntimeEdge(str(self.directory / "admin.sock"), f"app_{name}", str(self.directory / "server-state"))
        edge.set_state(slot, "drain")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    """The edge of an app links with two slots, with those of an app shop beside it."""
    slots = [
        Slot(str(tmp_path / f"{name}-{slot}.sock"), f"{name} {slot}")
        for name in ("links", "shop")
        for slot in ("blue", "green")
    ]
    found = Shared(tmp_path, haproxy_apps=[app(tmp_path, host_names=["links.example.test"])])
    found.start()
    yield found
    found.stop()
    for slot in slots:
        slot.server.shutdown()
        slot.server.server_close()


class Asking:
    """Requests for an app, one after the other, until it is told to end."""

    def __init__(self, edge: Edge, host: str, method: str = "GET") -> None:
        self.answers: list[str] = []
        self._ended = threading.Event()

        def ask() -> None:
            while not self._ended.is_set():
                try:
                    self.answers.append(str(edge.get("/x", method, Host=host)[0].status))
                except OSError as error:
                    self.answers.append(repr(error))

        self._thread = threading.Thread(target=ask)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_another_app_comes_and_goes_and_the_first_one_loses_no_request(shared: Shared) -> None:
    shared.switch("links", "green")
    with Asking(shared, "links.example.test") as asking:
        assert shared.slot_of("shop.example.test") == "421"
        shared.provision(app(shared.directory, "a-shop", host_names=["shop.example.test"]))
        shared.provision(app(shared.directory, "shop", host_names=["*.shop.example.test"]))
        assert shared.slot_of("www.shop.example.test").startswith("shop ")
        assert shared.serving("links") == {"blue"}, "though an app stands before it"
        shared.remove("a-shop")
        shared.remove("shop")
        assert shared.slot_of("www.shop.example.test") == "421"
        assert shared.serving("links") == {"blue"}
    assert set(asking.answers) == {"200"}
    assert len(asking.answers) > 10


def test_a_piece_that_haproxy_does_not_take_changes_nothing(shared: Shared) -> None:
    before = (shared.directory / "haproxy.cfg").read_text()
    with pytest.raises(TreeError, match="no file was changed"):
        shared.provision(app(shared.directory, "shop", host_names=["s.example.test"], server_timeout="soon"))
    assert (shared.directory / "haproxy.cfg").read_text() == before
    assert sorted(path.name for path in (shared.directory / "apps").iterdir()) == ["links.cfg"]


def test_the_page_of_one_app_outlives_the_provisioning_of_another(shared: Shared) -> None:
    nobody = {"haproxy_maintenance_passes": ["192.0.2.0/24"]}
    shared.provision(app(shared.directory, host_names=["links.example.test"]), haproxy_maintenance=["links"], **nobody)
    shared.provision(app(shared.directory, "shop"), **nobody)
    assert (shared.slot_of("links.example.test"), shared.slot_of("other.example.test")[:4]) == ("503", "shop")


def old(edge: Shared) -> None:
    """What the version before pieces left on a host: one file, with the apps links and shop."""
    text = BEFORE.read_text().replace("@HERE@", str(edge.directory)).replace("@PORT@", str(edge.port))
    for path in ("edge.cfg", "edge.json", "apps/links.cfg"):
        (edge.directory / path).unlink()
    (edge.directory / "apps").rmdir()
    (edge.directory / "haproxy.cfg").write_text(text)
    for status in (502, 503, 504):
        (edge.directory / "pages" / f"{status}.http").write_text(f"HTTP/1.1 {status} Error\r\n\r\n")
    (edge.directory / "maintenance.map").write_text("links off\nshop off\n")
    edge.reload()


def test_a_host_from_before_pieces_is_taken_over_and_no_app_loses_anything(shared: Shared) -> None:
    old(shared)
    shared.switch("links", "green")
    shared.switch("shop", "blue")
    with Asking(shared, "links.example.test") as of_links, Asking(shared, "any.example.test") as of_shop:
        shared.provision(app(shared.directory, host_names=["links.example.test", "l.example.test"]))
        assert (shared.serving("links"), shared.serving("shop")) == ({"blue"}, {"green"})
        assert shared.slot_of("any.example.test") == "shop green"
        assert not shared.provision(app(shared.directory, host_names=["links.example.test", "l.example.test"]))[
            "changed"
        ]
        # The inventory of the other app follows.
        shared.provision(app(shared.directory, "shop", health_path="/livez"))
        assert (shared.serving("links"), shared.serving("shop")) == ({"blue"}, {"green"})
    assert (set(of_links.answers), set(of_shop.answers)) == ({"200"}, {"200"})
    assert sorted(path.name for path in (shared.directory / "apps").iterdir()) == ["links.cfg", "shop.cfg"]


def test_the_taken_over_names_and_page_are_those_that_were(shared: Shared) -> None:
    old(shared)
    (shared.directory / "maintenance.map").write_text("links on\nshop off\n")
    shared.provision(app(shared.directory, "shop"))
    text = (shared.directory / "apps" / "links.cfg").read_text()
    assert (
        "# host name: links.example.test\n# host name: l.example.test\n# maintenance: on\nbackend app_links\n" in text
    )
    assert "links on\nshop off\n" in (shared.directory / "maintenance.map").read_text()


def test_an_app_is_removed_from_a_host_from_before_pieces(shared: Shared) -> None:
    old(shared)
    shared.remove("links")
    assert shared.slot_of("links.example.test").startswith("shop ")


def test_what_a_test_writes_is_what_the_module_puts_on_a_host(shared: Shared) -> None:
    shared.provision(app(shared.directory, host_names=["links.example.test"]))
    role = Role("haproxy", **shared.variables_of_role)
    assert configuration(role)["haproxy.cfg"] == (shared.directory / "haproxy.cfg").read_text()


def test_a_hash_of_a_password_is_on_no_screen(shared: Shared) -> None:
    """Neither with --diff nor in what the module is called with; another hash is seen to be another one."""
    before, after = ("$6$salt$" + letter * 86 for letter in "ab")
    first = shared.provision(app(shared.directory, host_names=["links.example.test"], basic_auth={"review": before}))
    second = shared.provision(app(shared.directory, host_names=["links.example.test"], basic_auth={"review": after}))
    assert before[:-1] not in json.dumps(first["diff"])
    changed = [part for part in second["diff"] if "user review password (hash " in part["after"]]
    assert [part["after_header"].rpartition("/")[2] for part in changed] == ["links.cfg", "haproxy.cfg"]
    assert all(part["before"] != part["after"] for part in changed)
    assert not any(text[8:] in json.dumps(second) for text in (before, after))
    assert f"user review password {after}\n" in (shared.directory / "apps/links.cfg").read_text()
    assert shared.slot_of("links.example.test") == "401"


def test_a_run_that_is_verbose_shows_no_hash_either(tmp_path: Path) -> None:
    """What Ansible prints of a module's arguments, of its result and of a difference."""
    secret = "$6$salt$" + "a" * 86
    options = {
        "directory": str(tmp_path / "haproxy"),
        "piece": str(ROOT / "roles/haproxy/templates/app.cfg.j2"),
        "edge": str(tmp_path / "edge.cfg"),
        "apps": "{{ haproxy_apps }}",
        "files": [
            {
                "dest": str(tmp_path / "haproxy"),
                "state": "directory",
                "owner": str(os.getuid()),
                "group": str(os.getgid()),
                "mode": "0755",
            }
        ],
        "owner": str(os.getuid()),
        "group": str(os.getgid()),
        "validate": "test -f %s",
    }
    role = {"name": "slipway.fleet.haproxy", "tasks_from": "values", "public": True}
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {
            "fastapi_app_name": "links",
            "fastapi_app_basic_auth": {"review": secret},
            "ansible_python_interpreter": sys.executable,
        },
        "tasks": [{"ansible.builtin.include_role": role}, {"slipway.fleet.edge": options}],
    }
    (tmp_path / "edge.cfg").write_text("global\n")
    (tmp_path / "play.json").write_text(json.dumps([play]))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    said = subprocess.run(
        [program, "-i", "localhost,", "-c", "local", "-vvv", "--diff", str(tmp_path / "play.json")],
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"user review password {secret}\n" in (tmp_path / "haproxy/apps/links.cfg").read_text()
    assert "user review password (hash " in said.stdout
    assert "aaaaaaaa" not in said.stdout + said.stderr


def test_a_host_that_is_added_gets_nothing_before_it_has_passed_a_check(tmp_path: Path) -> None:
    """Its edge has no release yet and answers 503, after which a POST is not sent to the other host."""
    hosts = {}
    for name in ("web1", "web2"):
        (tmp_path / name).mkdir()
        hosts[name] = Edge(tmp_path / name, haproxy_trusted_proxies=["127.0.0.1"])
        hosts[name].start()
    first = Slot(str(tmp_path / "web1" / "links-blue.sock"), "web1")
    wait_for(lambda: hosts["web1"].get("/x")[0].status == 200 and hosts["web2"].get("/x")[0].status == 503)
    servers = {name: f"127.0.0.1:{edge.port}" for name, edge in hosts.items()}
    (tmp_path / "lb").mkdir()
    balancer = Shared(tmp_path / "lb", haproxy_apps=[{"name": "links", "servers": {"web1": servers["web1"]}}])
    balancer.start()
    wait_for(lambda: balancer.get("/x")[0].status == 200)
    with Asking(balancer, "links", "POST") as asking:
        balancer.provision({"name": "links", "servers": servers})
        wait_for(lambda: states_of(balancer) == {"web1": "UP", "web2": "DOWN"})
        second = Slot(str(tmp_path / "web2" / "links-blue.sock"), "web2")
        wait_for(lambda: states_of(balancer) == {"web1": "UP", "web2": "UP"})
        wait_for(lambda: balancer.slot_of("links") == "web2")
        balancer.provision({"name": "links", "servers": {"web2": servers["web2"]}})
        assert {balancer.slot_of("links") for _ in range(4)} == {"web2"}
    assert set(asking.answers) == {"200"}, f"{len(asking.answers)} requests"
    for edge in (balancer, *hosts.values()):
        edge.stop()
    for slot in (first, second):
        slot.stop()


def states_of(balancer: Edge) -> dict[str, str]:
    """Status of each host behind a balancer, once it was checked."""
    rows = [line.split(",") for line in balancer.ask("show stat").splitlines() if line.startswith("app_links,web")]
    return {row[1]: row[17] for row in rows if row[36].startswith("L7")}
