"""The scripts that give the app another login and take former ones away, on a real server, cut after each effect."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.filter.release import login_of

from tests.app.conftest import binary
from tests.real_postgres import Server
from tests.templates.rendering import Role

OWNER = "links"
FIRST, SECOND, THIRD = "first-password-0123456789", "second:pass\\word'0123456789", "third-password-0123456789"
# In place of psql: does what it is asked, and in its turn ends whoever asked.
CUTTING = """#!/bin/sh
count=$(($(cat {count}) + 1))
echo $count >{count}
{psql} "$@"
code=$?
[ $count != "$CUT" ] || kill -9 0
exit $code
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        server = Server(Path(directory, "server"))
        yield server
        server.stop()


class Database:
    """A server with the role's files, and its scripts run as on a host."""

    def __init__(self, server: Server, scratch: Path) -> None:
        self.server, self.scratch = server, scratch
        self.count = scratch / "count"
        (scratch / "secrets").mkdir()
        (scratch / "bin").mkdir()
        wrapper = scratch / "bin/psql"
        wrapper.write_text(CUTTING.format(count=self.count, psql=binary("psql")))
        wrapper.chmod(0o755)
        self.reset()

    def reset(self) -> None:
        """As the server was when it was made."""
        for name in self.server.databases() - {"postgres"}:
            self.server.sql(f'DROP DATABASE "{name}" WITH (FORCE)')
        for name in self.server.sql("SELECT rolname FROM pg_roles WHERE rolname ~ '^links'").split():
            self.server.sql(f'DROP ROLE "{name}"')

    def role(self, password: str, login: str) -> Role:
        place = {
            "config": str(self.scratch),
            "secrets": str(self.scratch / "secrets"),
            "login": str(self.server.directory),
        }
        return Role(
            "postgres",
            postgres_provider="native",
            postgres_database=OWNER,
            postgres_user=OWNER,
            postgres_password=password,
            postgres_login=login,
            postgres_memory_mib=256,
            __postgres_place=place,
        )

    @functools.cache  # noqa: B019 - for one test
    def text(self, template: str, password: str, login: str) -> str:
        return self.role(password, login).render(template)

    def run(self, script: str, text: str, *words: str, cut: str = "") -> subprocess.CompletedProcess[str]:
        path = self.scratch / script
        path.write_text(text)
        self.count.write_text("0")
        environment = {
            "PATH": f"{self.scratch}/bin:/usr/bin:/bin",
            "PGHOST": str(self.server.directory),
            "CUT": cut,
            "TMPDIR": str(self.scratch),
        }
        return subprocess.run(
            ["sh", str(path), *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )

    def ensure(self, password: str, login: str = "", *words: str, cut: str = "") -> subprocess.CompletedProcess[str]:
        """As provisioning and the first phase of a rotation: the files are put there, the script runs."""
        login = login or login_of(OWNER, password)
        access = self.server.directory / "data/pg_hba.conf"
        access.write_text(self.text("pg_hba.conf.j2", password, login).replace("peer", "trust"))
        access.chmod(0o644)
        if login == OWNER and not self.server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'links'"):
            self.server.sql("SELECT pg_reload_conf()")  # as at the start of a server that is new
        (self.scratch / "secrets/POSTGRES_PASSWORD").write_text(password)
        return self.run("ensure.sh", self.text("ensure.sh.j2", password, login), *words, cut=cut)

    def retire(
        self, password: str, *, login: str = "", seconds: int = 0, cut: str = ""
    ) -> subprocess.CompletedProcess[str]:
        text = self.text("retire.sh.j2", password, login or login_of(OWNER, password))
        return self.run("retire.sh", text, str(seconds), cut=cut)

    def says(self, statement: str, password: str, login: str = "") -> str:
        """The answer of the server to the app; its refusal where it is refused."""
        command = [binary("psql"), "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", str(self.server.directory), "-d", OWNER]
        answer = subprocess.run(
            [*command, "-U", login or login_of(OWNER, password)],
            env={**os.environ, "PGPASSWORD": password},
            input=statement,
            capture_output=True,
            text=True,
            check=False,
        )
        return answer.stdout.strip() if answer.returncode == 0 else f"refused: {answer.stderr}"

    def takes(self, password: str, login: str = "") -> bool:
        return self.says("SELECT current_user;", password, login) == OWNER


@pytest.fixture
def database(running: Server, tmp_path: Path) -> Database:
    tmp_path.chmod(0o755)
    return Database(running, tmp_path)


def done(result: subprocess.CompletedProcess[str]) -> list[str]:
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_login_follows_its_password() -> None:
    assert login_of("links", FIRST) == login_of("links", FIRST + "\n") != login_of("links", SECOND)
    assert login_of("shop", FIRST)[5:] != login_of("links", FIRST)[6:]
    assert len(login_of("u" * 63, FIRST)) == 63


def test_a_database_of_today_rotates(database: Database) -> None:
    """Its one role logs in; afterwards it owns, and another one logs in."""
    assert done(database.ensure(FIRST, OWNER)) == [
        "made role links",
        "made database links",
        "set the password of links",
    ]
    assert database.says("CREATE TABLE one (id int)", FIRST, OWNER) == ""
    new = login_of(OWNER, SECOND)

    result = database.ensure(SECOND, "", "careful")
    assert done(result) == [f"made login {new}", f"set the password of {new}"]
    assert result.stderr.split() == [OWNER]
    assert database.takes(FIRST, OWNER)
    assert database.takes(SECOND)
    assert database.says("CREATE TABLE two (id int); INSERT INTO one VALUES (1)", SECOND) == ""
    assert database.says(
        "SELECT string_agg(tableowner, ' ') FROM pg_tables WHERE schemaname = 'public'", FIRST, OWNER
    ) == ("links links")

    assert done(database.retire(SECOND)) == ["took away links"]
    assert "authentication failed" in database.says("SELECT;", FIRST, OWNER)
    assert database.takes(SECOND)
    assert done(database.ensure(SECOND)) == []
    assert done(database.retire(SECOND)) == []


def test_the_next_rotation_drops_the_login_of_the_last(database: Database) -> None:
    done(database.ensure(FIRST))
    done(database.ensure(SECOND))
    assert database.takes(FIRST)
    # What a pool does to a connection that it gets back; what is made then is the login's own.
    assert database.says("DISCARD ALL; CREATE TABLE own (id int)", FIRST) == ""
    assert done(database.retire(SECOND)) == [f"took away {login_of(OWNER, FIRST)}"]
    assert not database.takes(FIRST)
    assert database.server.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'own'", OWNER) == OWNER
    assert database.says("SELECT count(*) FROM own", SECOND) == "0"
    assert database.server.sql("SELECT rolname FROM pg_roles WHERE rolname ~ '^links_'") == login_of(OWNER, SECOND)


def test_a_password_that_came_meanwhile_takes_both_away(database: Database) -> None:
    for password in (FIRST, SECOND, THIRD):
        done(database.ensure(password))
        assert database.takes(password)
    done(database.retire(THIRD))
    assert [database.takes(password) for password in (FIRST, SECOND, THIRD)] == [False, False, True]


def test_a_rotation_is_taken_back_by_the_former_password(database: Database) -> None:
    done(database.ensure(FIRST, OWNER))
    done(database.ensure(SECOND))
    done(database.retire(SECOND))
    assert done(database.ensure(FIRST, OWNER)) == ["set the password of links"]
    assert database.takes(SECOND)
    assert done(database.retire(FIRST, login=OWNER)) == [f"took away {login_of(OWNER, SECOND)}"]
    assert database.takes(FIRST, OWNER)
    assert not database.takes(SECOND)


def test_who_has_one_name_is_told_of_the_gap(database: Database) -> None:
    done(database.ensure(FIRST, OWNER, "careful"))
    result = database.ensure(SECOND, OWNER, "careful")
    assert result.returncode == 1
    assert "docs/rotation.md" in result.stderr
    assert database.takes(FIRST, OWNER)
    assert done(database.ensure(SECOND, OWNER)) == ["set the password of links"]
    assert database.takes(SECOND, OWNER)


def test_what_uses_a_former_login_keeps_it(database: Database) -> None:
    done(database.ensure(FIRST, OWNER))
    command = [binary("psql"), "-Xqw", "-h", str(database.server.directory), "-U", OWNER, OWNER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PGPASSWORD": FIRST}, text=True
    ) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write("SELECT 'here';\n")
        session.stdin.flush()
        session.stdout.readline()
        done(database.ensure(SECOND))
        result = database.retire(SECOND, seconds=1)
        assert result.returncode == 1
        assert "nothing was taken away" in result.stderr
        assert "1 as links from the host itself" in result.stderr
        assert database.takes(FIRST, OWNER)
        session.stdin.close()
    done(database.retire(SECOND, seconds=30))
    assert not database.takes(FIRST, OWNER)


def test_a_role_of_somebody_s_own_is_not_touched(database: Database) -> None:
    done(database.ensure(FIRST, OWNER))
    database.server.sql('CREATE ROLE links_analyst LOGIN IN ROLE "links"')
    done(database.ensure(SECOND))
    done(database.retire(SECOND))
    assert database.server.sql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'links_analyst'") == "t"
    result = database.ensure(THIRD, "links_analyst")
    assert result.returncode == 1
    assert "was not made by this" in result.stderr


def cuts(run: Callable[[str], subprocess.CompletedProcess[str]], count: Path) -> Iterator[None]:
    """After each call of psql, until a run has no such call any more."""
    for number in range(1, 50):
        result = run(str(number))
        if int(count.read_text()) < number:
            done(result)
            return
        assert result.returncode == -9, (number, result)
        yield
    pytest.fail("it does not end")


def test_it_goes_on_wherever_it_was_cut(database: Database) -> None:
    done(database.ensure(FIRST, OWNER))
    new, seen = login_of(OWNER, SECOND), 0

    def first(cut: str) -> subprocess.CompletedProcess[str]:
        database.server.sql(f"DROP ROLE IF EXISTS {new}; ALTER ROLE links LOGIN PASSWORD '{FIRST}'")
        return database.ensure(SECOND, "", "careful", cut=cut)

    def second(cut: str) -> subprocess.CompletedProcess[str]:
        database.server.sql(f"ALTER ROLE links LOGIN PASSWORD '{FIRST}'")
        return database.retire(SECOND, cut=cut)

    for _ in cuts(first, database.count):
        assert database.takes(FIRST, OWNER), "what serves goes on"
        done(database.ensure(SECOND, "", "careful"))
        assert database.takes(FIRST, OWNER)
        assert database.takes(SECOND)
        seen += 1
    for _ in cuts(second, database.count):
        assert database.takes(SECOND), "what serves goes on"
        assert done(database.ensure(SECOND, "", "careful")) == []
        done(database.retire(SECOND))
        assert database.takes(SECOND)
        assert not database.takes(FIRST, OWNER)
        seen += 1
    assert seen >= 12
