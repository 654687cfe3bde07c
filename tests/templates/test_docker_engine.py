from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.templates.rendering import ROOT, Role

DEBIAN_12 = {"distribution": "Debian", "distribution_major_version": "12", "distribution_version": "12.11"}
DEBIAN_13 = {"distribution": "Debian", "distribution_major_version": "13", "distribution_version": "13.1"}
UBUNTU_22 = {"distribution": "Ubuntu", "distribution_major_version": "22", "distribution_version": "22.04"}
UBUNTU_24 = {"distribution": "Ubuntu", "distribution_major_version": "24", "distribution_version": "24.04"}
FEDORA = {"distribution": "Fedora", "distribution_major_version": "42", "distribution_version": "42"}


@pytest.mark.parametrize(
    ("facts", "platform"),
    [
        (DEBIAN_12, "Debian 12"),
        (DEBIAN_13, "Debian 13"),
        (UBUNTU_22, "Ubuntu 22.04"),
        (UBUNTU_24, "Ubuntu 24.04"),
        (FEDORA, "Fedora 42"),
        ({}, "an unknown distribution"),
    ],
)
def test_distributions_are_known_by_name_and_version(facts: dict[str, str], platform: str) -> None:
    assert Role("docker_engine", ansible_facts=facts).value("__docker_engine_platform").strip() == platform


def test_the_rules_read_the_variables_as_ansible_renders_them() -> None:
    for facts, said in ((DEBIAN_13, []), (FEDORA, ["docker_engine_source is distribution"])):
        found = Role("docker_engine", ansible_facts=facts).value("__docker_engine_wrong_values")
        assert [sentence[: len(words)] for sentence, words in zip(found, said, strict=True)] == said


def test_a_version_pins_the_engine_and_its_client_only() -> None:
    assert Role("docker_engine").value("__docker_engine_packages")[:2] == ["docker.io", "docker-cli"]
    pinned = Role("docker_engine", docker_engine_version="26.1*").value("__docker_engine_packages")
    assert pinned[:2] == ["docker.io=26.1*", "docker-cli=26.1*"]
    assert not [name for name in pinned[2:] if "=" in name]


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        (DEBIAN_12, "https://download.docker.com/linux/debian\nSuites: bookworm\n"),
        (UBUNTU_24, "https://download.docker.com/linux/ubuntu\nSuites: noble\n"),
    ],
)
def test_repository(facts: dict[str, str], line: str) -> None:
    sources = Role("docker_engine", ansible_facts=facts, docker_engine_source="docker").render("docker.sources.j2")
    assert f"URIs: {line}" in sources
    assert "Signed-By: /etc/apt/keyrings/docker.asc" in sources


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, {"live-restore": True, "userland-proxy": False, "no-new-privileges": True, "log-driver": "local"}),
        ({"live-restore": False, "log-level": "warn"}, {"live-restore": False, "log-level": "warn"}),
        ({"icc": None}, {"userland-proxy": False}),
    ],
)
def test_daemon_json(wanted: dict[str, Any], expected: dict[str, Any]) -> None:
    daemon = json.loads(Role("docker_engine", docker_engine_daemon=wanted).render("daemon.json.j2"))
    assert daemon.items() >= expected.items()
    assert None not in daemon.values()


def test_daemon_json_is_validated_by_the_daemon_before_it_replaces_another() -> None:
    tasks = (ROOT / "roles/docker_engine/tasks/configure.yml").read_text()
    assert "validate: dockerd --validate --config-file=%s" in tasks


def test_the_engine_is_restarted_for_a_new_authority(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    first = Role("docker_engine", docker_engine_ca_file=str(authority)).render("unit.conf.j2")
    authority.write_text("two")
    assert first != Role("docker_engine", docker_engine_ca_file=str(authority)).render("unit.conf.j2")
    assert "authorities" not in Role("docker_engine").render("unit.conf.j2")
