"""The authority and the apps of this scenario, as their teams would write their inventories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from authority import AT, Authority
from balancers import ADDRESSES, FLOATING, FLOATING_6, Pair
from contract import ROOT
from fleet import ssh_inventory
from served import ADDRESS, HOST, Site

# Where no registry is reached, the lab's Python image stands in for python:3.13-slim.
LAB = {
    "fastapi_image_build_args": {"PYTHON": "slipway.lab/python:3.13"},
    "fastapi_image_context": str(ROOT / "molecule/edge/page"),
    "fastapi_app_port": 8000,
    "fastapi_app_health_path": "/",
    "fastapi_app_memory_mib": 128,
    "fastapi_app_disk_reserve": 256,
}
QUICK = {"fastapi_app_soak": 1, "fastapi_app_drain": 2, "fastapi_app_canary": {"judged": False}}


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    there = Authority(tmp_path_factory.mktemp("authority") / "ca.pem")
    there.start()
    return there


@pytest.fixture(scope="session")
def make_site(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Callable[..., Site]:
    def make(name: str, *names: str, **more: Any) -> Site:
        scratch = tmp_path_factory.mktemp(name)
        inventory = ssh_inventory(scratch, {HOST: ADDRESS}, {"web": [HOST]})
        variables: dict[str, Any] = {
            "fastapi_app_name": name,
            "fastapi_app_host_names": list(names),
            "fastapi_app_environment": {"PAGE": name},
            "haproxy_acme_email": "ops@example.org",
            "haproxy_acme_directory": f"https://{AT}:14000/dir",
            "haproxy_acme_ca_file": str(authority.file),
            "haproxy_acme_eab": authority.binding(),
            **more,
        }
        (scratch / "group_vars").mkdir()
        (scratch / "group_vars" / "web.yml").write_text(yaml.safe_dump(LAB | variables))
        return Site(inventory=inventory, url="", scratch=scratch, usual=QUICK, names=names, trusted=authority.file)

    return make


@pytest.fixture(scope="session")
def shop(make_site: Callable[..., Site]) -> Site:
    tried = {"haproxy_acme_staging_directory": f"https://{AT}:14001/dir"}
    return make_site("shop", "shop.example.org", "www.shop.example.org", **tried)


@pytest.fixture(scope="session")
def board(make_site: Callable[..., Site]) -> Site:
    """Its team has certificates ordered by DNS, for all apps of the edge: it has a star."""
    return make_site(
        "board",
        "board.example.org",
        "*.board.example.org",
        fastapi_app_redirect_names=["boards.example.org"],
        haproxy_shared_settings="replace",
        haproxy_acme_dns_hook=str(ROOT / "molecule/edge/dns-hook"),
        haproxy_acme_dns_environment={"NAME_SERVER": AT},
    )


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory, authority: Authority, shop: Site) -> Pair:
    """Two balancers before the host of the shop, as the team of the shop has them in its inventory."""
    scratch = tmp_path_factory.mktemp("pair")
    groups = {"web": [HOST], "load_balancer": list(ADDRESSES)}
    inventory = ssh_inventory(scratch, {HOST: ADDRESS, **ADDRESSES}, groups)
    authority.start()
    authority.says("shop.example.org", FLOATING)
    behind = {
        "name": "shop",
        "host_names": ["shop.example.org"],
        "health_path": "/",
        "servers": {HOST: f"{ADDRESS}:80"},
    }
    variables: dict[str, Any] = {
        "haproxy_apps": [behind],
        # They are in one network, where it would be by plain HTTP.
        "haproxy_tls_to_hosts": True,
        "haproxy_floating_addresses": [f"{FLOATING}/24", f"{FLOATING_6}/64"],
        # So long it leaves its clients to themselves before it hands an address over.
        "haproxy_keep_alive_timeout": 2,
        "haproxy_floating_balancers": "{{ groups['load_balancer'] | map('extract', hostvars, 'ansible_host') }}",
        "haproxy_acme_email": "ops@example.org",
        "haproxy_acme_directory": f"https://{AT}:14000/dir",
        "haproxy_acme_ca_file": str(authority.file),
        "haproxy_acme_eab": authority.binding(),
    }
    (scratch / "group_vars").mkdir()
    (scratch / "group_vars" / "load_balancer.yml").write_text(yaml.safe_dump(variables))
    of_shop = yaml.safe_load((shop.scratch / "group_vars" / "web.yml").read_text())
    # The other team, which is gone, had set the edge's.
    web = {**of_shop, "haproxy_shared_settings": "replace", "haproxy_acme_missing": "tell"}
    (scratch / "group_vars" / "web.yml").write_text(yaml.safe_dump(web))
    return Pair(
        inventory=inventory,
        url="",
        scratch=scratch,
        names=("shop.example.org",),
        trusted=authority.file,
        address=FLOATING,
    )
