"""The prepared host is made when it is missing or what it is made from has changed, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import docker, prepared
from lab.shell import LabError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the image is made from."""
    for name in prepared.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((prepared.ROOT / name).read_bytes())
    monkeypatch.setattr(prepared, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Inputs of each image that was made, in a store that has the host's image."""
    found: list[str] = []
    store = {prepared.BASE: docker.Image("sha256:base", {docker.LABEL_INPUTS: "one"}, 1)}
    monkeypatch.setattr(docker, "find_image", store.get)

    def make(inputs: str, _log: Path) -> None:
        found.append(inputs)
        store[prepared.TAG] = docker.Image("sha256:made", {docker.LABEL_INPUTS: inputs}, 1)

    monkeypatch.setattr(prepared, "_make", make)
    return found


def test_it_is_made_once(checkout: Path, made: list[str]) -> None:
    for _ in range(2):
        prepared.ensure(checkout)
    assert len(made) == 1


@pytest.mark.parametrize(
    "path",
    [
        prepared.PLAYBOOK,
        "roles/haproxy/tasks/install.yml",
        "roles/docker_engine/vars/main.yml",
        "roles/fastapi_app/tasks/install.yml",
    ],
)
def test_a_change_of_what_installs_makes_it_anew(checkout: Path, made: list[str], path: str) -> None:
    prepared.ensure(checkout)
    with (checkout / path).open("a") as stream:
        stream.write("# changed\n")
    prepared.ensure(checkout)
    assert len(set(made)) == 2


def test_another_host_makes_it_anew(checkout: Path) -> None:
    assert prepared.digest(checkout, "one") != prepared.digest(checkout, "two")


def test_without_the_host_s_image_it_says_how_to_get_it(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "find_image", lambda _: None)
    with pytest.raises(LabError, match="python3 -m lab images"):
        prepared.ensure(checkout)


def test_without_ansible_it_says_so(checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docker, "find_image", lambda name: docker.Image(name, {}, 1) if name == prepared.BASE else None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError, match="make setup"):
        prepared.ensure(checkout)


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Inputs of each disk that was made; the last one is there."""
    found: list[str] = []
    monkeypatch.setattr(prepared, "_inputs_of_disk", lambda: found[-1] if found else "")
    monkeypatch.setattr(prepared, "_make_disk", found.append)
    return found


def test_the_disk_is_made_anew_when_an_image_has_changed(disks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "find_image", lambda name: docker.Image(f"sha256:{name}", {}, 1))
    prepared.ensure_disk()
    prepared.ensure_disk()
    assert len(disks) == 1
    monkeypatch.setattr(docker, "find_image", lambda name: docker.Image(f"sha256:new-{name}", {}, 1))
    prepared.ensure_disk()
    assert len(set(disks)) == 2


def test_a_disk_without_all_images_is_not_made(disks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "find_image", lambda name: None if "redis" in name else docker.Image(name, {}, 1))
    with pytest.raises(LabError, match="redis:8 is missing"):
        prepared.ensure_disk()
    assert not disks


def test_everything_that_the_playbook_includes_counts() -> None:
    text = (prepared.ROOT / prepared.PLAYBOOK).read_text()
    for role in prepared.PARTS:
        assert f"{{name: slipway.fleet.{role}, tasks_from: install}}" in text
    assert text.count("include_role") == len(prepared.PARTS)
