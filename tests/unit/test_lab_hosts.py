"""How a lab host is numbered, started and remembered, and what the command line accepts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from lab import cli, engine
from lab.hosts import Host, Lab


def test_ports_and_names_follow_the_number() -> None:
    host = Host(3)
    assert (host.name, host.container) == ("web3", "slipway-web3")
    assert (host.ssh_port, host.http_port, host.https_port) == (2213, 8083, 8443)


def test_a_host_is_published_on_the_loopback_address_only_and_is_not_privileged() -> None:
    arguments = Host(1).run_arguments("image")
    published = [value for option, value in pairwise(arguments) if option == "--publish"]
    assert published == ["127.0.0.1:2211:22", "127.0.0.1:8081:80", "127.0.0.1:8441:443"]
    assert "--privileged" not in arguments
    assert arguments[-1] == "image"


def test_known_hosts_keeps_the_lines_of_other_hosts_and_replaces_a_changed_one(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab._remember({Host(1): "ssh-ed25519 OLD web1\n", Host(2): "ssh-ed25519 TWO web2\n"})
    lab._remember({Host(1): "ssh-ed25519 NEW web1\n"})
    assert (tmp_path / "known_hosts").read_text().splitlines() == [
        "[127.0.0.1]:2211 ssh-ed25519 NEW",
        "[127.0.0.1]:2212 ssh-ed25519 TWO",
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [("20.10.24+dfsg1", True), ("19.03.15", False), ("28.2.2", True), ("26.1.5-rc.1", True), ("20.9.0", False)],
)
def test_which_docker_is_new_enough(version: str, expected: bool) -> None:
    assert engine.is_new_enough(version) is expected


@pytest.mark.parametrize("count", ["0", "21", "-1", "two", ""])
def test_a_wrong_number_of_hosts_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["up", "--hosts", count])
    assert "a number from 1 to 20 is needed" in capsys.readouterr().err
