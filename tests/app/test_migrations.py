"""The schema is brought forward once, whoever asks, and nothing is taken away from a release that still runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import KEY, PASSWORD, ROOT, binary

NUMBERS = count(1)


@pytest.fixture
def database(postgres: str) -> Iterator[dict[str, str]]:
    """Settings with a database of its own, empty."""
    name = f"migrations{next(NUMBERS)}"
    directory = postgres.partition("host=")[2]
    psql = [binary("psql"), "-h", directory, "-U", "shortlinks", "-d", "postgres", "-qc"]
    environment = {**os.environ, "PGPASSWORD": PASSWORD}
    subprocess.run([*psql, f"CREATE DATABASE {name}"], env=environment, check=True, capture_output=True)
    yield {
        **os.environ,
        "DATABASE_URL": f"postgresql+asyncpg://shortlinks@/{name}?host={directory}",
        "DATABASE_PASSWORD": PASSWORD,
        "SECRET_KEY": KEY,
        "SECRETS_DIR": "/nowhere",
    }
    subprocess.run([*psql, f"DROP DATABASE {name} WITH (FORCE)"], env=environment, check=True, capture_output=True)


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The source of a later release, whose new revision drops a column that this one uses."""
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "app/migrations/versions/0003_contract.py").write_text(
        "from alembic import op\n\nrevision = '0003'\ndown_revision = '0002'\n\n\n"
        "def upgrade():\n    op.drop_column('links', 'hits')\n"
    )
    return tmp_path


def migrate(environment: dict[str, str], *arguments: str, source: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.migrate", *arguments]
    return subprocess.run(command, env=environment, cwd=source, capture_output=True, text=True, check=False)


def answer(result: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)["migration"]
    return found


def test_a_plan_changes_nothing(database: dict[str, str]) -> None:
    for _ in range(2):
        found = answer(migrate(database, "--plan"))
        assert found == {"from": None, "pending": ["0001", "0002"], "destructive": {}}


def test_of_six_at_once_one_migrates(database: dict[str, str]) -> None:
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: answer(migrate(database)), range(6)))
    assert sorted(len(result["applied"]) for result in found) == [0, 0, 0, 0, 0, 2]
    assert {result["to"] for result in found} == {"0002"}


def test_what_takes_something_away_is_refused_until_it_is_allowed(database: dict[str, str], later: Path) -> None:
    migrate(database)
    refused = migrate(database, source=later)
    assert refused.returncode == 1
    assert "revision 0003: ALTER TABLE links DROP COLUMN hits" in refused.stderr
    assert "fastapi_app_allow_destructive: true" in refused.stderr
    assert answer(migrate(database, "--plan", source=later)) == {
        "from": "0002", "pending": ["0003"], "destructive": {"0003": ["ALTER TABLE links DROP COLUMN hits"]},
    }  # fmt: skip
    assert answer(migrate(database, "--allow-destructive", source=later))["applied"] == ["0003"]


def test_an_empty_database_has_nothing_to_lose(database: dict[str, str], later: Path) -> None:
    assert answer(migrate(database, source=later))["applied"] == ["0001", "0002", "0003"]


def test_a_release_knows_whether_an_earlier_one_could_run(database: dict[str, str], later: Path) -> None:
    migrate(database)
    assert answer(migrate(database, "--safe-for", "0001")) == {"from": "0001", "to": "0002", "since": ["0002"]}
    migrate(database, "--allow-destructive", source=later)
    refused = migrate(database, "--safe-for", "0002", source=later)
    assert refused.returncode == 1
    assert "since 0002 revision 0003: ALTER TABLE links DROP COLUMN hits" in refused.stderr
    assert "cannot be rolled back to" in refused.stderr


def test_an_unknown_revision_is_named(database: dict[str, str]) -> None:
    migrate(database)
    refused = migrate(database, "--safe-for", "9999")
    assert refused.returncode == 1
    assert "9999" in refused.stderr
