"""Apps that know nothing of each other in one real server: what each has, and that no other one comes to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import run
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import AccessError
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file

from tests.app.conftest import until
from tests.integration.postgres.world import SHOP, World, started

TILES = "tiles:pass\\word'0123"


@pytest.fixture(scope="module")
def begun() -> Iterator[World]:
    with started() as found:
        yield found


@pytest.fixture
def world(begun: World) -> World:
    """A server in which `shop` has its database; what other tests made is under names that this one does not use."""
    files = [access_file(begun.directory), begun.directory / "server.json"]
    if not begun.kept:
        files[0].unlink()
        files[1].unlink()
        made = ["made role shop", "set the password of shop", "made database shop", "closed shop to other roles"]
        assert begun.provision("shop") == made
        begun.kept = {file: file.read_text() for file in files}
    for file, text in begun.kept.items():
        file.write_text(text)
    return begun


def test_no_app_comes_to_another_one_s_database(world: World) -> None:
    assert world.comes_in("shop", "shop", SHOP)
    world.provision("tiles", TILES)
    for user, password, other in (("shop", SHOP, "tiles"), ("tiles", TILES, "shop")):
        assert world.comes_in(user, user, password), "to its own"
        assert "no pg_hba.conf entry" in world.login(other, user, password).stderr
        assert not world.comes_in("postgres", user, password)
        assert not world.comes_in(user, user, password + "x")


def test_not_even_where_the_file_would_let_it_in(world: World) -> None:
    """The server itself refuses, so that one line by hand too much opens no database."""
    world.provision("tiles", TILES)
    file = access_file(world.directory)
    file.write_text(file.read_text() + "local all all scram-sha-256\n")
    world.server.sql("postgres", "SELECT pg_reload_conf()")
    until(lambda: world.comes_in("postgres", "shop", SHOP), "the line is read")
    for user, password, other in (("shop", SHOP, "tiles"), ("tiles", TILES, "shop")):
        assert "permission denied for database" in world.login(other, user, password).stderr


# What an owner of a database could try to get the server, its host, or what others have there.
COMMANDS = """COPY (SELECT 1) TO PROGRAM 'id'
COPY (SELECT 1) TO '/tmp/out'
CREATE TABLE files (line text); COPY files FROM '/etc/passwd'
SELECT pg_read_file('/etc/passwd')
SELECT pg_ls_dir('.')
SELECT lo_import('/etc/passwd')
SELECT lo_export(lo_create(0), '/tmp/out')
SELECT * FROM pg_authid
SELECT * FROM pg_hba_file_rules
ALTER SYSTEM SET archive_command = 'id'
SET session_preload_libraries = 'x'
LOAD '/tmp/x.so'
CREATE FUNCTION run(cstring) RETURNS int AS 'libc.so.6', 'system' LANGUAGE c
CREATE EXTENSION file_fdw
CREATE EXTENSION dblink
CREATE ROLE mine LOGIN SUPERUSER
ALTER ROLE shop SUPERUSER
ALTER ROLE postgres PASSWORD 'mine'
ALTER ROLE tiles PASSWORD 'mine'
SET ROLE postgres
SET ROLE tiles
SET SESSION AUTHORIZATION tiles
GRANT tiles TO shop
GRANT pg_execute_server_program TO shop
CREATE DATABASE mine
DROP DATABASE tiles
ALTER DATABASE tiles OWNER TO shop
SELECT pg_reload_conf()
SELECT pg_switch_wal()
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
CREATE PUBLICATION all_of_it FOR ALL TABLES
SELECT pg_create_physical_replication_slot('mine')"""
DENIED = re.compile(r"ERROR: .*(permission denied|must be (a )?\w+|must have|is not allowed|[Oo]nly roles with)")


@pytest.mark.parametrize("statement", COMMANDS.splitlines())
def test_who_has_an_app_s_database_has_neither_the_server_nor_what_others_have(world: World, statement: str) -> None:
    if "tiles" not in world.databases():
        world.provision("tiles", TILES)
    said = world.login("shop", "shop", SHOP, *statement.split("; ")).stderr
    assert DENIED.search(said), said


def test_one_s_provisioning_leaves_the_other_s_alone(world: World) -> None:
    world.provision("tiles", TILES)
    everything = (
        "SELECT rolname, rolpassword FROM pg_authid UNION ALL SELECT datname, datacl::text FROM pg_database ORDER BY 1"
    )
    before, text = world.server.sql("postgres", everything), access_file(world.directory).read_text()
    for app, password in (("shop", SHOP), ("tiles", TILES), ("shop", SHOP)):
        assert not world.run("admit", app)["changed"]
        assert not world.run("make", app, passwords={app: password})["changed"]
    assert world.server.sql("postgres", everything) == before
    assert access_file(world.directory).read_text() == text
    assert world.provision("tiles", "another-password-1") == ["set the password of tiles"]
    assert world.comes_in("shop", "shop", SHOP)
    assert world.comes_in("tiles", "tiles", "another-password-1")


def test_an_app_has_several(world: World) -> None:
    databases = {"shop": {}, "stock": {"user": "shop"}, "stats": {}}
    said = world.provision("shop", databases=databases)
    assert [one for one in said if one.startswith("made")] == [
        "made role stats",
        "made database stock",
        "made database stats",
    ]
    assert world.comes_in("stock", "shop", SHOP)
    assert not world.comes_in("stats", "shop", SHOP)
    assert not world.run("make", "shop", passwords={"shop": SHOP}, databases={"shop": {}})["changed"], (
        "what is not named stays"
    )


def test_the_superuser_makes_extensions_with_what_they_need(world: World) -> None:
    named = {"shop": {"extensions": ["pageinspect", "earthdistance"]}}
    assert world.provision("shop", databases=named) == [
        "made extension pageinspect in shop",
        "made extension earthdistance in shop",
    ]
    assert world.server.sql("shop", "SELECT count(*) FROM pg_extension WHERE extname = 'cube'") == [["1"]]
    assert world.provision("shop", databases=named) == []
    words = "SELECT has_database_privilege('shop', 'shop', 'CREATE'), rolsuper FROM pg_roles WHERE rolname = 'shop'"
    assert world.server.sql("shop", words) == [["t", "f"]]


@pytest.mark.parametrize("operation", ["admit", "make"])
def test_an_unknown_extension_is_refused_with_those_that_there_are(world: World, operation: str) -> None:
    named = {"shop": {}, "geo": {"extensions": ["postgi", "pg_trgm"]}}
    with pytest.raises(AccessError, match=r"no extension postgi; it has: .*pg_trgm.*uuid-ossp") as refused:
        world.run(operation, "shop", databases=named, passwords={"geo": TILES})
    assert str(refused.value).startswith("nothing was changed in the database server: ")
    assert "geo" not in world.databases()


def test_what_is_another_app_s_is_refused_before_anything_is_changed(world: World) -> None:
    text = access_file(world.directory).read_text()
    with pytest.raises(AccessError, match="database shop of this server is shop's"):
        world.run("admit", "tiles", databases={"tiles": {}, "shop": {"user": "tiles"}})
    with pytest.raises(AccessError, match="role shop of this server is shop's"):
        world.run("admit", "tiles", databases={"tiles": {"user": "shop"}})
    assert access_file(world.directory).read_text() == text


def test_what_no_app_has_and_somebody_made_is_refused(world: World) -> None:
    world.server.sql("postgres", "CREATE ROLE boss SUPERUSER", "CREATE ROLE maker", "CREATE DATABASE made OWNER maker")
    for named, said in (
        ({"made": {"user": "tiles"}}, "a database made already, .* which is maker's"),
        ({"tiles": {"user": "maker"}}, "a role maker already"),
        ({"tiles": {"user": "boss"}}, "boss is a superuser"),
    ):
        with pytest.raises(AccessError, match=said):
            world.run("admit", "tiles", databases=named)
    assert world.provision("tiles", TILES, databases={"made": {"user": "maker"}}) == [
        "let maker log in",
        "set the password of maker",
        "closed made to other roles",
    ], "that is how it is taken over"
    world.server.sql("postgres", "CREATE DATABASE raw")
    with pytest.raises(AccessError, match=r"a database raw already, .* which is postgres's") as refused:
        world.run("admit", "raw")
    world.server.sql("postgres", statements(refused))
    assert world.provision("raw", TILES) == ["let raw log in", "set the password of raw", "closed raw to other roles"]
    assert world.comes_in("made", "maker", TILES)


@pytest.mark.parametrize("operation", ["admit", "make"])
def test_a_database_that_somebody_made_anew_is_refused_and_goes_on_working(world: World, operation: str) -> None:
    app = f"anew_{operation}"
    world.provision(app, TILES)
    world.server.sql("postgres", f"DROP DATABASE {app}", f"CREATE DATABASE {app}")
    with pytest.raises(AccessError, match=rf"database {app} of the server is postgres's") as refused:
        world.run(operation, app, passwords={app: TILES})
    assert world.comes_in(app, app, TILES)
    world.server.sql("postgres", statements(refused))
    assert world.provision(app, TILES) == [f"closed {app} to other roles"]
    assert world.comes_in(app, app, TILES)


@pytest.mark.parametrize("there", [False, True], ids=["a new role", "a role that is there"])
def test_another_user_of_a_database_is_refused_with_how_it_gets_it(world: World, there: bool) -> None:
    app, user = ("moving", "mover") if not there else ("parting", "parter")
    world.provision(app, TILES, databases={app: {}, **({f"{app}2": {"user": user}} if there else {})})
    world.server.sql(app, f"SET ROLE {app}", "CREATE TABLE place AS SELECT 7 AS height")
    named = {app: {"user": user}}
    with pytest.raises(AccessError, match=rf"database {app} of the server is {app}'s, and {user} could not") as refused:
        world.run("admit", app, databases=named)
    assert world.comes_in(app, app, TILES)
    world.server.sql("postgres", statements(refused))
    assert world.provision(app, TILES, databases=named) == []
    assert world.comes_in(app, user, TILES)
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'place'"
    assert world.server.sql(app, owner) == [[user if not there else app]]


def statements(refused: pytest.ExceptionInfo[AccessError]) -> str:
    """What a refusal says that the server's superuser is to do."""
    return str(refused.value).partition("as the server's superuser: ")[2]


