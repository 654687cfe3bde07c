"""Projects with an Alembic of their own, as teams write them, on a real PostgreSQL; none of them knows of us."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import last_exception
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.alembic import understood, words

from lab.registry import Authority
from tests.app.conftest import LIMIT, PASSWORD, binary, until
from tests.integration.fleet.preloaded import Preloaded
from tests.real_postgres import AS_USER, Server

NUMBERS = count(1)
OWN = (sys.executable,)
# What runs come to import, those of projects and drivers included.
IMPORTED = (
    *(
        "alembic.config",
        "alembic.operations",
        "alembic.runtime.environment",
        "alembic.script",
        "asyncpg",
        "logging.config",
    ),
    *("sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.pysqlite", "sqlalchemy.ext.asyncio"),
)
# As `alembic init` writes it, without comments.
INI = """
[alembic]
script_location = alembic
sqlalchemy.url = driver://user:pass@localhost/dbname

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = INFO
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)s %(message)s
"""
BEGIN = """
import os
from logging.config import fileConfig
from alembic import context
from sqlalchemy import create_engine, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

config = context.config
if config.config_file_name is not None:
    fileConfig(config.config_file_name)


def migrate(connection):
    context.configure(connection=connection, target_metadata=None)
    with context.begin_transaction():
        context.run_migrations()
"""
# As `alembic init -t async` writes it; the SQL is never asked of it (its offline mode has no address).
ASYNC = f"""{BEGIN}
import asyncio


async def online():
    engine = create_async_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(online())
"""
SYNC = f"""{BEGIN}
with create_engine(os.environ["DATABASE_URL"], poolclass=pool.NullPool).connect() as connection:
    migrate(connection)
"""
# Looks at the database with another connection before.
TWICE = ASYNC.replace(
    "    async with engine",
    """    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA IF NOT EXISTS shop"))
    async with engine""",
)
TABLE = "op.create_table('items', sa.Column('id', sa.BigInteger, primary_key=True), sa.Column('name', sa.Text))"
NOTE = "op.add_column('items', sa.Column('note', sa.Text, server_default='100% new'))"
INDEX = """with op.get_context().autocommit_block():
        op.execute("CREATE INDEX CONCURRENTLY items_name ON items (name)")"""
# Fails where it does not run under the lock, or waits as long as others let it.
GUARDED = '''op.execute("""DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())
        THEN RAISE EXCEPTION 'no lock'; END IF;
        IF current_setting('lock_timeout') <> '500ms' THEN RAISE EXCEPTION 'no timeout'; END IF;
        END $$""")'''


class Project:
    """A source tree with revisions in a line, and what its app is told."""

    def __init__(self, preloaded: Preloaded, root: Path, environment: dict[str, str], env: str = ASYNC) -> None:
        self.preloaded, self.root, self.environment, self.last = preloaded, root, environment, ""
        (root / "alembic/versions").mkdir(parents=True)
        (root / "alembic.ini").write_text(INI)
        (root / "alembic/env.py").write_text(env)

    def revise(self, name: str, body: str, after: str | None = None) -> None:
        before = repr((self.last if after is None else after) or None)
        (self.root / f"alembic/versions/{name}.py").write_text(
            f"from alembic import op\nimport sqlalchemy as sa\n\nrevision = {name!r}\ndown_revision = {before}\n\n\n"
            f"def upgrade():\n    print('by the project')\n    {body}\n"
        )
        self.last = name

    def run(self, where: str = "alembic", at: Path | None = None, python: tuple[str, ...] = (), **what: Any) -> Any:
        """By a Python that has imported Alembic, or by one that is named, as an app's starts."""
        (_, option, *rest), environment, place = words(where, **what), self.environment, at or self.root
        if not python:
            return self.preloaded.run(*rest, cwd=place, env=environment, timeout=LIMIT)
        command = [*python, option, *rest]
        return subprocess.run(
            command, env=environment, cwd=place, capture_output=True, text=True, timeout=LIMIT, check=False
        )

    def told(self, where: str = "alembic", **what: Any) -> dict[str, Any]:
        result = self.run(where, **what)
        assert result.returncode == 0, result.stderr
        return understood(result.stdout)


Make = Callable[..., Project]


