"""Pending revisions are seen before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import (
    pending,
    revision_of,
    revisions_in,
    schema_revision,
)

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_apps_revisions_are_read() -> None:
    directory = ROOT / "app/migrations/versions"
    assert pending(directory, "") == ["0001", "0002"]
    assert pending(directory, "0001") == ["0002"]
    assert pending(directory, "0002") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("revision = 'a'\ndown_revision = None\n", ("a", ())),
        ("revision: str = 'b'\ndown_revision: str | None = 'a'\n", ("b", ("a",))),
        ("revision = 'd'\ndown_revision = ('b', 'c')\nbranch_labels = made()\n", ("d", ("b", "c"))),
        ("x = 1\n", None),
    ],
)
def test_a_revision_file(text: str, expected: tuple[str, tuple[str, ...]] | None) -> None:
    assert revision_of(text) == expected


def test_what_cannot_be_known_is_not_guessed(tmp_path: Path) -> None:
    assert pending(tmp_path / "none", "") == []
    (tmp_path / "a.py").write_text("revision = 'a'\ndown_revision = None\n")
    (tmp_path / "torn.py").write_text("revision = '")
    assert pending(tmp_path, "later") == []
    assert pending(tmp_path, "") == ["a"]


def test_lines_that_part_and_meet_again(tmp_path: Path) -> None:
    for name, before in (("d", ("b", "c")), ("c", "a"), ("b", "a"), ("a", None)):
        (tmp_path / f"{name}.py").write_text(f"revision = {name!r}\ndown_revision = {before!r}\n")
    assert pending(tmp_path, "") == ["a", "b", "c", "d"]
    assert pending(tmp_path, "b") == ["c", "d"]
    assert pending(tmp_path, "b,c") == ["d"]


@pytest.mark.parametrize(
    ("where", "ini", "location", "versions"),
    [
        ("alembic", "alembic.ini", "alembic", "alembic/versions"),
        ("alembic", "alembic.ini", "%(here)s/db", "db/versions"),
        ("alembic", "alembic.ini", "shop:migrations", "shop/migrations/versions"),
        ("alembic", "backend/alembic.ini", "app/alembic", "backend/app/alembic/versions"),
        ("./backend", "backend/alembic.ini", "alembic", "backend/alembic/versions"),
        ("/app/backend", "backend/alembic.ini", "alembic", "backend/alembic/versions"),
        ("/app", "alembic.ini", "alembic", "alembic/versions"),
    ],
)
def test_revisions_are_found_as_alembic_does(
    tmp_path: Path, where: str, ini: str, location: str, versions: str
) -> None:
    (tmp_path / versions).mkdir(parents=True)
    assert revisions_in(tmp_path, where) is None
    (tmp_path / ini).write_text(f"[alembic]\nscript_location = {location}\nfile_template = %%(rev)s\n")
    assert revisions_in(tmp_path, where) == tmp_path / versions


@pytest.mark.parametrize(
    ("where", "place", "ini"),
    [("alembic", ".", None), ("alembic", ".", "[alembic]\nsqlalchemy.url = x\n"), ("/app/backend", "backend", None)],
)
def test_revisions_are_found_by_pyproject(tmp_path: Path, where: str, place: str, ini: str | None) -> None:
    versions = tmp_path / place / "db/versions"
    versions.mkdir(parents=True)
    if ini:
        (tmp_path / place / "alembic.ini").write_text(ini)
    pyproject = tmp_path / place / "pyproject.toml"
    for torn in ("[project]\nname = 'shop'\n", "[tool", "[tool.alembic]\n"):
        pyproject.write_text(torn)
        assert revisions_in(tmp_path, where) is None
    pyproject.write_text("[tool.alembic]\nscript_location = '%(here)s/db'\n")
    assert revisions_in(tmp_path, where) == versions


def test_of_two_projects_none_is_guessed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "alembic/versions").mkdir(parents=True)
        (tmp_path / name / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    assert revisions_in(tmp_path, "alembic") is None
    assert revisions_in(tmp_path, "./two") == tmp_path / "two/alembic/versions"


@pytest.mark.parametrize("output", ["", "done", "[1]", '{"migration": {}}', '{"migration": "0002"}'])
def test_a_command_that_tells_no_revision(output: str) -> None:
    assert schema_revision(output) == ""
