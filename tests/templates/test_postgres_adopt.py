"""The script that takes a database over, between two real servers."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.conftest import binary
from tests.real_postgres import Server
from tests.templates.rendering import Role

# Programs that are found before the real ones: one fails where a word is among its arguments, one writes a row.
FAILING = '#!/bin/sh\ncase "$*" in *{word}*) echo \'broken on purpose\' >&2; exit 1;; esac\nexec {program} "$@"\n'
WRITING = "#!/bin/sh\n{program} \"$@\"\nexec {psql} -XqU postgres -d links -c 'INSERT INTO one VALUES (9)'\n"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        found = {name: Server(Path(directory, name)) for name in ("compose", "native")}
        for server in found.values():
            server.sql("CREATE ROLE links LOGIN")
        yield found
        for server in found.values():
            server.stop()


class Adoption:
    """Data in the server of Compose, an empty database in the packaged one, and the script between them."""

    def __init__(self, servers: dict[str, Server], scratch: Path) -> None:
        self.source, self.target = servers["compose"], servers["native"]
        self.scratch = scratch
        for server in servers.values():
            for name in server.databases() - {"postgres"}:
                server.sql(f'DROP DATABASE "{name}"')
            server.sql("CREATE DATABASE links OWNER links")
        self.source.sql("SET ROLE links; CREATE TABLE one (id int); CREATE TABLE none (id int)", "links")
        self.source.sql("INSERT INTO one SELECT generate_series(1, 3)", "links")
        # No table, so the database counts as empty; but somebody made it, and it must be there afterwards.
        self.target.sql("CREATE FUNCTION made_by_hand() RETURNS int LANGUAGE sql AS 'SELECT 1'", "links")

    def wrap(self, side: str, program: str, text: str) -> None:
        directory = self.scratch / side
        directory.mkdir(exist_ok=True)
        (directory / program).write_text(text)
        (directory / program).chmod(0o755)

    def run(self) -> subprocess.CompletedProcess[str]:
        programs = str(Path(binary("psql")).parent)
        reached = {
            side: f"env PGHOST={server.directory} PATH={self.scratch / side}:{programs}:/usr/bin:/bin"
            for side, server in (("compose", self.source), ("native", self.target))
        }
        role = Role(
            "postgres",
            postgres_provider="native",
            __postgres_superusers=reached,
        )
        script = self.scratch / "adopt.sh"
        script.write_text(role.render("adopt.sh.j2"))
        command = ["sh", str(script), "links", "links"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    def assert_untouched(self) -> None:
        assert self.target.databases() == {"postgres", "links"}
        assert self.target.sql("SELECT made_by_hand()", "links") == "1"
        assert self.target.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "links") == "0"


@pytest.fixture
def adoption(servers: dict[str, Server], tmp_path: Path) -> Adoption:
    return Adoption(servers, tmp_path)


def test_the_data_comes_over_once_and_what_was_there_is_kept(adoption: Adoption) -> None:
    done = adoption.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["public.none 0", "public.one 3"]
    assert adoption.target.sql("SELECT sum(id) FROM one", "links") == "6"
    owner = "SELECT string_agg(DISTINCT tableowner, ',') FROM pg_tables WHERE schemaname = 'public'"
    assert adoption.target.sql(owner, "links") == "links"
    (kept,) = adoption.target.databases() - {"postgres", "links"}
    assert kept in done.stdout
    assert adoption.target.sql("SELECT has_database_privilege('public', 'links', 'CONNECT')") == "f"
    assert adoption.target.sql("SELECT made_by_hand()", kept) == "1"
    again = adoption.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_tables_of_an_extension_are_no_data(adoption: Adoption) -> None:
    """The role has made the extension in the empty database, and its tables have rows from the beginning."""
    adoption.target.sql("CREATE EXTENSION pg_trgm; CREATE TABLE brought AS SELECT 1 AS row", "links")
    adoption.target.sql("ALTER EXTENSION pg_trgm ADD TABLE brought", "links")
    done = adoption.run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["public.none 0", "public.one 3"]


def test_a_target_with_tables_is_left_alone(adoption: Adoption) -> None:
    adoption.target.sql("CREATE TABLE mine (id int)", "links")
    done = adoption.run()
    assert (done.returncode, done.stdout) == (0, "")
    assert adoption.target.databases() == {"postgres", "links"}


@pytest.mark.parametrize(
    ("side", "program", "word", "cause"),
    [
        ("native", "psql", "pg_tables", "the native database cannot be read"),
        ("native", "psql", "--file", "the native database cannot be read"),
        ("compose", "psql", "pg_tables", "the compose database cannot be read"),
        ("compose", "psql", "--file", "the compose database cannot be read"),
        ("compose", "pg_dump", "custom", "the dump failed"),
        ("native", "psql", "CREATE", "no database could be made beside"),
        ("native", "pg_restore", "links", "the dump could not be restored"),
        ("native", "psql", "RENAME", "the database could not be put in place"),
    ],
)
def test_a_step_that_fails_drops_nothing(side: str, program: str, word: str, cause: str, adoption: Adoption) -> None:
    adoption.wrap(side, program, FAILING.format(word=word, program=binary(program)))
    done = adoption.run()
    assert done.returncode == 1
    assert f"nothing was taken over: {cause}" in done.stderr
    adoption.assert_untouched()


def test_a_dump_that_cannot_be_restored_whole_is_not_restored_at_all(adoption: Adoption) -> None:
    adoption.source.sql("DO $$BEGIN CREATE ROLE only_there; EXCEPTION WHEN duplicate_object THEN NULL; END$$")
    adoption.source.sql("GRANT SELECT ON one TO only_there", "links")
    done = adoption.run()
    assert done.returncode == 1
    assert "only_there" in done.stderr
    adoption.assert_untouched()


def test_a_database_that_is_not_there_is_not_an_empty_one(adoption: Adoption) -> None:
    adoption.target.sql("ALTER DATABASE links RENAME TO elsewhere")
    done = adoption.run()
    assert done.returncode == 1
    assert "the native database cannot be read" in done.stderr
    assert adoption.target.databases() == {"postgres", "elsewhere"}


def test_rows_written_meanwhile_are_noticed(adoption: Adoption) -> None:
    adoption.wrap("compose", "pg_dump", WRITING.format(program=binary("pg_dump"), psql=binary("psql")))
    done = adoption.run()
    assert done.returncode == 1
    assert "was the app still writing?" in done.stderr
    assert "public.one 3\tpublic.one 3\tpublic.one 4" in done.stderr
    adoption.assert_untouched()


def test_somebody_in_the_empty_database_stops_it(adoption: Adoption) -> None:
    session = [binary("psql"), "-Xq", "-h", str(adoption.target.directory), "-U", "postgres", "links"]
    with subprocess.Popen(session, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as open_session:
        assert open_session.stdin
        assert open_session.stdout
        open_session.stdin.write("\\echo in\n")
        open_session.stdin.flush()
        assert open_session.stdout.readline() == "in\n"
        done = adoption.run()
        open_session.stdin.close()
    assert done.returncode == 1
    assert "accessed by other users" in done.stderr
    adoption.assert_untouched()
