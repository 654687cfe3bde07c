"""What is told to PostgreSQL, and what is made of its words."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import postgres
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import DIFFERENT, FAILED, BackupError, Database
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.postgres import server as psql
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.databases import Role, member, there

from tests import real_postgres
from tests.app.conftest import binary, until

LINKS = Database("links", "owner", "UTF8", "C", "C", 10, {"public.t": (2, "7"), "public.u": (0, "0")}, ("0002",))


def test_what_psql_counted() -> None:
    lines = ["public.t\t2\t7", "public.u\t0\t0", "0002", ""]
    bare = Database("links", "owner", "UTF8", "C", "C", 10)
    assert postgres.counted(bare, lines) == LINKS
    assert LINKS.rows == 2


@pytest.mark.parametrize(
    ("tables", "heads", "said"),
    [
        ({"public.t": (2, "7"), "public.u": (0, "0")}, ("0002",), []),
        ({"public.t": (1, "7"), "public.u": (0, "0")}, ("0002",), ["links: public.t has 1 rows instead of 2"]),
        (
            {"public.t": (2, "8"), "public.u": (0, "0")},
            ("0002",),
            ["links: public.t has other rows than the 2 that were saved"],
        ),
        ({"public.t": (2, "7")}, ("0002",), ["links: public.u is missing"]),
        ({**LINKS.tables, "public.v": (1, "1")}, ("0002",), ["links: public.v is not of this set"]),
        (LINKS.tables, ("0001",), ["links: its schema is ('0001',) instead of ('0002',)"]),
    ],
)
def test_what_differs(tables: dict[str, tuple[int, str]], heads: tuple[str, ...], said: list[str]) -> None:
    found = Database("links", "owner", "UTF8", "C", "C", 10, tables, heads)
    assert postgres.differences(LINKS, found) == said
    if said:
        with pytest.raises(BackupError) as caught:
            postgres.same(LINKS, found)
        assert caught.value.fault == DIFFERENT


GLOBALS = """\
--
SET default_transaction_read_only = off;
CREATE ROLE links;
ALTER ROLE links WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';
CREATE ROLE "links owner";
ALTER ROLE "links owner" WITH NOLOGIN;
ALTER ROLE links SET search_path TO 'links';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER;
GRANT "links owner" TO links WITH INHERIT TRUE GRANTED BY postgres;
"""


def test_roles_that_are_not_there_are_made() -> None:
    assert postgres.missing_roles(GLOBALS, {"postgres", "links owner"}).splitlines() == [
        "CREATE ROLE links;",
        "ALTER ROLE links WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x';",
        "ALTER ROLE links SET search_path TO 'links';",
        'GRANT "links owner" TO links WITH INHERIT TRUE GRANTED BY postgres;',
    ]
    assert postgres.missing_roles(GLOBALS, {"postgres", "links", "links owner"}) == ""


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[Server, Path]]:
    """A server with its directory, reached as the role does without a container."""
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        running = real_postgres.Server(Path(directory) / "there")
        try:
            yield Server(running.superuser), running.directory
        finally:
            running.stop()


class Migration:
    """A session beside a dump, which asks for locks in a transaction of its own."""

    def __init__(self, directory: Path) -> None:
        words = [binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(directory), "-U", "postgres", "moved"]
        pipe = subprocess.PIPE
        self.session = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def say(self, statements: str) -> None:
        assert self.session.stdin
        self.session.stdin.write(f"{statements};\n")
        self.session.stdin.flush()

    def do(self, statements: str) -> None:
        """Say it, and wait until it was done."""
        assert self.session.stdout
        self.say(f"{statements}; SELECT 'done'")
        assert self.session.stdout.readline().strip() == "done"

    def end(self, statements: str = "ROLLBACK") -> str:
        """What it was told that went wrong, at its end."""
        return self.session.communicate(f"{statements};\n", timeout=60)[1]


@pytest.fixture
def moved(real: tuple[Server, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dumping]:
    server, directory = real
    server.sql("postgres", "CREATE DATABASE moved")
    server.sql("moved", "CREATE TABLE first (id int)", "CREATE TABLE second AS SELECT 1 AS id")
    monkeypatch.setattr(postgres, "EVERY", 0.1)
    made = Dumping(server, Migration(directory), tmp_path / "dump")
    yield made
    made.migration.session.kill()
    server.sql("postgres", "DROP DATABASE moved WITH (FORCE)")


@dataclass
class Dumping:
    """A dump of a database that is migrated meanwhile."""

    server: Server
    migration: Migration
    into: Path
    found: list[Any] = field(default_factory=list)

    def dump(self) -> None:
        (database,) = [one for one in self.server.databases() if one.name == "moved"]
        try:
            self.found.append(self.server.dump(database, self.into))
        except BackupError as error:
            self.found.append(error)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Begin with the dump, and wait for its end after the block."""
        dump = threading.Thread(target=self.dump)
        dump.start()
        yield
        dump.join(timeout=120)
        assert not dump.is_alive()

    def waits(self) -> bool:
        """Whether the dump has a lock on one table and waits for one on the other."""
        asked = "SELECT count(*) FILTER (WHERE granted), count(*) FILTER (WHERE NOT granted) FROM pg_locks l"
        mine = "JOIN pg_class c ON c.oid = l.relation WHERE mode = 'AccessShareLock' AND relname IN ('first', 'second')"
        return self.server.sql("moved", f"{asked} {mine}") == [["1", "1"]]


