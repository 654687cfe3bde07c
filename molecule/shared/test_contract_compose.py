"""What holds on every host whose app runs by Compose."""

from __future__ import annotations

import json
from typing import Any

import pytest
from contract import Promise, of_each_container, promise_of, quoted

ENGINES = (
    "docker.io",
    "docker-ce",
    "docker-cli",
    "docker-ce-cli",
    "docker-compose",
    "docker-compose-plugin",
    "containerd",
)


@pytest.fixture(scope="module")
def promise(host: Any) -> Promise:
    return promise_of(host.check_output("hostname"))


@pytest.fixture(scope="module")
def containers(host: Any) -> list[dict[str, Any]]:
    found = [json.loads(said)[0] for said in of_each_container(host, "docker inspect {}")]
    assert len(found) >= 3, "the app, its database and its cache"
    return found


@pytest.fixture(scope="module")
def slots(promise: Promise, containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in containers if item["Config"]["Labels"].get("slipway.app") == promise.app]


def test_one_slot_runs(slots: list[dict[str, Any]]) -> None:
    assert len(slots) == 1


def test_the_slot_has_limits(promise: Promise, slots: list[dict[str, Any]]) -> None:
    settings = slots[0]["HostConfig"]
    assert settings["Memory"] == settings["MemorySwap"] == promise.memory_mib << 20
    assert settings["PidsLimit"] == promise.pids
    assert settings["CpuQuota"] > 0


def test_the_slot_is_locked_down(slots: list[dict[str, Any]]) -> None:
    settings = slots[0]["HostConfig"]
    assert settings["ReadonlyRootfs"] is True
    assert settings["CapDrop"] == ["ALL"]
    assert not settings["CapAdd"]
    assert not settings["Privileged"]
    assert any("no-new-privileges" in option for option in settings["SecurityOpt"])
    assert not any("docker.sock" in mount["Source"] for mount in slots[0]["Mounts"])


def test_a_container_of_another_network_reaches_no_database(host: Any, slots: list[dict[str, Any]]) -> None:
    image = slots[0]["Config"]["Image"]
    wanted = "--format '{{.NetworkSettings.Networks.slipway.IPAddress}}'"
    address = host.check_output(f"docker inspect {wanted} $(docker ps --quiet --filter name=postgres)")
    knock = f"import socket; socket.create_connection(({address!r}, 5432), 20); print('open')"
    other = "slipway-test-other"
    host.check_output(f"docker network create {other}")
    try:
        tried = {
            network: host.run(f"docker run --rm --network {network} --entrypoint python3 {image} -c {quoted(knock)}")
            for network in ("slipway", other)
        }
    finally:
        host.check_output(f"docker network rm {other}")
    assert tried["slipway"].stdout.strip() == "open", "or this would prove nothing"
    assert tried[other].rc != 0
    assert "TimeoutError" in tried[other].stderr or "unreachable" in tried[other].stderr, tried[other].stderr


def test_every_container_comes_back_after_a_reboot(containers: list[dict[str, Any]]) -> None:
    assert containers
    for item in containers:
        assert item["HostConfig"]["RestartPolicy"]["Name"] in ("always", "unless-stopped"), item["Name"]


def test_no_log_grows_without_end(containers: list[dict[str, Any]]) -> None:
    for item in containers:
        assert item["HostConfig"]["LogConfig"]["Config"].get("max-size"), item["Name"]


def test_nothing_is_published(containers: list[dict[str, Any]]) -> None:
    """The database and the cache included: a published port passes by the firewall."""
    for item in containers:
        assert not item["HostConfig"]["PortBindings"], item["Name"]
        assert item["HostConfig"]["NetworkMode"] != "host", item["Name"]


def test_the_engine_is_held_against_surprise_upgrades(host: Any) -> None:
    held = host.check_output("apt-mark showhold").split()
    installed = [name for name in ENGINES if host.package(name).is_installed]
    assert installed
    assert set(installed) <= set(held)
