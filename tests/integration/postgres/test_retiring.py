"""A login that changes with its password, and former ones that are taken away: in a real server, cut at each step."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.filter.release import login_of
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import run
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import AccessError
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.databases import member
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.server import Server

from tests.app.conftest import binary
from tests.integration.postgres.world import World, started

OWNER = "links"
FIRST, SECOND, THIRD = "first-password-0123456789", "second:pass\\word'0123456789", "third-password-0123456789"


class Cut(BaseException):
    """The run ended here."""


class App:
    """An app whose databases are all one role's, and what provisioning and a rotation do for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = [OWNER]

    def _run(self, operation: str, login: str, server: Server | None, **options: Any) -> dict[str, Any]:
        named = {"user": OWNER} if login == OWNER else {"user": OWNER, "login": login}
        return self.world.run(operation, OWNER, server=server, databases=dict.fromkeys(self.names, named), **options)

    def ensure(
        self, password: str, login: str = "", careful: bool = False, server: Server | None = None
    ) -> tuple[list[str], list[str]]:
        """What was made, and by which names the app can log in besides."""
        login = login or login_of(OWNER, password)
        self._run("admit", login, server)
        done = self._run("make", login, server, passwords={OWNER: password}, careful=careful)
        return done["said"], done["former"]

    def retire(self, password: str, login: str = "", wait: int = 0, server: Server | None = None) -> list[str]:
        said: list[str] = self._run("retire", login or login_of(OWNER, password), server, wait=wait)["said"]
        return said

    def says(self, password: str, *statements: str, login: str = "", database: str = OWNER) -> str:
        """The answer of the server to the app."""
        done = self.world.login(database, login or login_of(OWNER, password), password, *statements)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def takes(self, password: str, login: str = "") -> bool:
        done = self.world.login(OWNER, login or login_of(OWNER, password), password)
        assert done.stdout == f"{OWNER}\n" or "authentication failed" in done.stderr, done
        return done.returncode == 0

    def ask(self, statement: str, database: str = "postgres") -> list[list[str]]:
        return self.world.server.sql(database, statement)


@pytest.fixture(scope="module")
def begun() -> Iterator[World]:
    with started() as found:
        found.kept = {
            file: file.read_text() for file in found.directory.rglob("*") if file.suffix in (".conf", ".json")
        }
        yield found


@pytest.fixture
def app(begun: World) -> App:
    """As the server was when it was made."""
    for file in (access_file(begun.directory), begun.directory / "server.json"):
        file.write_text(begun.kept[file])
    gone = "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname ~ '^links'"
    roles = "SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname ~ '^links'"
    for asked in (gone, roles):
        if statements := [row[0] for row in begun.server.sql("postgres", asked)]:
            begun.server.sql("postgres", *statements)
    return App(begun)


def test_an_app_that_names_no_login_has_what_it_always_had(app: App) -> None:
    made = ["made role links", "set the password of links", "made database links", "closed links to other roles"]
    assert app.ensure(FIRST, OWNER) == (made, [])
    assert "+" not in access_file(app.world.directory).read_text()
    assert app.ensure(FIRST, OWNER, careful=True) == ([], [])
    assert app.retire(FIRST, OWNER) == []
    assert app.takes(FIRST, OWNER)


def test_a_database_of_today_rotates(app: App) -> None:
    """Its one role logs in; afterwards it owns, and another one logs in."""
    app.ensure(FIRST, OWNER)
    app.says(FIRST, "CREATE TABLE one (id int)", login=OWNER)
    new = login_of(OWNER, SECOND)

    assert app.ensure(SECOND, careful=True) == ([f"made login {new}", f"set the password of {new}"], [OWNER])
    assert "local links links scram-sha-256\nlocal links +links scram" in access_file(app.world.directory).read_text()
    assert app.takes(FIRST, OWNER)
    assert app.takes(SECOND)
    app.says(SECOND, "CREATE TABLE two (id int)", "INSERT INTO one VALUES (1)")
    assert app.ask("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", OWNER) == [[OWNER]]

    assert app.retire(SECOND) == ["took away links"]
    assert not app.takes(FIRST, OWNER)
    assert app.takes(SECOND)
    assert app.ensure(SECOND) == ([], [])
    assert app.retire(SECOND) == []


def test_the_next_rotation_drops_the_login_of_the_last(app: App) -> None:
    app.names.append("links_more")
    app.ensure(FIRST)
    app.ensure(SECOND)
    assert app.takes(FIRST)
    for database in app.names:
        # Not as the owner: what it makes then is its own.
        app.says(FIRST, "SET ROLE NONE", "CREATE SCHEMA own", "CREATE TABLE own.t (id int)", database=database)
        assert app.ask("SELECT tableowner FROM pg_tables WHERE tablename = 't'", database) == [[login_of(OWNER, FIRST)]]
    assert app.retire(SECOND) == [f"took away {login_of(OWNER, FIRST)}"]
    for database in app.names:
        assert app.ask("SELECT tableowner FROM pg_tables WHERE tablename = 't'", database) == [[OWNER]]
        assert app.says(SECOND, "SELECT count(*) FROM own.t", database=database) == "0"
    assert app.ask("SELECT rolname FROM pg_roles WHERE rolname ~ '^links_'") == [[login_of(OWNER, SECOND)]]


def test_a_password_that_came_meanwhile_takes_both_away(app: App) -> None:
    for password in (FIRST, SECOND, THIRD):
        app.ensure(password)
        assert app.takes(password)
    app.retire(THIRD)
    assert [login for (login,) in app.ask("SELECT rolname FROM pg_roles WHERE rolname ~ '^links' ORDER BY 1")] == [
        OWNER,
        login_of(OWNER, THIRD),
    ]
    assert app.takes(THIRD)


