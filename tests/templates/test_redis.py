from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.slipway.fleet.plugins.module_utils.host import files as tree

from tests.templates.rendering import ROOT, Role

PASSWORD = "planted-secret-0123456789"


def role(**variables: Any) -> Role:
    return Role("redis", **{"redis_password": PASSWORD, "redis_memory_mib": 128, **variables})


def service(**variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(role(**variables).render("compose.yaml.j2"))["services"]["redis"]
    return found


def settings(**variables: Any) -> dict[str, str]:
    text = role(**variables).render("redis.conf.j2")
    return dict(line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_the_container_can_do_as_little_as_possible() -> None:
    found = service()
    assert found["user"] == "999:999"
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["read_only"] is True
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["restart"] == "unless-stopped"
    assert "environment" not in found


def test_it_is_published_only_when_that_is_wanted() -> None:
    assert "ports" not in service()
    assert service(redis_publish="10.0.0.5:6379")["ports"] == ["10.0.0.5:6379:6379"]


@pytest.mark.parametrize("template", ["compose.yaml.j2", "redis.conf.j2", "users.acl.j2"])
def test_the_password_is_in_no_file_at_all(template: str) -> None:
    assert PASSWORD not in role().render(template)


def test_users() -> None:
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    apps, health, loader = role().render("users.acl.j2").splitlines()
    assert apps == f"user default on #{digest} ~* &* +@all -@admin -@dangerous +info"
    assert health == "user health on nopass resetkeys resetchannels -@all +ping"
    assert loader == "user loader on nopass resetkeys resetchannels -@all +acl|load"
    listed = next(item for item in role().value("__redis_files") if item["dest"].endswith("users.acl"))
    assert listed["mode"] == "0400"
    assert listed["secret"] is True


def test_new_settings_are_a_new_container_and_a_new_password_is_not() -> None:
    assert service()["labels"] != service(redis_settings={"hz": 20})["labels"]
    assert service() == service(redis_password="another-secret-0123456789")


def test_the_limits_in_seconds_are_the_user_s() -> None:
    slow = {"redis_start_deadline": 900, "redis_check_timeout": 40}
    check = service(**slow)["healthcheck"]
    assert (check["start_period"], check["timeout"]) == ("900s", "40s")
    assert "TimeoutStartSec=900" in role(redis_provider="native", **slow).render("unit.conf.j2").splitlines()


def test_settings() -> None:
    assert settings()["maxmemory"] == "96mb"
    assert settings()["appendonly"] == "yes"
    assert settings()["save"] == '""'
    assert settings(redis_persistence=False)["appendonly"] == "no"
    changed = settings(redis_settings={"appendfsync": "always", "timeout": None, "activedefrag": True})
    assert changed["appendfsync"] == "always"
    assert changed["activedefrag"] == "yes"
    assert "timeout" not in changed


def test_the_rules_read_the_variables_as_ansible_renders_them() -> None:
    assert role().value("__redis_wrong_values") == []
    assert role(redis_memory_mib=31).value("__redis_wrong_values") == ["redis_memory_mib is 31; use at least 32."]


def test_the_packaged_server_listens_on_its_socket_alone() -> None:
    found = settings(redis_provider="native")
    assert found["port"] == "0"
    assert found["unixsocket"] == "/run/redis/redis.sock"
    assert found["aclfile"] == "/opt/slipway/redis/secrets/users.acl"
    assert found["maxmemory"] == settings()["maxmemory"]
    assert "unixsocket" not in settings()
    published = settings(redis_provider="native", redis_publish="10.0.0.5:6380")
    assert (published["bind"], published["port"]) == ("10.0.0.5", "6380")


def test_the_packaged_server_reads_our_configuration() -> None:
    native = role(redis_provider="native")
    assert "/opt/slipway/redis/config/redis.conf --supervised systemd" in native.render("unit.conf.j2")
    files = native.value("__redis_native_files")
    assert "/etc/systemd/system/redis-server.service.d/slipway.conf" in [item["dest"] for item in files]
    users = native.value("__redis_user_files")
    assert next(item for item in users if item["dest"].endswith("users.acl"))["owner"] == "redis"
    assert not [item for item in files if item["dest"].endswith("users.acl")], "it is loaded, and restarts nothing"


def test_a_cache_beside_the_first_one_shares_nothing_with_it() -> None:
    """A container of the same service name would answer under the other one's."""
    first, shop = (yaml.safe_load(role(redis_instance=name).render("compose.yaml.j2")) for name in ("", "shop"))
    assert (first["name"], list(first["services"]), first["volumes"]["data"]["name"]) == (
        "slipway-redis",
        ["redis"],
        "slipway-redis-data",
    )
    assert (shop["name"], list(shop["services"]), shop["volumes"]["data"]["name"]) == (
        "slipway-redis-shop",
        ["redis-shop"],
        "slipway-redis-shop-data",
    )

    def places(**variables: Any) -> set[str]:
        files = role(**variables).value("__redis_files + __redis_unit_files + __redis_removed_files")
        return {item["dest"] for item in files} - {"/opt/slipway", "/opt/slipway/redis", "/opt/slipway/redis/instances"}

    assert not places() & places(redis_instance="shop")
    assert not places(redis_instance="shop") & places(redis_instance="shop-2")
    assert role(redis_instance="shop").value("__redis_load")[3:7] == [
        "/opt/slipway/redis/instances/shop",
        "exec",
        "-T",
        "redis-shop",
    ]


@pytest.mark.parametrize("provider", ["compose", "native"])
@pytest.mark.parametrize("name", ["", "shop"])
def test_a_removal_that_was_cut_can_be_run_again(provider: str, name: str) -> None:
    """What says that there is a cache goes last, and what a run is told by is there until then."""
    found = role(redis_instance=name, redis_provider=provider)
    _, looked = found.task("look.yml", "Read the users", "ansible.builtin.command")["argv"]
    *before, last = (item["dest"] for item in found.value("__redis_removed_files"))
    assert Path(looked).is_relative_to(last)
    assert not [path for path in before if Path(looked).is_relative_to(path)]
    assert f"{found.value('__redis_root')}/compose.yaml" in before
    data = {"": "/var/lib/redis/appendonlydir", "shop": "/var/lib/redis-shop"}[name]
    assert (data in before) == (provider == "native")


def test_a_cache_is_removed_where_every_host_that_may_serve_was_looked_at() -> None:
    loader = DataLoader()
    plays = loader.load_from_file(str(ROOT / "playbooks/remove_cache.yml"), trusted_as_template=True)
    (play,) = [play for play in plays if play["name"] == "Delete the cache"]
    refusal, *_ = play["tasks"]

    def refused(web: list[str], *seen: str, unused: bool = False) -> str:
        hosts = {name: {"inventory_hostname": name} for name in (*web, "db1")}
        for name in seen:
            hosts[name]["serving_result"] = "is there"
        variables = {"hostvars": hosts, "groups": {"data": ["db1"], **({"web": web} if web else {})}}
        templar = Templar(loader, variables=play["vars"] | variables | {"slipway_cache_unused": unused})
        if not templar.evaluate_conditional(refusal["when"]):
            return ""
        said = refusal["ansible.builtin.assert"]
        return "" if templar.evaluate_conditional(said["that"]) else str(templar.template(said["fail_msg"]))

    assert refused(["web1", "web2"], "web1", "web2") == ""
    limited = refused(["web1", "web2"], "web1")
    assert "The app may serve on web2, where this run has not looked. Leave --limit away" in limited
    assert "no host in the group web to look at. Run this with the inventory of the app" in refused([])
    assert refused([], unused=True) == refused(["web1"], unused=True) == ""


@pytest.mark.parametrize("provider", ["compose", "native"])
@pytest.mark.parametrize("name", ["", "other"])
def test_an_address_that_another_cache_has_is_refused_by_its_app(provider: str, name: str, tmp_path: Path) -> None:
    """By the files that the role has put there."""
    there = role(redis_instance=name, redis_provider=provider, redis_app="links", redis_publish="10.0.0.5:6380")
    here = tmp_path / there.value("__redis_root").lstrip("/")
    (here / "config").mkdir(parents=True)
    (here / "config/redis.conf").write_text(there.render("redis.conf.j2"))
    (here / "config/app").write_text(there.value("__redis_served_file.content"))
    if provider == "compose":
        (here / "compose.yaml").write_text(there.render("compose.yaml.j2"))

    def same(address: str, own: str = "shop") -> list[tuple[str, str]]:
        made = role(redis_instance=own, redis_publish=address)
        *words, _ = made.task("free.yml", "Read where", "ansible.builtin.command")["argv"]
        ran = subprocess.run([*words, "opt/slipway/redis"], cwd=tmp_path, capture_output=True, text=True, check=False)
        lines = "".join(f"/{line}\n" for line in ran.stdout.splitlines())
        made = role(redis_instance=own, redis_publish=address, redis_reached_result={"stdout": lines})
        return [(one["app"], one["root"]) for one in made.value("__redis_same_address")]

    assert same("10.0.0.5:6380") == [("links", there.value("__redis_root"))]
    assert same("10.0.0.5:6381") == same("10.0.0.6:6380") == same("10.0.0.5:6380", own=name) == []


def test_a_packaged_server_beside_the_first_one() -> None:
    shop = role(redis_instance="shop", redis_provider="native", redis_app="shop")
    found = settings(redis_instance="shop", redis_provider="native")
    assert (found["unixsocket"], found["dir"]) == ("/run/redis-shop/redis.sock", "/var/lib/redis-shop")
    unit = shop.render("unit.conf.j2").splitlines()
    assert "StateDirectory=redis-shop" in unit
    assert "Before=slipway-shop@blue.service slipway-shop@green.service" in unit
    assert "StateDirectory" not in role(redis_provider="native").render("unit.conf.j2")
    assert "/etc/systemd/system/redis-server@shop.service.d/slipway.conf" in [
        item["dest"] for item in shop.value("__redis_native_files")
    ]
    assert shop.value("__redis_restart") == ["systemctl", "restart", "redis-server@shop.service"]


def test_a_store_forgets_nothing() -> None:
    assert settings()["maxmemory-policy"] == "allkeys-lru"
    assert settings(redis_mode="store")["maxmemory-policy"] == "noeviction"
    assert settings(redis_mode="store")["appendonly"] == "yes"


def test_a_cache_of_another_app_is_refused_by_its_name(tmp_path: Path) -> None:
    def put(app: str) -> list[tree.Change]:
        item = {**Role("redis", redis_app=app).value("__redis_served_file"), "owner": None, "group": None}
        item["dest"] = str(tmp_path / "app")
        changes = tree.plan(tree.parse([item], {"0": item["content"]}), check=False)
        tree.apply(changes)
        return changes

    assert put("links")
    assert not put("links")
    with pytest.raises(tree.TreeError, match=r"redis of this host serves the app links") as refused:
        put("shop")
    assert "redis_instance: shop in the" in " ".join(str(refused.value).split())
    with pytest.raises(tree.TreeError, match="serves the app links"):
        put("")


def test_whose_cache_it_is_comes_from_the_app_of_the_host() -> None:
    assert Role("redis", fastapi_app_name="links").value("redis_app") == "links"
    assert Role("redis").value("redis_app") == ""
    assert Role("redis").value("__redis_served_file.content") == "# Ansible managed\n"
