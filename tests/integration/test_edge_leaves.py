"""A host leaves a real HAProxy before its own edge restarts, and comes back: by the role, with hosts that are local."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge

from tests.integration.test_release_edge import haproxy, here  # noqa: F401 - fixtures

HOSTS = {
    "all": {
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
        "children": {"web": {"hosts": {"blue": {}, "green": {}}}, "load_balancer": {"hosts": {"lb": {}}}},
    }
}
COPY = "cp {{ __haproxy_state_file }} {{ __haproxy_runtime }}/{{ inventory_hostname }}"
PLAY = [
    {
        "name": "Restart",
        "hosts": "web",
        "gather_facts": False,
        "serial": 1,
        "vars": {"haproxy_balancers": ["lb"], "haproxy_apps": [{"name": "links"}]},
        "tasks": [
            {"ansible.builtin.include_role": {"name": "slipway.fleet.haproxy", "tasks_from": "leave"}},
            {"ansible.builtin.command": COPY},
            {"ansible.builtin.include_role": {"name": "slipway.fleet.haproxy", "tasks_from": "come_back"}},
        ],
    }
]


def enabled(edge: Edge) -> dict[str, bool]:
    return {name: server.enabled for name, server in edge.servers().items()}


def test_a_host_leaves_and_comes_back_unless_an_operator_took_it_out(
    here: Path,  # noqa: F811 - the fixture
    haproxy: Callable[[], Edge],  # noqa: F811 - the fixture
) -> None:
    edge = haproxy()
    (here / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
    (here / "play.yml").write_text(yaml.safe_dump(PLAY))
    places = json.dumps({"__haproxy_runtime": str(here), "__haproxy_state_file": str(here / "state")})

    def play(*more: str) -> str:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(here / "hosts.yml")]
        ran = subprocess.run(
            [*command, str(here / "play.yml"), "-e", places, *more], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    play()
    assert enabled(edge) == {"blue": True, "green": True}
    for host in ("blue", "green"):
        seen = [line.split()[3:7] for line in (here / host).read_text().splitlines() if " app_links " in line]
        # srv_name, srv_addr, srv_op_state, srv_admin_state: 8 is drained by the admin socket.
        assert {row[0]: int(row[3]) & 8 for row in seen} == {
            "blue": 8 * (host == "blue"),
            "green": 8 * (host == "green"),
        }
    edge.set_state("green", "drain")
    play("--limit", "green")
    assert enabled(edge) == {"blue": True, "green": False}, "it stays as the operator wanted it"


def test_whoever_drains_a_host_is_told_how_to_bring_it_back_or_which_hosts_there_are(
    here: Path,  # noqa: F811 - the fixture
    haproxy: Callable[[], Edge],  # noqa: F811 - the fixture
) -> None:
    edge = haproxy()
    role = {"name": "slipway.fleet.haproxy", "tasks_from": "balance", "rolespec_validate": False}
    play = {
        "name": "Drain",
        "hosts": "load_balancer",
        "gather_facts": False,
        "vars": {"haproxy_apps": [{"name": "links"}]},
        "tasks": [{"ansible.builtin.include_role": role}],
    }
    (here / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
    (here / "play.yml").write_text(yaml.safe_dump([play]))
    places = json.dumps({"__haproxy_runtime": str(here), "__haproxy_state_file": str(here / "state")})

    def drain(server: str, **more: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(here / "hosts.yml"), "--check"]
        variables = json.dumps({"haproxy_server": server, **more})
        ran = subprocess.run(
            [*command, str(here / "play.yml"), "-e", places, "-e", variables],
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, " ".join(ran.stdout.split())

    code, said = drain("blue")
    assert code == 0, said
    undone = "slipway.fleet.drain -e haproxy_server=blue -e haproxy_server_state=ready brings it back"
    assert f"lb would send blue nothing of links. {undone}" in said
    code, said = drain("blue", haproxy_server_state="ready")
    assert (code, "lb sends blue requests of links as before" in said) == (0, True), said
    code, said = drain("web9")
    assert (code, "web9 is no server of links on lb; there are blue, green. Nothing was done there." in said) == (
        2,
        True,
    )
    code, said = drain("blue", haproxy_server_app="shop")
    assert (code, "shop is not on lb: it was removed, or this balancer was not" in said) == (2, True), said
    code, said = drain("blue", haproxy_server_wait="soon")
    assert (code, "wait" in said, len(said) < 1500) == (2, True, True), said
    assert enabled(edge) == {"blue": True, "green": True}


def test_the_status_tells_who_was_taken_out_by_what_haproxy_does_now(
    here: Path,  # noqa: F811 - the fixture
    haproxy: Callable[[], Edge],  # noqa: F811 - the fixture
) -> None:
    edge = haproxy()
    edge.set_state("green", "drain")
    (here / "apps").mkdir()
    (here / "apps/links.cfg").touch()
    servers = dict.fromkeys(("blue", "green"), "127.0.0.1:1")
    play = {
        "name": "Look",
        "hosts": "load_balancer",
        "gather_facts": False,
        "vars": {"haproxy_apps": [{"name": "links", "servers": servers}], "haproxy_tls_to_hosts": False},
        "tasks": [
            {"ansible.builtin.include_role": {"name": "slipway.fleet.haproxy", "tasks_from": "peers_status"}},
            {
                "slipway.fleet.tell": {
                    "what": "peers",
                    "results": "haproxy_peers_status_result",
                    "file": str(here / "f"),
                }
            },
        ],
    }
    (here / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
    (here / "play.yml").write_text(yaml.safe_dump([play]))
    places = json.dumps({"__haproxy_runtime": str(here), "__haproxy_directory": str(here)})
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(here / "hosts.yml")]
    ran = subprocess.run([*command, str(here / "play.yml"), "-e", places], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    (row,) = json.loads((here / "f").read_text())
    problems = {one["host"]: one["problem"] for one in row["servers"]}
    assert problems["blue"] == ""
    assert problems["green"].startswith("taken out ("), "no operator did it"
    assert row["problems"] == [], "it may be a run that is not done yet"