def test_a_rotation_is_taken_back_by_the_former_password(app: App) -> None:
    app.ensure(FIRST, OWNER)
    app.ensure(SECOND)
    app.retire(SECOND)
    assert app.ensure(FIRST, OWNER)[0] == ["let links log in", "set the password of links"]
    assert app.takes(SECOND)
    assert app.retire(FIRST, OWNER) == [f"took away {login_of(OWNER, SECOND)}"]
    assert app.takes(FIRST, OWNER)


@pytest.mark.parametrize("login", [OWNER, "links_always"])
def test_who_has_one_name_is_told_of_the_gap(app: App, login: str) -> None:
    app.ensure(FIRST, login, careful=True)
    with pytest.raises(
        AccessError,
        match=rf"nothing was changed in the database server: {login} has another password.*docs/rotation\.md",
    ):
        app.ensure(SECOND, login, careful=True)
    assert app.takes(FIRST, login)
    assert app.ensure(SECOND, login)[0] == [f"set the password of {login}"]
    assert app.takes(SECOND, login)


def test_what_uses_a_former_login_keeps_it(app: App) -> None:
    app.ensure(FIRST, OWNER)
    command = [binary("psql"), "-Xqw", "-h", str(app.world.real.directory), "-U", OWNER, OWNER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PGPASSWORD": FIRST}, text=True
    ) as session:
        assert session.stdin
        assert session.stdout
        session.stdin.write("SELECT 'here';\n")
        session.stdin.flush()
        session.stdout.readline()
        app.ensure(SECOND)
        with pytest.raises(AccessError, match="nothing was taken away.*1 as links from the host itself"):
            app.retire(SECOND)
        assert app.takes(FIRST, OWNER)
        session.stdin.close()
    app.retire(SECOND, wait=30)
    assert not app.takes(FIRST, OWNER)


def test_nothing_is_taken_away_before_the_app_can_come_by_the_new_name(app: App) -> None:
    app.ensure(FIRST, OWNER)
    with pytest.raises(AccessError, match=r"nothing was taken away: links_\w+ cannot log in itself"):
        app.retire(SECOND)
    assert app.takes(FIRST, OWNER)


def test_a_role_of_somebody_s_own_is_not_touched(app: App) -> None:
    app.ensure(FIRST, OWNER)
    app.ask('CREATE ROLE links_analyst LOGIN IN ROLE "links"')
    app.ensure(SECOND)
    app.retire(SECOND)
    assert app.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'links_analyst'") == [["t"]]
    text = access_file(app.world.directory).read_text()
    with pytest.raises(AccessError, match="a role links_analyst already, which was not made as a login of links"):
        app.ensure(THIRD, "links_analyst")
    assert access_file(app.world.directory).read_text() == text
    named: dict[str, Any] = {"databases": {OWNER: {"login": "links_analyst"}}, "passwords": {OWNER: THIRD}}
    with pytest.raises(AccessError, match="a role links_analyst already"):
        app.world.run("make", OWNER, **named)  # as where the server did not run before


def cuts(world: World, act: Callable[[Server], object]) -> Iterator[int]:
    """A run that ends before each question to the server in its turn, until one asks no more than that."""
    for number in range(1, 50):
        asked = 0

        def counting(*words: Any, last: int = number, **more: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == last:
                raise Cut
            return run(*words, **more)

        try:
            act(Server(world.real.superuser, run=counting))
        except Cut:
            yield number
        else:
            return
    pytest.fail("it does not end")


def test_a_login_comes_wherever_that_was_cut(app: App) -> None:
    app.ensure(FIRST, OWNER)
    file, new = access_file(app.world.directory), login_of(OWNER, SECOND)
    before = file.read_text()

    def from_the_start(server: Server) -> None:
        file.write_text(before)
        app.ask(f"DROP ROLE IF EXISTS {new}")
        app.ensure(SECOND, careful=True, server=server)

    seen = 0
    for seen in cuts(app.world, from_the_start):
        assert app.takes(FIRST, OWNER), f"what serves goes on (cut {seen})"
        app.ensure(SECOND, careful=True)
        assert app.takes(SECOND)
    assert seen >= 6


def test_former_ones_go_wherever_that_was_cut(app: App) -> None:
    """The owner itself, and a login that owns something."""
    app.ensure(SECOND)
    first, server = login_of(OWNER, FIRST), app.world.server

    def from_the_start(cutting: Server) -> None:
        made = member(first, OWNER) if app.ask(f"SELECT to_regrole('{first}')") == [] else ()
        server.sql("postgres", *made, *(f"ALTER ROLE {name} LOGIN PASSWORD 'x'" for name in (OWNER, first)))
        server.sql(OWNER, "DROP SCHEMA IF EXISTS own", f"CREATE SCHEMA own AUTHORIZATION {first}")
        app.retire(SECOND, server=cutting)

    seen = 0
    for seen in cuts(app.world, from_the_start):
        assert app.takes(SECOND), f"what serves goes on (cut {seen})"
        assert app.ensure(SECOND, careful=True)[0] == []
        app.retire(SECOND)
        left = app.ask("SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname ~ '^links' ORDER BY 1")
        assert left == [[OWNER, "f"], [login_of(OWNER, SECOND), "t"]]
    assert seen >= 5


def test_a_check_run_takes_nothing_away(app: App) -> None:
    app.ensure(FIRST, OWNER)
    app.ensure(SECOND)
    options: dict[str, Any] = {"databases": {OWNER: {"login": login_of(OWNER, SECOND)}}}
    assert app.world.run("retire", OWNER, check=True, **options)["said"] == ["took away links"]
    assert app.takes(FIRST, OWNER)
