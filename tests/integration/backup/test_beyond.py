"""A drill and a rehearsal of the app's host on the newest set of another one, which has the database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import beyond, cache, drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.likeness import Likeness, having, likeness_from
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    EMPTY,
    GATE,
    REFUSED,
    BackupError,
)
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.backup.rehearsing import rehearse
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import GLOBALS, Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.backup.scratch import Abroad, Scratch
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage, Unfit

from tests import real_postgres
from tests.app.conftest import binary
from tests.unit.backup.memory import Aside, Databases, Started, host

LATER, EARLIER = "2099-01-01T00:00:00+00:00", "2000-01-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "twins", lambda *_: nullcontext())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those of PostgreSQL on the app's host."""
    place = tmp_path / "programs"
    (place / "17/bin").mkdir(parents=True)
    (place / "17/bin/initdb").touch()
    monkeypatch.setattr(beyond, "PROGRAMS", place)
    return place


@pytest.fixture
def data(tmp_path: Path) -> Host:
    made, _ = host(tmp_path / "data", Databases(postgres={}, links={"t": ["a", "b"]}), "db1")
    save(made, "timer")
    return made


@pytest.fixture
def web(tmp_path: Path, programs: Path) -> Host:
    made, _ = host(tmp_path / "web", name="web1")
    save(made, "timer")
    records(made, {"release": "r1", "start": EARLIER})
    return made


