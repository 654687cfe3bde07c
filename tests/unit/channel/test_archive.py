"""The one file that travels to hosts."""

from __future__ import annotations

import ast
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import archive


def test_the_same_sources_are_the_same_bytes() -> None:
    texts = archive.sources()

    assert archive.build(texts) == archive.build(dict(reversed(texts.items())))


def test_it_has_everything_that_runs_on_hosts_and_nothing_else() -> None:
    with zipfile.ZipFile(BytesIO(archive.build(archive.sources()))) as made:
        names = {Path(name) for name in made.namelist()}
    package = Path(archive.PACKAGE)

    assert package / "release/transaction.py" in names
    assert {name for name in names if package not in name.parents} == {
        *(parent / "__init__.py" for parent in package.parents if parent.name),
    }


def test_it_is_built_once_for_its_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive.agent.cache_clear()
    first = archive.agent()
    (kept,) = (tmp_path / "slipway/agent").glob("*.pyz")
    monkeypatch.setattr(archive, "build", lambda texts: pytest.fail("built again"))
    archive.agent.cache_clear()

    assert archive.agent() == first
    assert kept.read_bytes() == first.data


def test_what_was_cut_in_the_cache_is_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    archive.agent.cache_clear()
    first = archive.agent()
    (kept,) = (tmp_path / "slipway/agent").glob("*.pyz")
    kept.write_bytes(first.data[:1000])
    archive.agent.cache_clear()

    assert archive.agent() == first
    assert kept.read_bytes() == first.data


def test_the_first_words_are_few_and_can_be_read_by_an_old_python() -> None:
    """An old Python has to be able to say that it is one."""
    words = archive.words(archive.sources()[archive.BOOTSTRAP])

    ast.parse(words, feature_version=(3, 6))
    assert len(words) < 4000
    assert '"""' not in words