@pytest.fixture
def psql(postgres: str) -> Iterator[Callable[[str], str]]:
    """Asks a database of its own."""
    name = f"foreign{next(NUMBERS)}"
    command = [binary("psql"), "-h", postgres.partition("host=")[2], "-U", "shortlinks", "-qAt", "-d"]
    environment = {**os.environ, "PGPASSWORD": PASSWORD}

    def ask(statement: str, database: str = name) -> str:
        asked = subprocess.run(
            [*command, database, "-c", statement], env=environment, check=True, capture_output=True, text=True
        )
        return asked.stdout.strip()

    ask(f"CREATE DATABASE {name}", "postgres")
    ask.__dict__["command"], ask.__dict__["environment"] = [*command, name], environment
    yield ask
    ask(f"DROP DATABASE {name} WITH (FORCE)", "postgres")


@pytest.fixture(scope="module")
def preloaded() -> Iterator[Preloaded]:
    made = Preloaded(*IMPORTED)
    yield made
    made.end()


@pytest.fixture
def make(psql: Callable[[str], str], postgres: str, tmp_path: Path, preloaded: Preloaded) -> Make:
    address = f"postgresql+asyncpg://shortlinks:{PASSWORD}@/{psql('SELECT current_database()')}?host="
    environment = {**os.environ, "DATABASE_URL": address + postgres.partition("host=")[2]}
    return lambda env=ASYNC, **more: Project(preloaded, tmp_path / "project", {**environment, **more}, env)


