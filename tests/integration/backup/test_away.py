"""A database that somebody else runs, reached with TLS by a role that is no superuser: dumped, proven and restored.

With a real PostgreSQL, a real restic, and the file by which the role has the server reached.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import away
from ansible_collections.slipway.fleet.plugins.module_utils.backup.away import Away
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import REFUSED, BackupError, Database, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.rehearsing import rehearse
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import Restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import MIGRATION, Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.backup.scratch import Scratch, StandInElsewhere

from lab.registry import Authority
from tests import real_postgres
from tests.app.conftest import binary, until
from tests.templates.rendering import Role

PASSWORD = "planted-secret-0123456789"
MADE = (
    "CREATE ROLE links LOGIN CREATEDB PASSWORD 'planted-secret-0123456789'",
    "CREATE ROLE reader; CREATE ROLE other LOGIN",
    "CREATE DATABASE links OWNER links",
    "CREATE DATABASE elses OWNER other",
    "GRANT pg_signal_backend TO links",
)
ROWS = "CREATE TABLE notes AS SELECT g AS id, md5(g::text) AS words FROM generate_series(1, 1000) g"
OWNED = ("GRANT SELECT ON notes TO reader", "SELECT lo_from_bytea(0, 'a large object')")


class World:
    """The server, and a host that backs one database of it up."""

    def __init__(self, place: Path, port: int) -> None:
        authority = Authority.make(place / "authority", "127.0.0.1")
        access = place / "pg_hba.conf"
        access.write_text("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        if real_postgres.AS_USER:
            shutil.chown(authority.key, "postgres")
        tls = {"ssl": "on", "ssl_cert_file": authority.certificate, "ssl_key_file": authority.key, "hba_file": access}
        own = [f"{name}={value}" for name, value in tls.items()]
        self.server = real_postgres.Server(place / "server", "listen_addresses=127.0.0.1", *own)
        for statement in MADE:
            self.server.sql(statement)
        for statement in (ROWS, *OWNED):
            self.server.sql(f"SET ROLE links; {statement}", "links")
        self.port, self.place, self.authority = port, place, authority.ca_file.read_text()
        self.settings = Settings(
            repository=str(place / "repository"),
            host="web1",
            database="elsewhere",
            elsewhere=("links",),
            files=place / "etc",
            place=place / "state",
            apps=place / "apps",
        )
        for directory in (self.settings.files, self.settings.place, self.settings.apps):
            directory.mkdir()
        (self.settings.files / "password").write_text("for-tests-only-password")
        self.reach()
        self.host = Host(self.settings, Restic(self.settings, cached=False))

    @contextmanager
    def session_of(self, role: str) -> Iterator[subprocess.Popen[bytes]]:
        """Somebody else in the database, who does nothing."""
        words = [
            binary("psql"),
            "-X",
            "-h",
            str(self.server.directory),
            "-U",
            role,
            "links",
            "-c",
            "SELECT pg_sleep(600)",
        ]
        session = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            asked = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'"  # noqa: S608 - the test's own
            until(lambda: self.server.sql(asked) == "1", "it is there")
            yield session
        finally:
            session.kill()
            session.wait()

    def reach(self, **changed: Any) -> None:
        """Write what the role writes for the host."""
        given = {"host": "127.0.0.1", "port": self.port, "user": "links", "password": PASSWORD, "databases": ["links"]}
        role = Role(
            "backup",
            backup_repository="/srv/sets",
            backup_password=PASSWORD,
            backup_database_elsewhere={**given, "authority": self.authority, **changed},
            inventory_hostname="web1",
        )
        files = {Path(entry["dest"]).name: entry for entry in role.value("__backup_files")}
        text = role.render("pg_service.j2").replace("/etc/slipway/backup/", f"{self.settings.files}/")
        (self.settings.files / away.SERVICE_FILE).write_text(text)
        (self.settings.files / "database_authority.pem").write_text(files["database_authority.pem"]["content"])
        assert (files[away.SERVICE_FILE]["mode"], files[away.SERVICE_FILE]["secret"]) == ("0400", True)
        told = json.loads(files["config.json"]["content"])
        assert (told["database"], told["elsewhere"], told["wal"]) == ("elsewhere", ["links"], False)


@contextmanager
def port() -> Iterator[int]:
    """One that is bound is given to nobody; the server, which reuses addresses as this does, listens at it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="pg") as there, port() as number:
        patch.setenv("PGPORT", str(number))
        Path(there).chmod(0o755)
        made = World(Path(there), number)
        try:
            yield made
        finally:
            made.server.stop()


class Own(Scratch):
    """A drill's server in a directory of the test."""


@pytest.fixture
def scratch(world: World, monkeypatch: pytest.MonkeyPatch) -> type[Scratch]:
    monkeypatch.setattr(Own, "CLUSTER", world.place / "drill")
    return Own


def counted(world: World) -> str:
    return world.server.sql("SELECT count(*), sum(id) FROM notes", "links")


