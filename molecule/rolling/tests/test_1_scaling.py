"""A host less and a host more, under load: a line of hosts.yml and site.yml, by which the balancer knows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from contract import ROOT, until
from deployment import Deployment, assert_nothing_lost
from fleet import AT_ONCE, BALANCER, DATA, HOME, WEB, Fleet, asked_by_tls, in_pool, on, sessions

A, B, C = WEB


@pytest.fixture
def scaled(fleet: Fleet, scratch: Path) -> Fleet:
    """The fleet with an inventory as the example for a fleet has it: no address stands in it but in hosts.yml."""
    directory = scratch / "scaled"
    (directory / "group_vars").mkdir(parents=True)
    for group in ("all", "data", "web"):
        (directory / "group_vars" / group).symlink_to(ROOT / "molecule/rolling/group_vars" / group)
    (directory / "group_vars/load_balancer").symlink_to(ROOT / "inventories/fleet/group_vars/load_balancer")
    lines = yaml.safe_load(Path(fleet.inventory).read_text())
    # These hosts are in one private network.
    lines["load_balancer"]["vars"] = {"haproxy_tls_to_hosts": True}
    (directory / "hosts.yml").write_text(yaml.safe_dump(lines))
    return replace(fleet, inventory=str(directory / "hosts.yml"))


def test_a_host_goes_and_comes_by_a_line_of_hosts_yml(scaled: Fleet) -> None:
    hosts = Path(scaled.inventory)
    lines = yaml.safe_load(hosts.read_text())
    address = lines["all"]["hosts"][C]
    with scaled.load("scaling", "--rate", "15", "--stream-pause", "10", "--slow-seconds", "2") as report:
        for outcome in (
            scaled.play("drain", haproxy_server=C),
            replace(scaled, limit=C).play("remove", slipway_remove="shortlinks"),
        ):
            assert outcome.code == 0, outcome.output
        del lines["all"]["hosts"][C], lines["web"]["hosts"][C]
        hosts.write_text(yaml.safe_dump(lines))
        less = scaled.play("site", **scaled.release("scaled"), **AT_ONCE)
        assert less.code == 0, less.output
        assert C not in on(BALANCER, "cat /etc/haproxy/haproxy.cfg /etc/haproxy/apps/*"), (
            "the balancer knows it no more"
        )
        assert on(C, f"ls {HOME} 2>/dev/null || true") == ""
        before = {host: processes(host) for host in (A, B)}

        lines["all"]["hosts"][C], lines["web"]["hosts"][C] = address, None
        hosts.write_text(yaml.safe_dump(lines))
        more = scaled.play("site", **scaled.release("scaled"), **AT_ONCE)
        assert more.code == 0, more.output
        until(lambda: in_pool(C), f"{C} is in the pool")
        assert len(set(scaled.states().values())) == 1
        # A slot of before may have ended its drain meanwhile.
        assert all(processes(host) <= before[host] for host in (A, B)), "the others, which had it, were left alone"
        until(lambda: sessions(C) > 0, f"{C} gets requests")
        assert asked_by_tls() == set(WEB)
    assert_nothing_lost(report)


def processes(host: str) -> set[str]:
    """Those of the app on a host, as the host numbers them."""
    return set(on(host, "pgrep -f '[g]unicorn --config'").split())


@pytest.fixture
def another(fleet: Fleet, scratch: Path) -> Deployment:
    """An app of a team of its own, of which nothing but its Redis is on the host with the database."""
    directory = scratch / "another"
    (directory / "group_vars").mkdir(parents=True)
    hosts = yaml.safe_load(Path(fleet.inventory).read_text())
    hosts["all"]["hosts"] = {DATA: hosts["all"]["hosts"][DATA]}
    known = {"all": hosts["all"], "data": {"hosts": {DATA: None}}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(known))
    said = {
        "redis_app": "another",
        "redis_instance": "another",
        "redis_image": "slipway.lab/redis:8",
        "redis_image_source": "ship",
        "redis_password": "for-tests-only-another",
        "redis_memory_mib": 32,
        "postgres_provider": "none",
    }
    (directory / "group_vars/data.yml").write_text(yaml.safe_dump(said))
    return Deployment(inventory=str(directory / "hosts.yml"), url="", scratch=directory)


def test_another_app_s_redis_comes_and_goes_beside_that_of_the_fleet(another: Deployment) -> None:
    def ask(name: str, *words: str) -> str:
        said = ("redis-cli", "--no-auth-warning", "--pass", "for-tests-only-another", *words)
        return on(DATA, f"docker exec slipway-{name}-{name}-1 {' '.join(said)} 2>&1")

    began = "docker inspect --format '{{.State.StartedAt}}' slipway-redis-redis-1"
    before = on(DATA, began), on(DATA, "cat /opt/slipway/redis/secrets/users.acl")
    outcome = another.play("provision")
    assert outcome.code == 0, outcome.output
    assert ask("redis-another", "SET", "whose", "another").strip() == "OK"
    assert "WRONGPASS" in ask("redis", "GET", "whose"), "the fleet's takes another password"
    refused = another.play("provision", redis_instance="")
    assert refused.code != 0
    assert "The cache redis of this host serves the app shortlinks" in refused.failure()
    unseen = another.play("remove_cache", slipway_remove_cache="redis-another")
    assert "this inventory has no host in the group web to look at" in unseen.failure()
    gone = another.play("remove_cache", slipway_remove_cache="redis-another", slipway_cache_unused=True)
    assert gone.code == 0, gone.output
    assert on(DATA, "docker volume ls --quiet | grep redis-another || true") == ""
    assert (on(DATA, began), on(DATA, "cat /opt/slipway/redis/secrets/users.acl")) == before