def test_a_dump_waits_for_the_end_of_a_migration_and_has_what_that_made(moved: Dumping) -> None:
    moved.migration.do("BEGIN; ALTER TABLE second ADD COLUMN more int DEFAULT 7")
    with moved.under_way():
        until(moved.waits, "the dump waits")
        until(lambda: not moved.waits(), "it lets go of what it has")
        assert moved.migration.end("COMMIT") == ""
    (found,) = moved.found
    assert found.tables["public.second"][0] == 1
    moved.server.sql("postgres", "CREATE DATABASE again")
    moved.server.fill("again", moved.into)
    assert moved.server.sql("again", "SELECT id, more FROM second") == [["1", "7"]]
    assert postgres.differences(found, moved.server.count(found, "again")) == []
    moved.server.sql("postgres", "DROP DATABASE again")


def test_a_migration_that_asks_for_what_a_dump_has_is_not_ended_for_it(moved: Dumping) -> None:
    """Each has what the other one asks for: a deadlock, in which the server would end the one that sees it first."""
    moved.migration.do("BEGIN; LOCK TABLE second IN ACCESS EXCLUSIVE MODE")
    with moved.under_way():
        until(moved.waits, "the dump waits")
        moved.migration.do("ALTER TABLE first ADD COLUMN more int")
        assert moved.migration.end("COMMIT") == ""
    assert {"public.first", "public.second"} < set(moved.found[0].tables)
    assert moved.server.warnings == []


def test_what_a_killed_dump_has_left_in_the_server_is_ended(moved: Dumping) -> None:
    """In a container it goes on without the one who asked for it, and has its locks as long."""
    moved.migration.do("BEGIN; LOCK TABLE second IN ACCESS EXCLUSIVE MODE")
    with moved.under_way():
        until(moved.waits, "the dump has a lock")
        moved.server.end_dumps()
    assert "terminating connection due to administrator command" in str(moved.found[0])
    moved.migration.do("ALTER TABLE first ADD COLUMN more int")
    assert moved.migration.end("COMMIT") == "", "and no session of another kind"


def test_a_lock_that_nobody_lets_go_of_is_told(moved: Dumping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "LOCKED", 0.0)
    moved.migration.do("BEGIN; LOCK TABLE second IN ACCESS EXCLUSIVE MODE")
    moved.dump()
    assert "moved cannot be dumped: a table of it was locked" in str(moved.found[0])
    assert "a session that was left open in a transaction" in str(moved.found[0])
    moved.migration.end()


