"""The schema is brought forward once, whoever asks, and nothing is taken away from a release that still runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.alembic import (
    bring_forward,
    require_fit,
    understood,
    words,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused

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
    shutil.copy(ROOT / "alembic.ini", tmp_path)
    (tmp_path / "app/migrations/versions/0003_contract.py").write_text(
        "from alembic import op\n\nrevision = '0003'\ndown_revision = '0002'\n\n\n"
        "def upgrade():\n    op.drop_column('links', 'hits')\n"
    )
    return tmp_path


class App:
    """The command of a deploy, in a source tree instead of an image."""

    def __init__(self, environment: dict[str, str], source: Path = ROOT) -> None:
        self.environment, self.source = environment, source
        self.asked = 0

    def run(self, command: Sequence[str]) -> str:
        self.asked += 1
        result = subprocess.run(
            [sys.executable, *command[1:]],
            env=self.environment, cwd=self.source, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise Refused(result.stderr)
        return result.stdout

    async def ask(self, command: Sequence[str]) -> str:
        return await asyncio.to_thread(self.run, command)

    def told(self, **what: Any) -> dict[str, Any]:
        return understood(self.run(words("alembic", **what)))

    def migrate(self, allow_destructive: bool = False) -> str:
        return asyncio.run(bring_forward(self.ask, "alembic", allow_destructive, again=lambda: None))

    def require_fit(self, revision: str) -> None:
        asyncio.run(require_fit(self.ask, "alembic", revision))


def test_what_alembic_is_told_by_hand_migrates_too(database: dict[str, str]) -> None:
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(command, env=database, cwd=ROOT, check=True, capture_output=True)
    assert App(database).told(allowed=[])["from"] == "0002"


def test_where_nothing_is_pending_one_start_says_so(database: dict[str, str]) -> None:
    App(database).migrate()
    app = App(database)
    assert (app.migrate(), app.asked) == ("0002", 1)


def test_of_six_at_once_one_migrates(database: dict[str, str]) -> None:
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: App(database).told(allowed=[]), range(6)))
    assert sorted(len(result["applied"]) for result in found) == [0, 0, 0, 0, 0, 2]
    assert {result["to"] for result in found} == {"0002"}


def test_what_takes_something_away_is_refused_until_it_is_allowed(database: dict[str, str], later: Path) -> None:
    App(database).migrate()
    app = App(database, later)
    with pytest.raises(Refused) as refused:
        app.migrate()
    assert "revision 0003: ALTER TABLE links DROP COLUMN hits" in str(refused.value)
    assert "fastapi_app_allow_destructive=true" in str(refused.value)
    assert app.told(allowed=[])["from"] == "0002"
    assert app.migrate(allow_destructive=True) == "0003"


def test_an_empty_database_has_nothing_to_lose(database: dict[str, str], later: Path) -> None:
    assert App(database, later).told(allowed=[])["applied"] == ["0001", "0002", "0003"]


def test_a_release_knows_whether_an_earlier_one_could_run(database: dict[str, str], later: Path) -> None:
    App(database).migrate()
    App(database).require_fit("0001")
    App(database, later).migrate(allow_destructive=True)
    with pytest.raises(Refused) as refused:
        App(database, later).require_fit("0002")
    assert "since 0002 revision 0003: ALTER TABLE links DROP COLUMN hits" in str(refused.value)
    assert "cannot be rolled back to" in str(refused.value)


def test_a_release_before_the_schema_has_nothing_to_do(database: dict[str, str], later: Path) -> None:
    App(database, later).migrate()
    assert App(database).migrate() == "0003"


def test_an_unknown_revision_is_named(database: dict[str, str]) -> None:
    App(database).migrate()
    with pytest.raises(Refused, match="9999"):
        App(database).require_fit("9999")
