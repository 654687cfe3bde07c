"""What a host has already of packages and a service."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import command, installed
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.installed import Package, absent


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        (["haproxy"], []),
        (["haproxy=3.0-1"], []),
        (["haproxy=3.0*"], []),
        (["haproxy=3.2*"], ["haproxy=3.2*"]),
        (["other", "haproxy"], ["other"]),
    ],
)
def test_a_package_is_absent_until_it_is_there_in_that_version(wanted: list[str], missing: list[str]) -> None:
    assert absent(wanted, {"haproxy": Package("3.0-1")}) == missing


def test_dpkg_tells_what_is_installed() -> None:
    there = installed.packages()
    asked = ["dpkg-query", "--show", "--showformat=${Version}", "dpkg"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert there["dpkg"] == Package(version)
    assert absent(["dpkg", f"dpkg={version}"], there) == []


def test_what_is_held_and_what_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "docker.io 26.1 hold installed\nhaproxy 3.0 install installed\nnginx 1 deinstall config-files\nodd\n"
    monkeypatch.setattr(command, "run", lambda words, timeout: Ran(tuple(words), 0, said))
    assert installed.packages() == {"docker.io": Package("26.1", held=True), "haproxy": Package("3.0")}


@pytest.mark.parametrize(
    ("said", "serves"),
    [
        ("ActiveState=active\nUnitFileState=enabled\n", True),
        ("ActiveState=active\nUnitFileState=disabled\n", False),
        ("ActiveState=failed\nUnitFileState=enabled\n", False),
        ("ActiveState=inactive\nUnitFileState=\n", False),
    ],
)
def test_a_unit_serves_where_it_runs_and_starts_with_the_host(
    monkeypatch: pytest.MonkeyPatch, said: str, serves: bool
) -> None:
    monkeypatch.setattr(command, "run", lambda words, timeout: Ran(tuple(words), 0, said))
    assert installed.serves("haproxy.service") is serves


def test_who_cannot_be_asked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "run", lambda words, timeout: Ran(tuple(words), 2, stderr="no database"))
    with pytest.raises(CommandError, match="dpkg-query: no database"):
        installed.packages()
