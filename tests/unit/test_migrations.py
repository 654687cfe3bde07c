"""Pending revisions are seen before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import pending, revision_of

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_apps_revisions_are_read() -> None:
    directory = ROOT / "app/migrations/versions"
    assert pending(directory, "") == ["0001", "0002"]
    assert pending(directory, "0001") == ["0002"]
    assert pending(directory, "0002") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("revision = 'a'\ndown_revision = None\n", ("a", None)),
        ("revision: str = 'b'\ndown_revision: str | None = 'a'\n", ("b", "a")),
        ("x = 1\n", None),
    ],
)
def test_a_revision_file(text: str, expected: tuple[str, str | None] | None) -> None:
    assert revision_of(text) == expected


def test_what_cannot_be_known_is_not_guessed(tmp_path: Path) -> None:
    assert pending(tmp_path / "none", "") == []
    (tmp_path / "a.py").write_text("revision = 'a'\ndown_revision = None\n")
    (tmp_path / "torn.py").write_text("revision = '")
    assert pending(tmp_path, "later") == []
    assert pending(tmp_path, "") == ["a"]