@contextmanager
def transaction(psql: Any, statement: str) -> Iterator[None]:
    """Holds what the statement takes, until the end of the block."""
    with subprocess.Popen(
        psql.command, env=psql.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write(f"BEGIN; {statement}; SELECT 'held';\n")
        session.stdin.flush()
        assert session.stdout.readline() == "held\n"
        yield
        session.stdin.close()


def waits(psql: Any, statement: str, seconds: float = 0.0) -> None:
    """Return once a statement that begins like this has waited for a lock as long."""
    waiting = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND now() - query_start > '{} s'"
    until(lambda: psql(waiting.format(seconds)).startswith(statement), f"waiting of {statement}")


def test_a_project_of_the_asynchronous_template(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    found = project.told(allowed=[], python=OWN)
    assert found == {"from": None, "to": "a", "applied": ["a"], "dialect": "postgresql", "pending": []}
    project.revise("b", NOTE)
    (pending,) = project.told(allowed=[])["pending"]
    assert "DEFAULT '100% new'" in pending["sql"]
    assert (pending["revision"], pending["unread"]) == ("b", "")
    assert project.told(allowed=["b"])["applied"] == ["b"]
    assert project.told(since="a")["pending"][0]["revision"] == "b"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """The URL of a server that takes TLS alone, and its authority's certificate, which no system knows."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory, socket.socket() as held:
        # A port that is bound is given to nobody; the server, which reuses addresses as this does, listens at it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        here, port = Path(directory), held.getsockname()[1]
        here.chmod(0o755)
        authority = Authority.make(here / "authority", "127.0.0.1")
        access = here / "pg_hba.conf"
        access.write_text("local all all trust\nhostssl all all 127.0.0.1/32 trust\n")
        if AS_USER:
            shutil.chown(authority.key, "postgres")
        monkeypatch.setenv("PGPORT", str(port))
        tls = {"ssl": "on", "ssl_cert_file": authority.certificate, "ssl_key_file": authority.key, "hba_file": access}
        own = [f"{name}={value}" for name, value in tls.items()]
        server = Server(here / "server", "listen_addresses=127.0.0.1", *own)
        try:
            yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres", authority.ca_file
        finally:
            server.stop()


def test_a_database_elsewhere_that_proves_itself_by_an_authority_of_its_own(
    make: Make, elsewhere: tuple[str, Path], tmp_path: Path
) -> None:
    """By what drivers read beside the address, as the page Your app has it."""
    address, authority = elsewhere
    project = make(DATABASE_URL=address, PGSSLMODE="verify-full", PGSSLROOTCERT=str(authority))
    by_tls = "(SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
    project.revise("a", f'op.execute("DO $$ BEGIN ASSERT {by_tls}; END $$")')
    assert project.told(allowed=[])["applied"] == ["a"]
    project.environment["PGSSLROOTCERT"] = str(Authority.make(tmp_path / "other", "127.0.0.1").ca_file)
    refused = project.run(allowed=[])
    assert refused.returncode == 1
    assert "certificate verify failed" in refused.stderr


def test_a_synchronous_project_on_a_database_of_another_kind(make: Make, tmp_path: Path) -> None:
    project = make(SYNC, DATABASE_URL=f"sqlite:///{tmp_path}/shop.db")
    project.revise("a", TABLE)
    assert project.told(allowed=[])["dialect"] == "sqlite"
    project.revise("b", NOTE)
    assert project.told(allowed=["b"])["applied"] == ["b"]


def test_one_in_a_directory_below_whose_migrations_are_a_package_called_alembic(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    (project.root / "alembic/__init__.py").touch()
    found = understood(project.run("./project", project.root.parent, OWN, allowed=[]).stdout)
    assert found["applied"] == ["a"]
    assert project.told(allowed=[], python=OWN)["applied"] == []
    refused = project.run(at=project.root.parent, allowed=[])
    assert refused.returncode == 1
    assert f"there is no alembic.ini in {project.root.parent}; write its directory" in refused.stderr
    assert "write the directory of alembic.ini" in project.run("./elsewhere", allowed=[]).stderr


def test_one_that_is_configured_in_pyproject(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    (project.root / "alembic.ini").unlink()
    (project.root / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/alembic"\n')
    assert project.told(allowed=[])["applied"] == ["a"]


def test_one_whose_configuration_stands_in_both_as_the_template_pyproject_has_it(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    (project.root / "alembic.ini").write_text(INI.replace("script_location = alembic\n", ""))
    (project.root / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/alembic"\n')
    assert project.told(allowed=[])["applied"] == ["a"]


def test_one_that_migrates_several_databases_is_refused(make: Make, tmp_path: Path) -> None:
    again = "\nwith create_engine(os.environ['OTHER']).connect() as connection:\n    migrate(connection)\n"
    one, two = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two"))
    project = make(SYNC, DATABASE_URL=one, OTHER=one)
    project.revise("a", TABLE)
    project.told(allowed=[])
    project.revise("b", NOTE)
    (project.root / "alembic/env.py").write_text(SYNC + again)
    project.environment["OTHER"] = two
    asked: list[dict[str, Any]] = [{"allowed": []}, {"since": "a"}]
    for what in asked:
        refused = project.run(**what)
        assert refused.returncode == 1
        assert "MigrationError: env.py migrates several databases or schemas" in refused.stderr
        assert "write fastapi_app_migrate_command: [alembic, upgrade, heads]" in refused.stderr
    (project.root / "alembic/env.py").write_text(SYNC)
    assert project.told(allowed=[])["from"] == "a"


def test_an_image_without_alembic_is_told_by_name(make: Make) -> None:
    """Without its packages a Python has none; the program `alembic`, where there is one, knows which does."""
    project = make()
    project.revise("a", TABLE)
    bare = (str(Path(sys.executable).with_name("python")), "-S")
    project.environment["PATH"] = "/usr/bin:/bin"
    refused = project.run(python=bare, allowed=[])
    assert refused.returncode == 1
    assert "fastapi_app_migrations needs the app's own Alembic, and this app has none" in refused.stderr
    program = project.root / ".venv/bin/alembic"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{Path(sys.executable).parent}/python3\n")
    assert understood(project.run(python=bare, allowed=[]).stdout)["applied"] == ["a"]


def test_whichever_connection_migrates_has_the_lock(make: Make) -> None:
    project = make(TWICE)
    project.revise("a", GUARDED)
    assert project.told(allowed=[])["applied"] == ["a"]


def test_two_lines_of_revisions_end_in_two_heads(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    project.revise("b", NOTE)
    project.revise("c", "op.create_table('others', sa.Column('id', sa.BigInteger))", after="a")
    assert project.told(allowed=[])["to"] == "b,c"
    assert project.told(since="b,c")["pending"] == []


def test_what_depends_on_the_database_is_said_to(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    project.told(allowed=[])
    project.revise("b", "op.get_bind().execute(sa.text('UPDATE items SET id = id'))")
    assert "UPDATE items" in project.told(allowed=[])["pending"][0]["sql"]
    assert project.told(allowed=[])["pending"][0]["unread"] == ""
    project.revise("b", "op.get_bind().execute(sa.text('SELECT 1')).scalar()", after="a")
    (pending,) = project.told(allowed=[])["pending"]
    assert pending["unread"].startswith("AttributeError: ")


@pytest.mark.parametrize("question", ["context.is_offline_mode()", "op.get_context().as_sql"])
def test_what_is_otherwise_on_a_database_is_not_taken_for_read(make: Make, tmp_path: Path, question: str) -> None:
    project = make(SYNC, DATABASE_URL=f"sqlite:///{tmp_path}/shop.db")
    project.revise("a", TABLE)
    project.told(allowed=[])
    project.revise("b", f"from alembic import context\n    if not {question}:\n        op.drop_table('items')")
    (pending,) = project.told(allowed=[])["pending"]
    assert pending["unread"] == "it asks whether it is written or applied"
    assert "DROP" not in pending["sql"]


def test_a_release_that_does_not_know_the_schema_says_so(make: Make, tmp_path: Path) -> None:
    project = make(SYNC, DATABASE_URL=f"sqlite:///{tmp_path}/shop.db")
    project.revise("a", TABLE)
    project.revise("b", NOTE)
    project.told(allowed=[])
    (project.root / "alembic/versions/b.py").unlink()
    for since in ("a", "b"):
        refused = project.run(since=since)
        assert refused.returncode == 1
        assert f"MigrationError: the database is at b, the other release is of {since}" in refused.stderr
        assert "does not know b, so" in refused.stderr
        assert refused.stderr.endswith("a rollback asks nothing with -e fastapi_app_migrations=\n")


def test_a_failure_has_the_revision_and_the_words_of_the_database(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    project.revise("b", "op.execute('SELECT 1 / 0')")
    failed = project.run(allowed=[])
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr
    cause = last_exception(failed.stderr)
    assert cause.startswith("MigrationError: revision b was not applied (")
    assert "division by zero; it was at SELECT 1 / 0)" in cause


def test_an_index_is_made_beside_those_who_wait_for_it_and_behind_who_was_there_before(make: Make, psql: Any) -> None:
    """The index waits for transactions for longer than other DDL may; who waits for the lock is not one of them."""
    project = make()
    project.revise("a", TABLE)
    project.told(allowed=[])
    project.revise("b", INDEX)
    with ThreadPoolExecutor() as pool:
        with transaction(psql, "UPDATE items SET name = ''"):
            first = pool.submit(project.told, allowed=["b"])
            waits(psql, "CREATE INDEX CONCURRENTLY")
            second = pool.submit(project.run, allowed=["b"])
            waits(psql, "CREATE INDEX CONCURRENTLY", seconds=1.5)
        assert first.result()["applied"] == ["b"]
        assert understood(second.result().stdout)["applied"] == []
    assert psql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'items_name'::regclass") == "t"


def test_what_needs_a_table_that_is_taken_lets_requests_through_and_tries_again(make: Make, psql: Any) -> None:
    project = make()
    project.revise("a", TABLE)
    project.told(allowed=[])
    project.revise("b", NOTE)
    with ThreadPoolExecutor() as pool:
        with transaction(psql, "LOCK TABLE items IN ACCESS SHARE MODE"):
            change = pool.submit(project.run, allowed=["b"])
            waits(psql, "ALTER TABLE")
            # Behind the change, which gives up its place in the queue.
            assert psql("SELECT count(*) FROM items") == "0"
        result = change.result()
    assert understood(result.stdout)["applied"] == ["b"], result.stderr
    assert "no lock within 500ms, trying again (1 of 20)" in result.stderr


def test_what_is_printed_last_is_the_answer_alone(make: Make) -> None:
    project = make()
    project.revise("a", TABLE)
    result = project.run(allowed=[])
    assert list(json.loads(result.stdout)) == ["migration"]
    assert "by the project" in result.stderr


def test_a_look_applies_nothing_and_tells_what_could_be_lost(make: Make, psql: Callable[..., str]) -> None:
    there = make()
    there.revise("a", TABLE)
    found = there.told(allowed=None, look=True)
    assert (found["applied"], [one["revision"] for one in found["pending"]], found["empty"]) == ([], ["a"], True)
    assert psql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0", "no table of Alembic's either"
    psql("CREATE SCHEMA old; CREATE TABLE old.notes (a int)")
    assert there.told(allowed=[], look=True)["empty"] is False, "tables that Alembic has not made"
    assert there.told(allowed=["a"])["applied"] == ["a"]
    there.revise("b", NOTE)
    found = there.told(allowed=["b"], look=True)
    assert (found["from"], found["to"], found["applied"], found["empty"]) == ("a", "a", [], False)


def test_what_is_measured_tells_locks_and_seconds(make: Make, psql: Callable[..., str]) -> None:
    there = make()
    there.revise("a", TABLE)
    assert there.told(allowed=["a"])["applied"] == ["a"]
    there.revise("b", f"op.execute('SELECT pg_sleep(0.3)')\n    {NOTE}")
    there.revise("c", INDEX)
    found = there.told(allowed=["b", "c"], measure=True)
    assert found["applied"] == ["b", "c"]
    first, *_ = found["transactions"]
    assert first["locks"] == [["public.items", "AccessExclusiveLock"]]
    assert 0.3 <= first["seconds"] <= found["seconds"]
    assert psql("SELECT version_num FROM alembic_version") == "c"