@pytest.mark.parametrize(
    ("statements", "gone"),
    [
        ("DROP TABLE second", "public.second"),
        ("ALTER TABLE second ADD COLUMN more int; DROP TABLE own.third; DROP SCHEMA own", "own.third"),
    ],
)
def test_what_went_while_it_was_locked_is_in_no_dump(moved: Dumping, statements: str, gone: str) -> None:
    moved.server.sql("moved", "CREATE SCHEMA own", "CREATE TABLE own.third (id int)")
    moved.migration.do(f"BEGIN; {statements}")
    with moved.under_way():
        until(moved.waits, "the dump waits")
        assert moved.migration.end("COMMIT") == ""
    assert {"public.first", "public.second", "own.third"} - set(moved.found[0].tables) == {gone}


@pytest.mark.parametrize("what", ['relation "public.gone"', 'schema "gone"'])
def test_what_is_never_there_is_tried_a_few_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str) -> None:
    server, tried = Server(["x"]), []

    def dumped(*_: object) -> Database:
        tried.append(1)
        raise BackupError(FAILED, f"could not count what links has: ERROR:  {what} does not exist")

    monkeypatch.setattr(server, "_dumped", dumped)
    monkeypatch.setattr(postgres, "EVERY", 0.0)
    with pytest.raises(BackupError, match="links cannot be dumped: what was to be dumped was not there, 5 times"):
        server.dump(LINKS, tmp_path / "dump")
    assert len(tried) == postgres.GONE


NOT_BEGUN = "OCI runtime exec failed: exec failed: unable to start container process: connection reset by peer"


@pytest.mark.parametrize("fails", [1, postgres.GONE])
def test_an_engine_that_could_not_start_a_program_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: int
) -> None:
    """Its words come where the snapshot's name is looked for."""
    tries = tmp_path / "tries"
    script = f"echo >> {tries}; [ $(wc -l < {tries}) -gt {fails} ] || {{ echo '{NOT_BEGUN}'; exit 255; }}; "
    server = Server(["sh", "-c", f"{script}echo 00000003-0000001B-1; cat > /dev/null", "psql"])
    monkeypatch.setattr(postgres, "EVERY", 0.0)
    monkeypatch.setattr(server, "_dump", lambda name, snapshot, into: into.write_text(snapshot))
    monkeypatch.setattr(postgres, "counted", lambda database, lines: database)
    if fails < postgres.GONE:
        assert server.dump(LINKS, tmp_path / "dump") == LINKS
        assert (tmp_path / "dump").read_text() == "00000003-0000001B-1"
    else:
        with pytest.raises(
            BackupError, match=rf"could be started beside .* 5 times .*postgres_memory_mib.*{NOT_BEGUN}"
        ):
            server.dump(LINKS, tmp_path / "dump")


def test_an_engine_that_is_gone_before_it_is_asked_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Ended(subprocess.Popen[str]):
        def __init__(self, *words: Any, **streams: Any) -> None:
            super().__init__(*words, **streams)
            self.wait()

    monkeypatch.setattr(subprocess, "Popen", Ended)
    monkeypatch.setattr(postgres, "EVERY", 0.0)
    server = Server(["sh", "-c", f"echo '{NOT_BEGUN}'; exit 255", "psql"])
    with pytest.raises(BackupError, match=rf"could be started beside .* 5 times .*{NOT_BEGUN}"):
        server.dump(LINKS, tmp_path / "dump")


def test_a_dump_that_could_not_be_started_says_so(tmp_path: Path) -> None:
    server = Server(["sh", "-c", f"echo '{NOT_BEGUN}'; exit 126"])
    with pytest.raises(BackupError, match=f"pg_dump of links failed: {NOT_BEGUN}"):
        server._dump("links", "00000003-0000001B-1", tmp_path / "dump")


