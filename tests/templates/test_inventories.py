"""What the example inventories make of their few lines, as Ansible reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.templates.rendering import ROOT, Role


def variable(inventory: str, host: str, name: str, **given: Any) -> Any:
    """A variable of a host of an inventory, with others given; nobody is connected to."""
    command = [str(Path(sys.executable).with_name("ansible")), "-i", str(ROOT / "inventories" / inventory), host]
    debug = ["-m", "ansible.builtin.debug", "-a", f"var={name}", "--one-line", "-e", json.dumps(given)]
    said = subprocess.run([*command, *debug], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return json.loads(said.partition("=>")[2])[name]


def test_the_balancer_sends_to_every_web_host_what_their_app_takes() -> None:
    (app,) = variable("fleet", "lb1", "haproxy_apps", fastapi_app_health_path="/healthz")
    assert app | {"server_timeout": int(app["server_timeout"])} == {
        "name": "myapp",
        "host_names": [],
        "redirect_names": [],
        "paths": [],
        "health_path": "/healthz",
        "health_statuses": ["200-299"],
        "maintenance_page": "",
        "sticky": False,
        "server_timeout": 75,
        "servers": {"web1": "192.0.2.11:80", "web2": "192.0.2.12:80", "web3": "192.0.2.13:80"},
    }


def test_the_balancer_asks_for_an_app_with_the_path_that_hosts_take_away() -> None:
    (app,) = variable("fleet", "lb1", "haproxy_apps", fastapi_app_paths=["/api"], fastapi_app_strip_path=True)
    assert (app["paths"], app["health_path"]) == (["/api"], "/api/healthz")


def test_a_host_that_serves_has_its_app_at_its_edge_by_the_app_s_own_variables() -> None:
    own = {"fastapi_app_name": "links", "fastapi_app_host_names": ["l.example"], "fastapi_app_edge_timeout": 20}
    slots = {slot: f"/run/slipway/links/{slot}/app.sock" for slot in ("blue", "green")}
    assert Role("haproxy", fastapi_app_name="links").value("haproxy_apps") == [{"name": "links", "slots": slots}]
    assert Role("haproxy", **own, fastapi_app_health_path="/healthz").value("haproxy_apps") == [
        {
            "name": "links",
            "slots": slots,
            "host_names": ["l.example"],
            "health_path": "/healthz",
            "server_timeout": 20,
        }
    ]


def test_what_the_edge_does_for_the_app_of_a_host_is_said_by_the_app_s_variables() -> None:
    said = {
        "redirect_names": ["www.l.example"],
        "paths": ["/api"],
        "strip_path": True,
        "version_path": "/version",
        "max_body_mib": 20,
        "rate_limit": {"requests": 100, "seconds": 10},
        "max_connections": 40,
        "allowed_networks": ["203.0.113.0/24"],
        "blocked_agents": ["GPTBot"],
        "basic_auth": {"review": "$6$a$" + "a" * 86},
        "robots": False,
        "compression": ["text/css"],
        "maintenance_page": "page.html",
    }
    of_the_app = {f"fastapi_app_{name}": value for name, value in said.items()}
    (app,) = Role("haproxy", fastapi_app_name="links", **of_the_app).value("haproxy_apps")
    assert {name: value for name, value in app.items() if name not in ("name", "slots")} == said
    specs = yaml.safe_load((ROOT / "roles/haproxy/meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    assert set(app) <= set(specs["options"]["haproxy_apps"]["options"])


def of_data() -> dict[str, Any]:
    """The variables of the play that runs database and cache."""
    plays = yaml.safe_load((ROOT / "playbooks/provision.yml").read_text())
    (given,) = [play["vars"] for play in plays if "{'name': 'slipway.fleet.redis'" in str(play.get("tasks"))]
    assert isinstance(given, dict)
    return given


@pytest.mark.parametrize(("inventory", "host"), [("fleet", "data1"), ("single", "web1")])
def test_database_and_cache_are_of_the_app_of_the_web_hosts(inventory: str, host: str) -> None:
    app = variable(inventory, host, "slipway_app", **of_data())
    assert app == "myapp"
    assert Role("redis", slipway_app=app).value("redis_app") == app
    assert Role("postgres", slipway_app=app, postgres_database="links").value("postgres_app") == app
    assert Role("postgres", slipway_app="", postgres_database="links").value("postgres_app") == "links"


@pytest.mark.parametrize("role", ["postgres", "redis"])
def test_an_inventory_can_say_what_a_role_of_the_data_hosts_asks_for(role: str) -> None:
    """Variables of a play outrank those of an inventory."""
    assert not set(of_data()) & set(yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()))