def test_it_is_dumped_proven_and_restored(world: World, scratch: type[Scratch]) -> None:
    before = counted(world)
    made = save(world.host, MIGRATION)
    assert (made["databases"], made["rows"]) == (["links"], 1001), "the large object is one of them"
    assert world.host.live
    assert world.host.live.warnings == []

    proof = drill(world.host, scratch=scratch)
    assert (proof["set"], proof["rows"]) == (made["set"], 1001)
    assert proof["unproven"].startswith("the database is elsewhere")
    assert not (world.place / "drill").exists(), "nothing of the drill is left"

    world.server.sql("DELETE FROM notes WHERE id > 10", "links")
    world.server.sql("CREATE DATABASE slipway_restoring_others")
    restore = Restore(world.host, "latest", ["database:links"])
    assert (restore.plan()["impossible"], restore.plan()["names"]) == ("", ["links"])
    with world.session_of("other") as session:
        (done,) = restore.run("links")["restored"]
        assert session.wait(60), "it was ended, since its database got another name"
    assert counted(world) == before
    assert world.server.sql("SELECT has_table_privilege('reader', 'notes', 'SELECT')", "links") == "t"
    assert world.server.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'links'") == "links"
    assert done["kept"] in world.server.databases()
    assert "slipway_restoring_others" in world.server.databases(), "of somebody else on that server"


@pytest.mark.parametrize(("encoding", "plain"), [("UTF8", "C.UTF-8"), ("LATIN1", "C")])
def test_a_locale_that_this_host_has_not_keeps_nobody_from_the_proof(world: World, encoding: str, plain: str) -> None:
    """As a provider's en_US on a host that has none; it sorts texts, and is in no row."""
    server = StandInElsewhere(world.server.superuser)
    wanted = Database("links", "postgres", encoding, "xx_XX.UTF-8", "xx_XX.UTF-8", 0, provider="c")
    server.make(wanted, "slipway_restoring_elses")
    sorts = "SELECT datcollate, datctype FROM pg_database WHERE datname = 'slipway_restoring_elses'"
    assert world.server.sql(sorts) == f"{plain}|{plain}"
    server.drop("slipway_restoring_elses")


def test_a_table_that_another_role_keeps_to_itself_is_told(world: World, tmp_path: Path) -> None:
    world.server.sql("CREATE TABLE hidden (id int)", "links")
    try:
        live = Away(world.settings)
        with pytest.raises(BackupError, match="permission denied for table hidden"):
            live.dump(live.databases()[0], tmp_path / "dump")
    finally:
        world.server.sql("DROP TABLE hidden", "links")


def test_what_could_not_be_restored_in_its_place_is_told_beforehand(world: World) -> None:
    world.server.sql("ALTER ROLE links NOCREATEDB")
    try:
        host = Host(world.settings, world.host.restic)
        assert host.live
        assert host.live.databases()
        assert "say ALTER ROLE links CREATEDB" in host.live.warnings[0]
        with pytest.raises(
            BackupError, match="nothing was done: no database can be restored: links may make no"
        ) as caught:
            Restore(host, "latest", ["all"]).run("links")
        assert caught.value.fault == REFUSED
    finally:
        world.server.sql("ALTER ROLE links CREATEDB")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"authority": ""}, "certificate verify failed"),
        ({"host": "127.0.0.2"}, "Connection refused"),
        ({"password": "another-password"}, "password authentication failed"),
        ({"tls": "disable"}, "no encryption"),
    ],
    ids=["not its authority", "nobody there", "wrong password", "without TLS"],
)
def test_a_server_that_is_not_reached_as_it_should_be(world: World, changed: dict[str, str], said: str) -> None:
    world.reach(**changed)
    try:
        with pytest.raises(BackupError, match=said) as caught:
            Away(world.settings).databases()
        assert PASSWORD not in str(caught.value)
    finally:
        world.reach()


@pytest.mark.parametrize(
    ("version", "said"), [("", "no programs of PostgreSQL are in"), ("9", "programs of 9 at most")]
)
def test_programs_that_cannot_do_it_are_named(world: World, tmp_path: Path, version: str, said: str) -> None:
    live = Away(world.settings, programs=tmp_path)
    if version:
        (tmp_path / version).mkdir()
        (tmp_path / version / "bin").symlink_to(Path(binary("initdb")).parent)
        live = Away(world.settings, programs=tmp_path)
    with pytest.raises(BackupError, match=said):
        live.databases()


def test_later_programs_dump_and_do_not_restore(world: World, tmp_path: Path) -> None:
    (tmp_path / "99").mkdir()
    (tmp_path / "99" / "bin").symlink_to(Path(binary("initdb")).parent)
    live = Away(world.settings, programs=tmp_path)
    assert [database.name for database in live.databases()] == ["links"]
    assert "pg_restore of 99 writes what it does not read; install the package postgresql-" in live.warnings[0]


def test_a_database_that_is_not_there_is_named(world: World) -> None:
    missing = Settings(**{**vars(world.settings), "elsewhere": ("links", "maps")})
    with pytest.raises(BackupError, match="has no database maps to connect to"):
        Away(missing).databases()


def test_nothing_of_it_is_rehearsed_or_recovered(world: World) -> None:
    with pytest.raises(BackupError, match="a copy of a database that is elsewhere"):
        rehearse(world.host, {"app": "links"})
