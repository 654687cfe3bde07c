"""Data gets into another server whole, and out of one that was cut in any step: with real servers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import AccessError
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file, refuse_while_upgraded
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade import copying
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.model import Side, State, UpgradeError
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.database_upgrade import refused

from tests.integration.upgrade.world import HBA, NEW, OLD, Plain, as_app, begin, killed, upgrade, written

COUNT = "SELECT count(*) FROM rows"


@pytest.fixture(scope="module")
def provider() -> Iterator[Plain]:
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        made = begin(Path(directory))
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(autouse=True)
def old_one_serves(provider: Plain) -> Iterator[None]:
    """After each test the old server is in place again, as it was, and lets the app in."""
    yield
    if provider.now().major == NEW or State(provider.root).run():
        told = upgrade(provider).back()
        assert told["to"] == OLD
    assert provider.now().major == OLD
    assert access_file(provider.root).read_text(encoding="utf-8") == HBA
    assert (provider.root / "settings").read_text(encoding="utf-8") == f"# {OLD}\n"
    written(provider)


def test_all_of_a_server_is_in_the_new_one_and_the_old_one_is_kept(provider: Plain) -> None:
    plan = upgrade(provider).plan(back=False)
    assert (plan["from"], plan["to"], plan["problems"]) == (OLD, NEW, [])
    left = ["slipway_before_x", "slipway_restoring_links"]
    assert (plan["names"], plan["left"], plan["apps"]) == (["links", "maps"], left, ["links"])
    assert plan["disk"]["needed"] < plan["disk"]["free"]
    rows = as_app(provider, COUNT)
    told = upgrade(provider).upgrade()
    assert (told["done"], told["from"], told["to"], told["rows"] > 2000) == (True, OLD, NEW, True)
    assert told["databases"] == ["links", "maps", "postgres"]
    assert told["kept"]["name"] == f"data-{OLD}"
    assert as_app(provider, COUNT) == rows
    written(provider)
    assert as_app(provider, "SHOW work_mem") == "5MB"
    assert as_app(provider, "SHOW statement_timeout") == "31s"
    server = provider.server()
    assert server.sql("postgres", "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'links'") == [["7"]]
    assert server.sql("postgres", "SELECT datconnlimit FROM pg_database WHERE datname = 'links'") == [["9"]]
    assert server.members() == {"links_1a2b": "links"}
    assert server.sql("links", "SELECT has_table_privilege('reader', 'rows', 'SELECT')") == [["t"]]
    assert server.sql("links", "SELECT extname FROM pg_extension WHERE extname = 'pg_trgm'") == [["pg_trgm"]]
    assert server.sql("links", "SELECT reltuples > 0 FROM pg_class WHERE relname = 'rows'") == [["t"]], "it is analysed"
    assert server.sql("postgres", "SELECT has_database_privilege('public', 'postgres', 'CONNECT')") == [["f"]]

    again = upgrade(provider).upgrade()
    assert (again["done"], again["settled"]) == (False, "")
    back = upgrade(provider).back()
    assert (back["done"], back["to"], back["kept"]["major"]) == (True, OLD, NEW)
    assert as_app(provider, COUNT) == rows, "what was written since is in the one that is kept"


@pytest.mark.parametrize("step", ["make", "made", "source", "rest", "put", "stopped", "settings", "placed", "started"])
def test_a_run_that_is_killed_loses_nothing(provider: Plain, step: str) -> None:
    rows = as_app(provider, COUNT)
    killed(provider, step, lambda one: upgrade(one).upgrade())
    plan = upgrade(provider).plan(back=False)
    assert (plan["cut"], plan["from"], plan["to"]) == (True, OLD, NEW)
    assert refused(plan, "maps,links", "db1") == "", "the same names are typed"
    with pytest.raises(AccessError, match=r"was cut. Run slipway.fleet.upgrade_database"):
        refuse_while_upgraded(provider.root)
    if step in ("make", "made"):
        written(provider)  # the old one serves as if nothing had been
        rows = as_app(provider, COUNT)
    if step in ("placed", "started"):
        told = upgrade(provider).upgrade()
        assert told["settled"] == f"an upgrade to PostgreSQL {NEW} that was cut is finished"
        assert provider.now().major == NEW
    else:
        told = upgrade(provider).back()
        assert told["settled"].startswith(f"an upgrade to PostgreSQL {NEW} that was cut was taken back")
        assert provider.lacking(provider.side(NEW)), "nothing is left of it"
    assert not told["done"]
    assert State(provider.root).run() is None
    assert as_app(provider, COUNT) == rows


def test_a_run_that_is_cut_is_done_whole_by_the_next(provider: Plain) -> None:
    killed(provider, "rest", lambda one: upgrade(one).upgrade())
    told = upgrade(provider).upgrade()
    assert told["done"]
    assert "was taken back" in told["settled"]
    assert provider.now().major == NEW


@pytest.mark.parametrize("step", ["put", "placed"])
def test_a_way_back_that_is_killed_goes_on(provider: Plain, step: str) -> None:
    upgrade(provider).upgrade()
    killed(provider, step, lambda one: upgrade(one).back())
    told = upgrade(provider).back()
    assert (told["to"], provider.now().major) == (OLD, OLD)


def test_a_new_server_that_lacks_something_is_not_put_in_place(
    provider: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = copying._move

    def lossy(name: str, source: tuple[str, ...], new: Server) -> None:
        move(name, source, new)
        if name == "links":
            new.sql("links", "DELETE FROM rows WHERE id = 7")

    monkeypatch.setattr(copying, "_move", lossy)
    with pytest.raises(UpgradeError, match=rf"PostgreSQL {OLD} serves as before.*public\.rows has \d+ rows instead"):
        upgrade(provider).upgrade()
    assert State(provider.root).run() is None


def test_a_login_that_differs_is_seen(provider: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "analyze", lambda new: None)
    roles = copying._roles
    monkeypatch.setattr(copying, "_roles", lambda source: roles(source) + "ALTER ROLE links PASSWORD 'another';\n")
    with pytest.raises(UpgradeError, match="has not the roles of the old one: links") as caught:
        upgrade(provider).upgrade()
    assert "SCRAM" not in str(caught.value)


def test_one_that_does_not_start_gives_way_to_the_old_one(provider: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    start = Plain.start

    def broken(self: Plain, side: Side, other: Side) -> None:
        if side.major == NEW:
            raise UpgradeError("no shared memory")
        start(self, side, other)

    monkeypatch.setattr(Plain, "start", broken)
    with pytest.raises(UpgradeError, match=f"PostgreSQL {OLD} serves again, and nothing was lost: no shared memory"):
        upgrade(provider).upgrade()


def test_what_the_new_version_lacks_is_told_before_anything(provider: Plain) -> None:
    provider.offers = replace(provider.offers, extensions=frozenset({"plpgsql"}))
    provider.server().sql(
        "postgres", "CREATE DATABASE sorted TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'"
    )
    try:
        (extension,) = upgrade(provider).plan(back=False)["problems"]
        assert extension.startswith("database links has the extensions pg_trgm, which PostgreSQL 16.1 has not here")
        provider.offers = replace(provider.offers, extensions=frozenset({"plpgsql", "pg_trgm"}), locales=frozenset())
        with pytest.raises(UpgradeError, match=r"^nothing was done: database sorted is sorted by C\.UTF-8, a locale"):
            upgrade(provider).upgrade()
    finally:
        provider.server().sql("postgres", "DROP DATABASE sorted")
        provider.offers = Plain(provider.root).offers


def test_a_subscription_that_writes_meanwhile_is_refused(provider: Plain) -> None:
    server = provider.server()
    made = "CREATE SUBSCRIPTION news CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)"
    server.sql("maps", made, "ALTER SUBSCRIPTION news ENABLE")
    try:
        (problem,) = upgrade(provider).plan(back=False)["problems"]
        assert problem.startswith("there are subscriptions (news), which write while nobody is let in")
        server.sql("maps", "ALTER SUBSCRIPTION news DISABLE")
        assert upgrade(provider).plan(back=False)["problems"] == []
    finally:
        server.sql(
            "maps",
            "ALTER SUBSCRIPTION news DISABLE",
            "ALTER SUBSCRIPTION news SET (slot_name = NONE)",
            "DROP SUBSCRIPTION news",
        )


def test_there_is_no_way_to_an_earlier_version(provider: Plain) -> None:
    provider.offers = replace(provider.offers, major=14)
    (problem,) = upgrade(provider).plan(back=False)["problems"]
    assert "say -e slipway_back=true" in problem
    provider.offers = Plain(provider.root).offers


def test_two_do_not_run_at_once(provider: Plain) -> None:
    with upgrade(provider)._alone(), pytest.raises(UpgradeError, match="an upgrade of this server is under way"):
        upgrade(provider).upgrade()