def test_what_was_not_seen_while_the_server_was_down_is_seen_before_anything_is_made(world: World) -> None:
    world.server.sql("postgres", "CREATE ROLE chief SUPERUSER PASSWORD 'x'", "CREATE ROLE hand", "CREATE DATABASE laid")
    roles = "SELECT rolname, rolcanlogin, rolpassword FROM pg_authid ORDER BY 1"
    before = world.server.sql("postgres", roles)
    for named, said in (
        ({"fresh": {"user": "chief"}}, "chief is a superuser"),
        ({"laid": {"user": "hand"}}, "database laid of the server is postgres's"),
    ):
        (user,) = [one["user"] for one in named.values()]
        world.run("admit", "fresh", databases=named, server=Server(("false",)))
        with pytest.raises(AccessError, match=rf"^nothing was changed in the database server: {said}"):
            world.run("make", "fresh", databases=named, passwords={user: TILES})
    assert world.server.sql("postgres", roles) == before
    assert "fresh" not in world.databases()


def test_a_byte_that_is_no_text_is_named_with_its_line(world: World) -> None:
    file = access_file(world.directory)
    text = file.read_bytes() + "# für den Laden\n".encode("latin-1")
    file.write_bytes(text)
    with pytest.raises(AccessError, match=rf"line {text.count(10)} of {file} has a byte that is no UTF-8, 0xfc"):
        world.run("admit", "shop")
    assert file.read_bytes() == text


