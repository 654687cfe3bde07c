"""Points in time with a PostgreSQL and a restic that are real: rows before and after a time, gaps, and what is away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, wal
from ansible_collections.slipway.fleet.plugins.module_utils.backup.archive import Repository
from ansible_collections.slipway.fleet.plugins.module_utils.backup.base import make_base
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import FAILED, REFUSED, BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.pointing import PointRestore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.points import gaps, moment, spans, stale, ways
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.backup.records import now
from ansible_collections.slipway.fleet.plugins.module_utils.backup.recovering import Recovered
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import Restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host

from tests import real_postgres

ROWS = "SELECT string_agg(what, ' ' ORDER BY id) FROM notes"


class World:
    """A host with a server and a repository of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.server = real_postgres.Server(place / "live")
        self.live = Server(self.server.superuser)
        settings = Settings(
            repository=str(place / "repository"),
            host="h",
            database="native",
            files=place / "etc",
            place=place / "state",
            apps=place / "apps",
            wal=True,
        )
        for directory in (settings.files, settings.place, settings.apps):
            directory.mkdir()
        (settings.files / "password").write_text("for-tests-only-password")
        self.host = Host(settings, Restic(settings, cached=False), self.live)
        self.archive = Repository(settings, self.host.restic)
        self.log = wal.Log(self.live)
        self.ordered: list[str] = []

    def keep(self) -> dict[str, Any]:
        return wal.keep(self.host, self.archive, self.log, lambda: self.ordered.append("base"))

    def reach(self, at: str) -> dict[str, Any]:
        """Keep the log, in a later second than that time."""
        while now() <= at[:19] + "Z":
            time.sleep(0.02)
        return self.keep()

    def base(self) -> None:
        make_base(self.host, self.archive, self.log, fast=True)

    def note(self, what: str) -> str:
        """Write a row; returns a time after it, before anything that comes next."""
        self.server.sql(f"INSERT INTO notes (what) VALUES ('{what}')", "links")  # noqa: S608 - words of the tests
        time.sleep(0.02)
        at = datetime.now(UTC).isoformat()
        time.sleep(0.02)
        return at

    def restore(self, at: str, parts: tuple[str, ...] = ("database:links",), confirm: str = "links") -> dict[str, Any]:
        return self.point(at, parts).run(confirm, safety=False)

    def point(self, at: str, parts: tuple[str, ...] = ("database:links",)) -> PointRestore:
        return PointRestore(self.host, self.archive, at, parts, recover=OfTests)

    def rows(self) -> str:
        return self.server.sql(ROWS, "links")


class OfTests(Recovered):
    """Run by whoever runs the tests."""

    AS_OWNER = real_postgres.AS_USER
    OWNER = "postgres:" if real_postgres.AS_USER else ":"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.root = arguments[2].place.parent / "point"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        made = World(Path(directory))
        try:
            made.server.sql("CREATE DATABASE links")
            made.server.sql("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, what text)", "links")
            yield made
        finally:
            made.server.stop()


def test_a_first_time_that_fails_does_not_wait_for_a_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as starting:
        starting.setattr(world.log, "look", lambda: (_ for _ in ()).throw(BackupError(FAILED, "it is starting up")))
        with pytest.raises(BackupError, match="it is starting up"):
            world.keep()
    assert world.keep()["error"] is None, "it makes the repository"
    (world.host.settings.place / "wal.json").unlink()
    world.ordered.clear()


def test_rows_before_a_time_come_back_and_those_after_it_do_not(world: World) -> None:
    assert world.keep()["reach"] == []
    assert world.ordered == ["base"], "the log leads nowhere without one"
    world.note("first")
    world.base()
    second = world.note("second")
    world.note("third")
    told = world.reach(second)
    assert told["follows"]
    done = world.restore(second)
    assert world.rows() == "first second"
    assert done["restored"][0]["rows"] == 2


def test_a_drill_recovers_the_newest_point_and_leaves_nothing_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "PointRestore", partial(PointRestore, recover=OfTests))
    monkeypatch.setattr(program, "archive_of", lambda _: world.archive)
    newest = world.reach(world.note("drilled"))["reach"][-1][1]
    proof = program.proven_point(world.host)
    assert proof is not None
    assert (proof["time"], proof["rows"]) == (newest, 3)
    assert wal.told(world.host.settings)["proven"] == proof
    assert not list(world.host.settings.place.glob("point*"))
    monkeypatch.setattr(world.archive, "fetch_log", lambda pieces, into: None)
    with pytest.raises(BackupError, match=f"the set is proven, and the point in time {newest} is not: "):
        program.proven_point(world.host)


def test_a_time_at_which_nothing_is_written_is_reached_and_costs_no_room(world: World) -> None:
    before = len(world.archive.contents()[1])
    kept = world.rows()
    world.keep()
    quiet = len(world.archive.contents()[1])
    until = now()
    assert world.reach(until)["reach"][-1][1] > until
    assert len(world.archive.contents()[1]) == quiet <= before + 1
    world.server.sql("DELETE FROM notes", "links")
    world.restore(until)
    assert world.rows() == kept


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ("2026-01-01T00:00:00Z", r"cannot be reached; these points can be: from \d{4}-.* to \d{4}-.*Z$"),
        ("2999-01-01T00:00:00+02:00", "cannot be reached; these points can be: from"),
        ("2026-01-01T00:00:00", "is no point in time; write date, time and zone"),
        ("yesterday", "is no point in time; write date, time and zone"),
    ],
)
def test_a_time_that_cannot_be_reached_is_refused(world: World, at: str, said: str) -> None:
    with pytest.raises(BackupError, match=said) as caught:
        world.point(at)
    assert caught.value.fault == REFUSED


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("directory:/srv/uploads",), "only databases can; say all, or of these: database:links"),
        (("database:later",), "there was no database later; there were: links"),
    ],
)
def test_what_a_time_has_not_is_refused(world: World, parts: tuple[str, ...], said: str) -> None:
    at = world.keep()["reach"][-1][1]
    with pytest.raises(BackupError, match=said):
        world.restore(at, parts, "later")