def test_a_database_of_more_tables_than_there_are_locks_is_dumped_without(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        running = real_postgres.Server(Path(directory) / "there", "max_locks_per_transaction=10")
        server = Server(running.superuser)
        try:
            made = "FOR i IN 1..500 LOOP EXECUTE format('CREATE TABLE t%s ()', i); COMMIT; END LOOP"
            running.sql(f"DO $$ BEGIN {made}; END $$")
            (database,) = [one for one in server.databases() if one.name == "postgres"]
            assert len(server.dump(database, tmp_path / "dump").tables) == 501, "with large objects"
        finally:
            running.stop()
    (warned,) = server.warnings
    assert "postgres has more tables than the server has room for locks on" in warned


@pytest.mark.parametrize(("own", "nice"), [(0, []), (10, ["nice", "-n", "10"]), (19, ["nice", "-n", "19"])])
def test_a_dump_in_a_container_gives_way_as_the_program_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: int, nice: list[str]
) -> None:
    """`docker exec` starts what it is told at the usual priority."""
    asked: list[list[str]] = []

    def run(words: Sequence[str], *_: object, **__: object) -> Ran:
        asked.append(list(words))
        return Ran(tuple(words), 0)

    monkeypatch.setattr(os, "nice", lambda _: own)
    Server(("docker", "exec", "-i", "c"), run=run)._dump("links", "snapshot", tmp_path / "dump")
    assert asked[0][:5] == ["docker", "exec", "-i", "c", "env"]
    assert asked[0][5] == f"PGAPPNAME={postgres.DUMPS}"
    assert asked[0][7 : 7 + len(nice) + 1] == [*nice, "pg_dump"]
    Server(("runuser", "-u", "postgres", "--"), run=run)._dump("links", "snapshot", tmp_path / "dump")
    assert "nice" not in asked[1], "natively it inherits that"


def test_where_the_data_of_a_server_is(real: tuple[Server, Path]) -> None:
    server, directory = real
    assert server.disk() == (directory / "data", 1 << 30)


def test_what_is_counted_and_roles_that_are_made(real: tuple[Server, Path]) -> None:
    server, _ = real
    server.run_globals("CREATE ROLE links;\n")
    assert "links" in server.roles()
    (database,) = [database for database in server.databases() if database.name == "postgres"]
    server.sql("postgres", "CREATE TABLE counted AS SELECT generate_series(1, 3)")
    assert server.count(database, "postgres").tables["public.counted"][0] == 3
    with pytest.raises(BackupError, match='the database server refused: .*role "links" already exists'):
        server.run_globals("CREATE ROLE links;\n")


def test_a_login_that_was_taken_away_comes_back_without_its_password(real: tuple[Server, Path], tmp_path: Path) -> None:
    """A set is of a time at which its password was good; what that login made is restored, and it is known as one."""
    server, _ = real
    server.sql("postgres", "CREATE ROLE maps", *member("maps_1a2b3c4d", "maps"))
    server.sql("postgres", "ALTER ROLE maps_1a2b3c4d PASSWORD 'x'", "COMMENT ON ROLE maps IS 'of two\n''lines'")
    server.globals(tmp_path / "globals.sql")
    before = there(server).roles["maps_1a2b3c4d"]
    assert (before.login, before.of) == (True, "maps")
    server.sql("postgres", "DROP ROLE maps_1a2b3c4d", "DROP ROLE maps")
    script = postgres.missing_roles((tmp_path / "globals.sql").read_text(), server.roles())
    server.run_globals(script)
    assert there(server).roles["maps_1a2b3c4d"] == Role(superuser=False, login=False, kept="", of="maps")
    server.sql("postgres", "DROP ROLE maps_1a2b3c4d", "DROP ROLE maps")


def test_a_server_that_does_not_end_is_told() -> None:
    server = Server(["x"], run=lambda *_, **__: Ran(("x",), 124, "", "`x` did not end within 86400 s", True))
    with pytest.raises(BackupError, match="did not end within"):
        server.count(LINKS, "links")