def test_other_settings_of_the_server_are_refused_by_the_app_that_was_first(world: World) -> None:
    more = {"postgres_max_connections": 200}
    with pytest.raises(AccessError, match=r"are those of shop.*postgres_max_connections \(there 100, here 200\)"):
        world.run("admit", "tiles", settings=more)
    assert not world.run("admit", "tiles", settings=more, shared_settings="keep")["takes"]
    assert world.run("admit", "shop", settings=more)["takes"]
    world.run("admit", "tiles", shared_settings="keep")
    with pytest.raises(AccessError, match="database server of this host is native's and serves tiles too"):
        world.run("admit", "shop", provider="compose")


def test_a_check_run_tells_and_changes_nothing(world: World) -> None:
    text = access_file(world.directory).read_text()
    options: dict[str, Any] = {"databases": {"later": {"extensions": ["pg_trgm"]}}}
    assert world.run("admit", "later", check=True, **options)["changed"]
    assert world.run("make", "later", check=True, passwords={"later": TILES}, **options)["said"] == [
        "made role later",
        "set the password of later",
        "made database later",
        "closed later to other roles",
        "made extension pg_trgm in later",
    ]
    assert access_file(world.directory).read_text() == text
    assert "later" not in world.databases()
    fresh = world.run("make", "later", check=True, server=Server(("false",)))
    assert fresh["said"] == ["make database later"], "there is no server yet"
    assert not world.run("make", "shop", check=True, passwords={"shop": SHOP})["changed"]


