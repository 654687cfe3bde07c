"""Hosts of a scenario: what Molecule's platforms become, and in which order they are made and removed."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import docker, prepared, scenario
from lab.scenario import Platform
from lab.shell import CommandError, LabError

NETWORK = {"name": "web", "image": "host", "networks": [{"name": "fleet", "ipv4_address": "172.29.86.11"}]}
PLAIN = {"name": "alone", "published_ports": ["127.0.0.1:18081:80"]}


def options(entry: dict[str, Any]) -> set[tuple[str, str]]:
    return set(pairwise(Platform.parse(entry).run_arguments()))


def test_a_platform_is_a_host_of_the_lab() -> None:
    found = options(NETWORK)
    assert {("--name", "web"), ("--network", "fleet"), ("--ip", "172.29.86.11"), ("--cap-add", "SYS_ADMIN")} <= found
    assert not [value for option, value in found if option == "--publish"]
    assert Platform.parse(NETWORK).run_arguments()[-1] == "host"
    assert str(Platform.parse(NETWORK).subnet) == "172.29.86.0/24"


def test_scenarios_that_run_beside_each_other_share_nothing() -> None:
    """No host's name, published port or network: two with one network fail where they happen to meet."""
    root = Path(__file__).resolve().parents[2]
    taken: dict[str, str] = {}
    for file in sorted(root.glob("molecule/*/molecule.yml")):
        platforms = [Platform.parse(entry) for entry in yaml.safe_load(file.read_text())["platforms"]]
        for what in {
            *(platform.name for platform in platforms),
            *(port for platform in platforms for port in platform.ports),
            *(str(platform.subnet) for platform in platforms if platform.network),
        }:
            assert taken.setdefault(what, file.parent.name) == file.parent.name, what


def test_a_host_sees_no_more_processors_than_it_has() -> None:
    assert ("--cpuset-cpus", "0-0") in options(PLAIN | {"cpus": 1})
    assert "--cpuset-cpus" not in dict(options(PLAIN))


def test_a_prepared_disk_is_copied_under_the_host_s_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    platform = Platform.parse(PLAIN | {"volumes": ["slipway-prepared-docker:/var/lib/docker"]})
    assert ("--volume", "alone-docker:/var/lib/docker") in set(pairwise(platform.run_arguments()))
    assert ("--volume", "/var/lib/docker") in options(PLAIN), "else it is a new one"
    fake = FakeDocker(monkeypatch, images={prepared.TAG})
    scenario.create([platform], tmp_path)
    assert fake.calls == [
        "prepare",
        "prepare disk",
        "docker rm --force --volumes alone",
        "docker volume rm alone-docker",
        "copy disk alone-docker",
        "start alone",
        "await alone",
    ]


def test_without_an_image_it_is_a_prepared_one_and_without_a_network_on_docker_s() -> None:
    assert Platform.parse(PLAIN).image == prepared.TAG
    found = options(PLAIN)
    assert ("--publish", "127.0.0.1:18081:80") in found
    assert "--network" not in {option for option, _ in found}


@pytest.mark.parametrize("entry", [{}, {"name": "web", "networks": [{"name": "fleet"}]}])
def test_what_is_missing_is_named(entry: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=r"molecule\.yml has no '(name|ipv4_address)'"):
        scenario.parse(json.dumps([entry]))


class FakeDocker:
    """Notes what the client is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, images: set[str], fault: str = "") -> None:
        self.calls: list[str] = []
        self.fault = fault
        monkeypatch.setattr(scenario, "run", self.run)
        monkeypatch.setattr(docker, "start", lambda arguments: self.calls.append(f"start {arguments[1]}"))
        monkeypatch.setattr(docker, "find_image", lambda name: docker.Image(name, {}, 1) if name in images else None)
        monkeypatch.setattr(scenario, "await_boot", lambda name: self.calls.append(f"await {name}"))
        monkeypatch.setattr(prepared, "ensure", lambda _: self.calls.append("prepare"))
        monkeypatch.setattr(prepared, "ensure_disk", lambda: self.calls.append("prepare disk"))
        monkeypatch.setattr(prepared, "copy_disk", lambda name: self.calls.append(f"copy disk {name}"))

    def run(self, *argv: str, **_: Any) -> str:
        self.calls.append(" ".join(argv))
        if self.fault:
            raise CommandError(argv, 1, self.fault)
        return ""


def test_hosts_are_made_anew_on_a_network_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeDocker(monkeypatch, images={"host"})
    scenario.create([Platform.parse(NETWORK)], tmp_path)
    assert fake.calls == [
        "docker rm --force --volumes web",
        "docker network rm fleet",
        "docker network create --subnet 172.29.86.0/24 fleet",
        "start web",
        "await web",
    ]


def test_the_prepared_image_is_brought_up_to_date_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeDocker(monkeypatch, images={prepared.TAG})
    scenario.create([Platform.parse(PLAIN)], tmp_path)
    assert fake.calls[0] == "prepare"


def test_a_missing_image_is_said_before_anything_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeDocker(monkeypatch, images=set())
    with pytest.raises(LabError, match=r"host is missing.*python3 -m lab images"):
        scenario.create([Platform.parse(NETWORK)], tmp_path)
    assert not fake.calls


@pytest.mark.parametrize(
    ("fault", "raised"),
    [("Error: No such container: web", False), ("Error: No such network: fleet", False), ("Cannot connect", True)],
)
def test_what_is_gone_already_is_no_fault(monkeypatch: pytest.MonkeyPatch, fault: str, raised: bool) -> None:
    FakeDocker(monkeypatch, images=set(), fault=fault)
    if raised:
        with pytest.raises(CommandError):
            scenario.destroy([Platform.parse(NETWORK)])
    else:
        scenario.destroy([Platform.parse(NETWORK)])