@pytest.mark.parametrize("words", ["LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'", "LOCALE_PROVIDER libc", ""])
def test_a_database_is_made_with_what_sorts_its_texts(real: tuple[Server, Path], words: str) -> None:
    server, _ = real
    server.sql("postgres", "DROP DATABASE IF EXISTS sorted", f"CREATE DATABASE sorted TEMPLATE template0 {words}")
    (wanted,) = [database for database in server.databases() if database.name == "sorted"]
    server.make(wanted, "made")
    (found,) = [database for database in server.databases() if database.name == "made"]
    assert server.sql("postgres", "SELECT has_database_privilege('public', 'made', 'CONNECT, TEMPORARY')") == [["f"]]
    server.sql("postgres", "DROP DATABASE made")
    assert (found.provider, found.locale) == (wanted.provider, wanted.locale)
    assert found.locale == ("de-u-co-phonebk" if "icu" in words else "")


@pytest.mark.parametrize(
    ("provider", "locale", "words"),
    [
        ("", "", ""),
        ("c", "", " LOCALE_PROVIDER libc"),
        ("i", "de", " LOCALE_PROVIDER icu ICU_LOCALE 'de'"),
        ("b", "C.UTF-8", " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    ],
)
def test_what_sorts_texts(provider: str, locale: str, words: str) -> None:
    assert postgres.sorted_by(replace(LINKS, provider=provider, locale=locale)) == words


def test_where_the_data_of_a_container_is() -> None:
    asked: list[list[str]] = []

    def run(words: list[str], timeout: float, **_: Any) -> Ran:
        asked.append(words)
        return Ran(tuple(words), 0, "/docker/volumes/data/_data\n" if "inspect" in words else "/var/data\t4096\n")

    assert Server(psql.SUPERUSERS["compose"], run=run).disk() == (Path("/docker/volumes/data/_data"), 4096)
    assert '{{if eq .Destination "/var/data"}}{{.Source}}{{end}}' in asked[-1][3]


class Psql:
    """Answers what was asked for databases, and refuses to rename them some times."""

    def __init__(self, names: list[str], busy: int = 0) -> None:
        self.names, self.busy = names, busy
        self.asked: list[list[str]] = []

    def __call__(self, words: list[str], timeout: float, **_: Any) -> Ran:
        statements = [word for flag, word in pairwise(words) if flag == "-c"]
        self.asked.append(statements)
        if statements[0] == "BEGIN":
            if self.busy:
                self.busy -= 1
                return Ran(tuple(words), 1, "", 'ERROR:  database "links" is being accessed by other users')
            return Ran(tuple(words), 0)
        return Ran(tuple(words), 0, "\n".join(self.names))


def test_names_change_in_one_transaction() -> None:
    psql = Psql(["postgres", "links", "slipway_restoring_links", "slipway_restoring_new"], busy=2)
    names = [("links", "slipway_restoring_links", "kept"), ("new", "slipway_restoring_new", "never")]
    assert Server(["x"], run=psql).swap(names) == {"links"}
    assert psql.asked[-1] == [
        "BEGIN",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'links'",
        'ALTER DATABASE "links" RENAME TO "kept"',
        'ALTER DATABASE "kept" ALLOW_CONNECTIONS false',
        'ALTER DATABASE "slipway_restoring_links" RENAME TO "links"',
        'ALTER DATABASE "slipway_restoring_new" RENAME TO "new"',
        "COMMIT",
    ]


def test_sessions_that_do_not_end_are_not_waited_for_for_ever() -> None:
    psql = Psql(["links", "slipway_restoring_links"], busy=postgres.TRIES)
    with pytest.raises(BackupError, match="accessed by other users"):
        Server(["x"], run=psql).swap([("links", "slipway_restoring_links", "kept")])


def test_a_change_of_names_whose_answer_was_lost_is_done() -> None:
    psql = Psql(["links", "kept"], busy=1)
    assert Server(["x"], run=psql).swap([("links", "slipway_restoring_links", "kept")]) == {"links"}


def test_no_other_database_is_dropped_than_those_made_on_the_way() -> None:
    psql = Psql(["links"])
    with pytest.raises(BackupError, match="is no database that a restore made"):
        Server(["x"], run=psql).drop("links")
    assert psql.asked == []


def test_names_and_texts_are_quoted() -> None:
    assert psql.quoted('a"b') == '"a""b"'
    assert psql.literal("o'clock") == "'o''clock'"
