"""Base images are pinned to what their tags stand for, asked of a real registry."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import registry as lab
from tools import base_images

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ARG BASE_IMAGE=python:3.13-slim\n", {"python:3.13-slim"}),
        (f"ARG BASE_IMAGE=python:3.13-slim@{OLD}\n", {"python:3.13-slim"}),
        (
            "FROM r.example:5000/base:1 AS build\nFROM build\nFROM scratch\nFROM ${BASE_IMAGE}\n",
            {"r.example:5000/base:1"},
        ),
        ("FROM --platform=linux/amd64 debian:13\n", {"debian:13"}),
        ('  image: "${REDIS_IMAGE:-redis:8}"\n', {"redis:8"}),
        ("postgres_image: postgres:17.6\n", {"postgres:17.6"}),
        ('postgres_image: "{{ other }}"\n# redis_image: redis:1\n', set()),
        ("postgres_image: slipway.lab/postgres:17\n", set()),
        ("FROM r.example:5000/base\n", set()),
    ],
)
def test_what_a_file_is_built_on(text: str, found: set[str]) -> None:
    assert base_images.named(text) == found


def test_a_digest_takes_the_place_of_the_one_before() -> None:
    text = "FROM python:3.13{} AS a\nFROM my/python:3.13\nFROM my-python:3.13\nFROM python:3.13-x\n"
    text += "image: ${{A_IMAGE:-python:3.13{}}}\n"
    assert base_images.pinned(text.format(f"@{OLD}", ""), {"python:3.13": NEW}) == text.format(f"@{NEW}", f"@{NEW}")


def test_this_repository_names_its_images_in_every_place() -> None:
    """Where a new file names one, it is to be pinned with the others."""
    texts = [path.read_text() for pattern in base_images.FILES for path in ROOT.glob(pattern)]
    names = {image.partition(":")[0] for text in texts for image in base_images.named(text)}
    assert names == {"python", "postgres", "redis"}


class TestWithARegistry:
    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[lab.Registry]:
        monkeypatch.setenv("REGISTRY_USER", lab.USER)
        monkeypatch.setenv("REGISTRY_PASSWORD", lab.PASSWORD)
        with lab.Registry(tmp_path / "registry") as registry:
            yield registry

    def run(self, server: lab.Registry, *arguments: str) -> int:
        return base_images.main(["--ca-file", str(server.ca_file), *arguments])

    def test_from_a_tag_to_a_digest_and_to_the_next(
        self, server: lab.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        image, dockerfile = f"{server.name}/base:1", tmp_path / "Dockerfile"
        dockerfile.write_text(f"ARG BASE_IMAGE={image}\nFROM ${{BASE_IMAGE}}\n")
        first = server.push_list("base", "1", [lab.Image.of_files({"a": name}, name) for name in ("amd64", "arm64")])
        assert self.run(server, "--check", str(dockerfile)) == 1
        assert self.run(server, str(dockerfile)) == 0
        assert dockerfile.read_text() == f"ARG BASE_IMAGE={image}@{first}\nFROM ${{BASE_IMAGE}}\n"
        assert f"{image}  no digest -> {first}" in capsys.readouterr().out
        assert self.run(server, "--check", str(dockerfile)) == 0
        second = server.push("base", "1", lab.Image.of_files({"a": "next"}))
        assert self.run(server, str(dockerfile)) == 0
        assert f"{image}  {first} -> {second}" in capsys.readouterr().out
        assert dockerfile.read_text() == f"ARG BASE_IMAGE={image}@{second}\nFROM ${{BASE_IMAGE}}\n"
        assert self.run(server, str(dockerfile)) == 0
        assert f"{image}  {second}  unchanged" in capsys.readouterr().out

    def test_nothing_is_written_where_one_image_is_not_found(
        self, server: lab.Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = f"FROM {server.name}/base:1\nFROM {server.name}/base:gone\n"
        dockerfile = tmp_path / "Dockerfile"
        dockerfile.write_text(text)
        server.push("base", "1", lab.Image.of_files({"a": "b"}))
        assert self.run(server, str(dockerfile)) == 2
        assert dockerfile.read_text() == text
        assert f"nothing was written; the registry {server.name} has no tag gone" in capsys.readouterr().err


def test_the_files_of_this_repository_take_a_digest(tmp_path: Path) -> None:
    for pattern in base_images.FILES:
        for path in ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    copies = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert base_images.update(copies, lambda _: NEW)
    assert not base_images.update(copies, lambda _: NEW, check=True)
    assert f"ARG BASE_IMAGE=python:3.13-slim@{NEW}" in (tmp_path / "Dockerfile").read_text()
    assert f"default: postgres:17.6@{NEW}" in (tmp_path / "roles/postgres/meta/argument_specs.yml").read_text()
    assert f"redis_image: redis:8.2.1@{NEW}" in (tmp_path / "inventories/fleet/group_vars/data/redis.yml").read_text()