def test_another_name_that_is_typed_is_refused_before_anything(world: World) -> None:
    at = world.keep()["reach"][-1][1]
    with pytest.raises(
        BackupError, match=r"slipway_confirm is other; to have the point in time .* type what is replaced"
    ):
        world.restore(at, ("all",), "other")
    assert world.point(at, ("all",)).plan()["names"] == ["links", "h"]


def test_a_repository_that_is_away_stops_nothing_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "PIECE", 3)
    repository = Path(world.host.settings.repository)
    away = repository.rename(repository.with_name("away"))
    times = [world.note(f"away{number}") for number in range(2)]
    for _ in range(3):
        with pytest.raises(BackupError, match="repository"):
            world.keep()
    told = wal.told(world.host.settings)
    assert told["error"]["fault"] == "no repository"
    assert moment(told["reach"][-1][1]) < moment(times[0])
    first = world.log.look()
    assert first.kept is not None
    assert not repository.exists(), "it is not made anew"
    for _ in range(4):  # what the server fills by itself meanwhile
        world.server.sql("SELECT pg_switch_wal(); INSERT INTO notes (what) SELECT 'filled'", "links")
    with pytest.raises(BackupError, match="repository"):
        world.keep()
    away.rename(repository)
    assert wal.problems({**told, "behind": wal.BEHIND + 1})[0].endswith(told["error"]["message"])
    told = world.reach(times[1])
    assert told["error"] is None
    assert len(told["reach"]) == 1, "nothing is missing between"
    after = world.log.look()
    assert after.kept is not None
    assert after.kept > first.kept, "the server is not asked to keep what is kept"
    assert after.writes - after.kept <= wal.PIECE
    world.restore(times[1])
    assert world.rows().endswith("away0 away1")


def test_what_a_host_has_forgotten_is_found_in_the_repository(world: World) -> None:
    before = world.keep()
    (world.host.settings.place / "wal.json").unlink()
    world.ordered.clear()
    at = world.note("remembered")
    told = world.reach(at)
    assert told["follows"]
    assert not world.ordered, "the log follows on the base that is there"
    assert told["reach"][0][0] == before["reach"][0][0]
    assert moment(told["reach"][-1][1]) >= moment(at)


def test_pieces_that_nobody_needs_go_and_every_point_stays(world: World) -> None:
    bases, pieces = world.archive.contents()
    gone = stale(bases, pieces, "2000-01-01T00:00:00Z")
    assert gone, "pieces that grew on the way"
    before = wal.reachable(world.archive, world.host.settings)
    world.host.restic.tidy([], gone)
    assert spans(wal.reachable(world.archive, world.host.settings)) == spans(before)
    at = world.note("tidied")
    world.note("later")
    world.reach(at)
    world.restore(at)
    assert world.rows().endswith("remembered tidied")


def test_what_was_given_up_is_told_and_refused(world: World) -> None:
    """A slot that the server has given up is like one that is not there: its log is gone."""
    world.keep()
    lost = world.note("lost")
    world.log.drop_slot()
    world.server.sql("SELECT pg_switch_wal()")
    world.server.sql("CHECKPOINT")
    told = world.keep()
    assert not told["follows"]
    assert "cannot be reached until a new base is made" in wal.problems(told)[0]
    world.reach(lost)
    world.base()
    told = wal.told(world.host.settings)
    assert told["follows"]
    ((since, until),) = told["gaps"]
    assert moment(since) <= moment(lost) < moment(until)
    assert gaps(spans(wal.reachable(world.archive, world.host.settings))) == [(since, until)]
    with pytest.raises(BackupError, match=f"these points can be: from .* to {since}; from {until} to"):
        world.point(lost)


def test_a_piece_that_is_lost_in_the_repository_is_a_gap(world: World) -> None:
    world.keep()
    before = spans(wal.reachable(world.archive, world.host.settings))
    at = world.note("kept")
    world.reach(at)
    (grown,) = [piece for piece in world.archive.contents()[1] if moment(piece.until) > moment(at)]
    world.host.restic.tidy([], [grown.snapshot])
    found = spans(wal.reachable(world.archive, world.host.settings))
    assert moment(found[-1][1]) < moment(at)
    assert found == before


def test_another_server_in_its_place_as_after_an_upgrade_is_followed_at_once(world: World) -> None:
    before = [list(span) for span in spans(ways(*world.archive.contents()))]
    world.ordered.clear()
    other = real_postgres.Server(world.place / "next")
    live = Server(other.superuser)
    former = world.server, world.host.live, world.log
    world.server, world.host.live, world.log = other, live, wal.Log(live)
    try:
        other.sql("CREATE DATABASE links")
        other.sql("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, what text)", "links")
        assert not world.keep()["follows"]
        assert world.ordered == ["base"], "though one was ordered for the former server just before"
        world.base()
        at = world.note("in the new one")
        world.note("later")
        told = world.reach(at)
        assert told["follows"]
        assert told["reach"][: len(before)] == before, "what could be reached before still can be"
        world.restore(at)
        assert world.rows() == "in the new one"
    finally:
        other.stop()
        world.server, world.host.live, world.log = former


def test_it_is_ended_without_a_trace_in_the_server(world: World) -> None:
    assert wal.stop(world.log, world.host.settings)
    assert world.server.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    assert not wal.stop(world.log, world.host.settings)
