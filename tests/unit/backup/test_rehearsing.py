"""What a release is to do to the database is done to a set first, and what it did there is told."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import cache
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import EMPTY, REFUSED, BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.rehearsing import order_of, rehearse
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran

from tests.unit.backup.memory import Aside, Databases, Started, host

ORDER = {"app": "links", "release": "r2", "command": ["migrate"], "timeout": 300, "set": "latest"}
TOLD = {
    "applied": ["0004"],
    "pending": [],
    "seconds": 1.234,
    "transactions": [
        {"seconds": 0.5, "locks": [["t", "AccessExclusiveLock"], ["new", "AccessExclusiveLock"]]},
        {"seconds": 0.7, "locks": [["t", "AccessExclusiveLock"]]},
    ],
}


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "twins", lambda *_: nullcontext())


@pytest.fixture
def saved(tmp_path: Path) -> Host:
    made, _ = host(tmp_path, Databases(postgres={}, links={"t": ["a", "b"], "u": []}))
    save(made, "timer")
    return made


def ran(told: Any = None, code: int = 0, timed_out: bool = False) -> Ran:
    return Ran((), code, f"working\n{json.dumps({'migration': told})}\n" if told else "done\n", "why", timed_out)


def made_of(*shapes: dict[str, tuple[str, int]]) -> Any:
    """A server of which databases look so, one after the other."""
    scratch = Aside()
    scratch.server.shapes = list(shapes)
    return lambda *_: scratch


def test_it_tells_what_a_migration_did(saved: Host) -> None:
    before = {"t": ("1", 0), "u": ("2", 0), "public.alembic_version": ("4", 0)}
    after = {"t": ("9", 40), "u": ("2", 0), "public.alembic_version": ("4", 1), "new": ("3", 5)}
    start = Started(ran=ran(TOLD))
    told = rehearse(saved, ORDER, made_of({}, before, {}, after), start)
    assert start.asked == ["r2: migrate", "r1"], "and then the release that serves is started"
    assert (told["applied"], told["seconds"]) == (["0004"], 1.23)
    assert told["locks"] == [{"table": "t", "mode": "AccessExclusiveLock", "seconds": 0.7}]
    assert told["rewritten"] == [{"table": "t", "rows": 2}]
    assert told["changed"] == [{"table": "t", "rows": 40}]
    assert (told["release"], told["refusal"], told["unproven"]) == ("r1", "", "")
    assert not saved.settings.scratch.exists()


def test_a_command_that_says_nothing_is_measured_from_outside(saved: Host) -> None:
    told = rehearse(saved, ORDER, Aside, Started(ran=ran()))
    assert (told["applied"], told["locks"], told["rewritten"]) == ([], [], [])
    assert told["seconds"] >= 0


def test_why_the_release_that_serves_does_not_suit_what_comes_out(saved: Host) -> None:
    told = rehearse(saved, ORDER, Aside, Started({"r1": "GET /readyz answered 503"}, ran=ran(TOLD)))
    assert told["refusal"] == "GET /readyz answered 503"


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (ran(code=1), "the migrations fail there:\nwhy"),
        (ran(code=124, timed_out=True), "did not end within 300 s there"),
    ],
)
def test_a_migration_that_fails_there(saved: Host, end: Ran, why: str) -> None:
    with pytest.raises(BackupError) as caught:
        rehearse(saved, ORDER, Aside, Started(ran=end))
    assert why in str(caught.value)
    assert caught.value.fault == REFUSED
    assert not saved.settings.scratch.exists()


@pytest.mark.parametrize(
    ("pending", "why"),
    [
        (["0003", "0004"], "there 0003, 0004 would be applied, not what is pending in the database"),
        ([], "there nothing is pending"),
    ],
    ids=["an older one", "a newer one"],
)
def test_a_set_of_another_schema_than_the_database_proves_nothing(saved: Host, pending: list[str], why: str) -> None:
    left = [{"revision": name, "sql": [], "unread": ""} for name in pending]
    told = {"from": "0002", "to": "0002", "applied": [], "pending": left, "seconds": 0.1, "transactions": []}
    with pytest.raises(BackupError) as caught:
        rehearse(saved, ORDER, Aside, Started(ran=ran(told)))
    set_ = saved.restic.find("latest").short
    assert f"set {set_} of " in str(caught.value)
    assert f"is at 0002: {why}, so nothing was rehearsed. Make a set" in str(caught.value)
    assert caught.value.fault == REFUSED


class Unstarted(Aside):
    def __enter__(self) -> Databases:
        pytest.fail("a server is started")


def test_a_release_that_is_not_here_is_refused_before_anything_is_restored(saved: Host) -> None:
    start = Started(unfit="release r2 is not on this host")
    with pytest.raises(BackupError, match="release r2 is not on this host") as caught:
        rehearse(saved, ORDER, Unstarted, start)
    assert caught.value.fault == REFUSED


def test_a_host_without_a_server(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    with pytest.raises(BackupError, match="this host has no database server that is backed up"):
        rehearse(made, ORDER, Aside, Started())


def test_without_a_set_there_is_nothing_to_rehearse_on(tmp_path: Path) -> None:
    made, _ = host(tmp_path, Databases(postgres={}))
    with pytest.raises(BackupError) as caught:
        rehearse(made, ORDER, Aside, Started())
    assert caught.value.fault == EMPTY


def test_an_order_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "order"
    path.write_text(json.dumps({"app": "links", "release": "r2", "command": ["migrate"]}))
    assert order_of(path) == {**ORDER, "of": ""}
    with pytest.raises(BackupError, match="says nothing that could be rehearsed"):
        order_of(tmp_path / "none")