def records(web: Host, *entries: dict[str, Any]) -> None:
    lines = (json.dumps({"result": "good", "end": one["start"], **one}) for one in entries)
    (web.settings.apps / "links/ledger.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_the_release_passes_its_gate_on_the_databases_of_the_other_host(web: Host, data: Host) -> None:
    start, made, asked = Started(), Aside(), list[Any]()

    def scratch(live: Any, provider: str) -> Aside:
        asked.extend((live.likeness(), provider))
        return made

    proof = drill.drill(web, scratch=scratch, start=start, source=data)
    (found,) = proof["releases"]
    assert (found["app"], found["release"], found["unproven"], proof["unproven"]) == ("links", "r1", "", "")
    newest = data.restic.find()
    manifest = data.manifest(newest)
    assert proof["of"] == {"host": "db1", "set": newest.short, "time": manifest.time, "rows": 2}
    assert made.server.have["links"] == {"t": ["a", "b"]}
    assert "NOLOGIN" not in "".join(made.server.scripts), "the logins of the set are good"
    assert start.place == web.settings.scratch, "with what its own set has in place of volumes"
    assert asked == [Likeness("native", 17, "6543", ("10.0.0.20",), names=("db1",)), "native"]
    assert web.records.read()["proven"] == proof
    assert web.records.read()["drills"][-1]["of"] == proof["of"]
    assert not web.settings.scratch.exists()


def test_one_that_does_not_pass_fails_with_both_sets_named(web: Host, data: Host) -> None:
    with pytest.raises(BackupError) as caught:
        drill.drill(web, scratch=lambda *_: Aside(), start=Started({"r1": "answers 503"}), source=data)
    own, other = web.restic.find().short, data.restic.find().short
    assert caught.value.fault == GATE
    assert str(caught.value).startswith(
        f"set {own} of 2026-01-01T00:00 is not proven: with set {other} of db1: release r1"
    )
    assert "proven" not in web.records.read()


def test_a_password_of_after_the_set_is_no_fault_of_it(web: Host, data: Host) -> None:
    made = Aside()
    made.away = 'password authentication failed for user "links_2"'
    (found,) = drill.drill(web, scratch=lambda *_: made, start=Started({"r1": "answers 503"}), source=data)["releases"]
    assert "by a login that set" in found["unproven"]
    assert 'user "links_2"' in found["unproven"]


@pytest.mark.parametrize(
    ("entries", "asked"),
    [
        ([{"release": "r1", "start": EARLIER}], "r1"),
        ([{"release": "r0", "start": EARLIER}, {"release": "r1", "start": LATER}], "r1"),
        (
            [
                {"release": "r0", "start": EARLIER, "migration": "0003"},
                {"release": "r1", "start": LATER, "migration": "0004"},
            ],
            "r0",
        ),
        ([{"release": "r1", "start": LATER}], "r1"),
    ],
    ids=["it served then", "no other schema", "another schema", "nobody knows"],
)
def test_the_release_is_one_that_suits_the_set(
    web: Host, data: Host, entries: list[dict[str, Any]], asked: str
) -> None:
    records(web, *entries)
    start = Started()
    drill.drill(web, scratch=lambda *_: Aside(), start=start, source=data)
    assert start.asked == [asked]


def test_where_nobody_knows_what_served_then_a_refusal_proves_nothing(web: Host, data: Host) -> None:
    records(web, {"release": "r1", "start": LATER})
    start = Started({"r1": "answers 503"})
    (found,) = drill.drill(web, scratch=lambda *_: Aside(), start=start, source=data)["releases"]
    assert "no release is known that served here when db1 made it" in found["unproven"]
    assert "answers 503" in found["unproven"]


def test_a_host_with_a_database_of_its_own_needs_no_other(data: Host, web: Host) -> None:
    with pytest.raises(BackupError, match="db1 backs a database up itself") as caught:
        drill.drill(data, source=web)
    assert caught.value.fault == REFUSED


def test_a_set_that_is_not_there_is_named(web: Host, tmp_path: Path) -> None:
    nobody, _ = host(tmp_path / "nobody", name="db9")
    with pytest.raises(BackupError, match="is not proven: with the newest set of db9: no set") as caught:
        drill.drill(web, start=Started(), source=nobody)
    assert caught.value.fault == EMPTY


def without_docker(words: Sequence[str], *_: Any) -> Ran:
    raise CommandError(f"{words[0]} is not there")


def test_a_host_that_cannot_have_such_a_server_says_what_it_lacks(web: Host, data: Host, programs: Path) -> None:
    manifest = data.manifest(data.restic.find())
    shutil.rmtree(programs)
    proof = drill.drill(web, start=Started(), source=data)
    assert "this host has not the programs of PostgreSQL 17 (package postgresql-17)" in proof["unproven"]
    assert proof["of"] is None
    contained = replace(manifest, server={**manifest.server, "provider": "compose", "named": "postgres:17.6"})
    with pytest.raises(Unfit, match=r"has not the image postgres:17\.6 nor the programs of PostgreSQL 17"):
        beyond.server_for(data, contained, without_docker)
    with pytest.raises(Unfit, match="is of before this version"):
        beyond.server_for(data, replace(manifest, server={}))


def test_an_image_is_pulled_where_it_is_not_there() -> None:
    asked: list[str] = []

    def run(words: Sequence[str], *_: Any) -> Ran:
        asked.append(words[1])
        return Ran((), int(asked == ["image"]), "sha256:abc\n", "")

    assert having("postgres:17.6", run) == "sha256:abc"
    assert asked == ["image", "pull", "image"]


def test_a_server_that_stands_in_is_found_where_the_other_is(data: Host) -> None:
    manifest = data.manifest(data.restic.find())
    server = {**manifest.server, "provider": "compose", "named": "postgres:17.6", "published": "6543", "lacks": "no"}
    found, provider = beyond.server_for(data, replace(manifest, server=server), lambda *_: Ran((), 0, "sha256:abc", ""))
    assert provider == "compose"
    assert (found.likeness().image, found.likeness().port, found.likeness().lacks) == ("sha256:abc", "6543", "")
    assert likeness_from({"provider": "native", "major": 17, "of later": 1}) == Likeness("native", 17)
    assert likeness_from({}) is None


REDIS = {
    "name": "redis",
    "root": "/opt/slipway/redis",
    "named": "redis:8",
    "user": "999:999",
    "memory": "100",
    "port": "6379",
    "words": ["redis-server", "/etc/slipway/redis.conf"],
    "binds": {"/opt/slipway/redis/config": "/etc/slipway"},
}


def test_caches_of_the_other_host_stand_in_where_they_are_published(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def run(words: Sequence[str], *_: Any) -> Ran:
        asked.append([*words])
        return Ran((), 0, "sha256:abc", "")

    stage = Stage("slipway-drill", "/run/netns/slipway-drill", server="slipway-drill")
    assert cache.stand_ins(stage, [REDIS], tmp_path, "db1", run) == ""
    started = asked[-1]
    assert started[started.index("--network") + 1] == "container:slipway-drill"
    assert started[started.index("--volume") + 1] == f"{tmp_path}/opt/slipway/redis/config:/etc/slipway:ro"
    assert started[-5:] == ["redis:8", "redis-server", "/etc/slipway/redis.conf", "--port", "6379"]


@pytest.mark.parametrize(
    ("stage", "known", "why"),
    [
        (Stage(namespace="/run/netns/drill"), REDIS, "no container can be started beside that server here"),
        (Stage("n", server="s"), {"name": "redis"}, "it runs in no container there"),
        (Stage("n", server="s"), REDIS, "this host has not the image redis:8"),
    ],
)
def test_a_cache_for_which_nothing_stands_in_is_named(tmp_path: Path, stage: Stage, known: Any, why: str) -> None:
    said = cache.stand_ins(stage, [known], tmp_path, "db1", without_docker)
    assert said == f"nothing stands in for redis of db1: {why}"


def test_a_rehearsal_takes_the_newest_set_of_the_other_host(web: Host, data: Host) -> None:
    made = Aside()
    made.server.shapes = [{"public.t": ("1", 0)}, {}, {"public.t": ("2", 0)}, {}]
    start = Started(ran=Ran((), 0, json.dumps({"migration": {"applied": ["0004"], "seconds": 1.5}}), ""))
    order = {"app": "links", "release": "r2", "command": ["migrate"], "timeout": 10, "set": "latest", "of": "db1"}
    told = rehearse(web, order, scratch=lambda *_: made, start=start, source=data)
    assert (told["set"], told["of"], told["applied"]) == (data.restic.find().short, "db1", ["0004"])
    assert start.asked == ["r2: migrate", "r1"], "and the release that serves is tried on what came of it"
    assert (told["refusal"], told["unproven"]) == ("", "")
    with pytest.raises(BackupError, match="the image of r2 is not here") as caught:
        rehearse(web, order, scratch=lambda *_: made, start=Started(unfit="the image of r2 is not here"), source=data)
    assert caught.value.fault == REFUSED


class Own(Scratch):
    """A drill's server in a directory and a network of the test."""

    NAME = f"slipway-test-{os.getpid()}"
    NAMESPACE = Path("/run/netns", NAME)


@pytest.fixture
def served() -> Iterator[real_postgres.Server]:
    """The server of the other host, with an app's login in it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # for PostgreSQL's own user
        server = real_postgres.Server(Path(name, "server"))
        try:
            yield with_login(server)
        finally:
            server.stop()


def with_login(server: real_postgres.Server) -> real_postgres.Server:
    for statement in (
        "CREATE ROLE links NOLOGIN; CREATE ROLE links_1 LOGIN PASSWORD 'a-password-0123456789' IN ROLE links",
        "COMMENT ON ROLE links_1 IS 'slipway login of links'",
        "CREATE DATABASE links OWNER links",
    ):
        server.sql(statement)
    server.sql("SET ROLE links; CREATE TABLE t AS SELECT 1 AS id", "links")
    return server


def test_real_a_release_finds_it_at_the_address_of_the_other_host(
    served: real_postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster in a network of its own, in which the other host's address and the app's own password are good."""
    live = Server(served.superuser)
    (database,) = [one for one in live.databases() if one.name == "links"]
    kept = live.dump(database, tmp_path / database.file)
    live.globals(tmp_path / GLOBALS)
    major = live.major()
    monkeypatch.setattr(Own, "CLUSTER", served.directory.parent / "drill")
    monkeypatch.setattr(Own, "_bin", lambda _: str(Path(binary("initdb")).parent))
    made = Own(Abroad("db1", Likeness("native", major, "6543", ("192.0.2.20",))), "native")
    psql = ("ip", "netns", "exec", Own.NAME, binary("psql"), "-XAtqw")
    url = "postgresql://links_1:{}@192.0.2.20:6543/links"
    with made as server:
        drill.have_roles(server, tmp_path, logins=True)
        server.make(replace(kept, collate="xx_XX.UTF-8", ctype="xx_XX.UTF-8"), "links")
        server.fill("links", tmp_path / database.file)
        assert server.count(kept, "links") == kept
        asked = [*psql, "-c", "SELECT count(*) FROM t", url.format("a-password-0123456789")]
        assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "1\n"
        assert made.turned_away() == ""
        wrong = [*psql, "-c", "SELECT 1", url.format("another-password")]
        assert subprocess.run(wrong, check=False, capture_output=True).returncode
        assert made.turned_away() == 'password authentication failed for user "links_1"'
    assert not Own.NAMESPACE.exists()
    assert not Own.CLUSTER.exists()