def test_a_server_of_an_earlier_version_is_taken_over_as_it_is(world: World) -> None:
    """Its app is asked for nothing: the file had one line, the password is set, and everybody could connect."""
    file = access_file(world.directory)
    file.write_text("local all postgres peer\nlocal shop shop scram-sha-256\n")
    (world.directory / "server.json").unlink()
    world.server.sql("postgres", "GRANT CONNECT, TEMPORARY ON DATABASE shop TO PUBLIC")
    assert world.run("admit", "tiles")["takes"] is False, "it has the settings of the app that was there"
    assert world.run("admit", "shop")["takes"]
    assert world.run("make", "shop", passwords={"shop": SHOP})["said"] == ["closed shop to other roles"]
    assert world.comes_in("shop", "shop", SHOP)


def test_an_app_of_an_earlier_version_moves_to_the_other_provider(world: World) -> None:
    """It is alone in the former server, whose file has no name of it; a part of another app is in the way."""
    file = access_file(world.directory)
    (world.directory / "server.json").unlink()
    for rest, others in (("", False), ("host tiles tiles all scram-sha-256\n", True)):
        file.write_text(f"local all postgres peer\nhost shop shop all scram-sha-256\n{rest}")
        if others:
            with pytest.raises(AccessError, match="is compose's and serves an app without a name too"):
                world.run("admit", "shop", check=True)
        else:
            assert world.run("admit", "shop", check=True)["takes"]


def test_the_superuser_of_an_image_loses_its_password(world: World) -> None:
    world.server.sql("postgres", "ALTER ROLE postgres PASSWORD 'x'")
    options: dict[str, Any] = {"provider": "compose", "passwords": {"shop": SHOP}}
    assert world.run("make", "shop", **options)["said"] == ["took the password of postgres away"]
    assert world.run("make", "shop", **options)["said"] == []


def test_no_password_is_in_a_command_or_in_the_server_s_log(world: World) -> None:
    commands: list[str] = []

    def watched(words: Any, *rest: Any, **more: Any) -> Any:
        commands.append(" ".join(words))
        return run(words, *rest, **more)

    server = Server(world.real.superuser, run=watched)
    world.provision("quiet", TILES)
    world.run("make", "quiet", server=server, passwords={"quiet": "planted-password-9"})
    assert world.comes_in("quiet", "quiet", "planted-password-9")
    assert commands
    assert not any("planted" in words or "SCRAM" in words for words in commands)


def test_one_of_them_is_restored_and_all_come_to_what_is_theirs(world: World, tmp_path: Path) -> None:
    world.provision("maps", TILES, databases={"maps": {"extensions": ["pageinspect"]}})
    world.server.sql("shop", "CREATE TABLE IF NOT EXISTS sold AS SELECT 1 AS piece")
    (saved,) = [database for database in world.server.databases() if database.name == "maps"]
    world.server.sql("maps", "SET ROLE maps", "CREATE TABLE place AS SELECT 7 AS height")
    counted = world.server.dump(saved, tmp_path / saved.file)
    world.server.sql("maps", "DROP TABLE place")
    world.server.make(counted, "slipway_restoring_maps")
    world.server.fill("slipway_restoring_maps", tmp_path / saved.file)
    world.server.swap([("maps", "slipway_restoring_maps", "slipway_before_maps")])
    assert world.server.sql("maps", "SELECT height FROM place") == [["7"]]
    assert world.server.sql("shop", "SELECT count(*) FROM sold") == [["1"]]
    assert world.comes_in("maps", "maps", TILES)
    assert world.comes_in("shop", "shop", SHOP)
    assert not world.comes_in("maps", "shop", SHOP)
    options: dict[str, Any] = {"databases": {"maps": {"extensions": ["pageinspect"]}}}
    assert world.provision("maps", TILES, **options) == [], "it is as the role makes it"
