"""What identifies an image of the lab, and what is pulled or made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab import docker, images, recipes, sources
from lab.recipes import RECIPES, Recipe, inputs_digest
from lab.shell import LabError


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setattr(recipes, "CONTEXTS", tmp_path)
    (tmp_path / "thing").mkdir()
    (tmp_path / "thing/Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "thing/run").write_text("#!/bin/sh\n")
    return Recipe("slipway.lab/thing:1", "a thing", "thing", official="thing:1", arguments=(("A", "1"),))


def test_the_same_inputs_give_the_same_digest(recipe: Recipe) -> None:
    assert inputs_digest(recipe, "base") == inputs_digest(recipe, "base")


def test_what_python_compiled_does_not_count(recipe: Recipe) -> None:
    before = inputs_digest(recipe, "base")
    (recipe.directory / "__pycache__").mkdir()
    (recipe.directory / "__pycache__/run.cpython-313.pyc").touch()
    assert inputs_digest(recipe, "base") == before


def test_every_input_counts(recipe: Recipe) -> None:
    seen = {inputs_digest(recipe, "base"), inputs_digest(recipe, "other"), inputs_digest(recipe, "ba", "se")}
    seen.add(inputs_digest(replace(recipe, arguments=(("A", "2"),)), "base"))
    (recipe.directory / "run").chmod(0o755)
    seen.add(inputs_digest(recipe, "base"))
    (recipe.directory / "run").write_text("#!/bin/bash\n")
    seen.add(inputs_digest(recipe, "base"))
    (recipe.directory / "run").rename(recipe.directory / "start")
    seen.add(inputs_digest(recipe, "base"))
    assert len(seen) == 7


def test_every_image_comes_after_its_base_and_has_its_files() -> None:
    tags = [recipe.tag for recipe in RECIPES]
    for number, recipe in enumerate(RECIPES):
        assert recipe.base is None or recipe.base in tags[:number]
        assert (recipe.directory / ("Dockerfile" if recipe.base else "bootstrap")).is_file()


class FakeDocker:
    """A daemon's store of images and a registry that may or may not give them."""

    def __init__(self, *, registry: bool) -> None:
        self.registry = registry
        self.store: dict[str, docker.Image] = {}
        self.asked: list[str] = []
        self.built: list[str] = []

    def find_image(self, name: str) -> docker.Image | None:
        return self.store.get(name)

    def pull(self, name: str) -> None:
        self.asked.append(name)
        if not self.registry:
            raise LabError("no such host")
        self.store[name] = docker.Image(f"sha256:{name}", {}, 1_000_000)

    def tag(self, name: str, new: str) -> None:
        self.store[new] = self.store[name]

    def build(self, _directory: Path, name: str, *, labels: dict[str, str], arguments: object, log: object) -> None:
        assert arguments
        assert log
        self.built.append(name)
        self.store[name] = docker.Image(f"sha256:{name}", labels, 1_000_000)


@pytest.fixture
def chain(recipe: Recipe) -> list[Recipe]:
    base = replace(recipe, tag="slipway.lab/base:1", official="base:1")
    return [
        base,
        replace(recipe, base=base.tag),
        replace(recipe, tag="slipway.lab/own:1", official=None, base=base.tag),
    ]


def use(fake: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    for name in ("find_image", "pull", "tag", "build"):
        monkeypatch.setattr(docker, name, getattr(fake, name))
    monkeypatch.setattr(sources, "of_this_machine", lambda: sources.Mirrors("http://mirror.example"))
    monkeypatch.setattr(
        images._Maker,
        "_bootstrap",
        lambda _maker, recipe, _mirrors, context, labels, log: fake.build(
            context, recipe.tag, labels=labels, arguments=recipe.arguments, log=log
        ),
    )
    return fake


def test_with_a_registry_official_images_are_taken_and_only_our_own_is_built(
    chain: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = use(FakeDocker(registry=True), monkeypatch)
    images.ensure(tmp_path, recipes=chain)
    assert sorted(fake.asked) == ["base:1", "thing:1"]
    assert fake.built == ["slipway.lab/own:1"]
    images.ensure(tmp_path, recipes=chain)
    assert len(fake.asked) == 2
    assert len(fake.built) == 1


def test_without_a_registry_it_is_asked_once_and_all_are_built_once(
    chain: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = use(FakeDocker(registry=False), monkeypatch)
    images.ensure(tmp_path, recipes=chain)
    images.ensure(tmp_path, recipes=chain)
    assert fake.asked == ["base:1"]
    assert sorted(fake.built) == [recipe.tag for recipe in sorted(chain, key=lambda recipe: recipe.tag)]
    assert [fake.store[recipe.tag].is_stand_in for recipe in chain] == [True, True, False]


def test_a_changed_file_rebuilds_its_image_and_those_on_top(
    chain: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = use(FakeDocker(registry=False), monkeypatch)
    images.ensure(tmp_path, recipes=chain)
    (chain[0].directory / "run").write_text("changed")
    images.ensure(tmp_path, recipes=chain)
    assert len(fake.built) == 6


def test_refresh_asks_the_registry_again(chain: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = use(FakeDocker(registry=False), monkeypatch)
    images.ensure(tmp_path, recipes=chain)
    fake.registry = True
    images.ensure(tmp_path, recipes=chain, refresh=True)
    assert [fake.store[recipe.tag].is_stand_in for recipe in chain] == [False, False, False]


def test_refresh_keeps_official_images_when_the_registry_is_gone(
    chain: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = use(FakeDocker(registry=True), monkeypatch)
    images.ensure(tmp_path, recipes=chain)
    fake.registry = False
    images.ensure(tmp_path, recipes=chain, refresh=True)
    assert [fake.store[recipe.tag].is_stand_in for recipe in chain] == [False, False, False]
