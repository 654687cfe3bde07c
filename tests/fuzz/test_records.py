"""Records of a host: state, intent, draining, leases, the ledger, and what a release says of itself."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import read_json
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import NAME, Ledger
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import DECLARED, Process, processes_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import GATE, port_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.jobs import SCHEDULED, Job, jobs_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.keeps import KEEPS, Keeps, keeps_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import Held, Lease
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Draining, Intent, State
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import history
from hypothesis import strategies as st

from tests.fuzz.hostile import JSON, given, like, lines_like, quick, texts_like

STATE = {"release": "one", "slot": "blue", "since": "2026-11-26T10:00:00+00:00", "previous": None}
INTENT = {"release": "two", "slot": "green", "was": "one", "started": "now", "switched": True, "returning": False}
DRAINING = {"release": "one", "slot": "blue", "since": 1.5e9, "until": 1.6e9, "about": {"run": "r"}}
LEASE = {"run": "r", "who": "w", "from": "f", "what": "deploy", "since": "now"}
RECORD = {
    "release": "one",
    "result": "good",
    "operation": "deploy",
    "run": "r",
    "who": "w",
    "from": "f",
    "id": "i",
    "start": "2026-11-26T10:00:00+00:00",
    "end": "2026-11-26T10:01:00+00:00",
    "image": "app:1",
    "cause": "c",
    "event": "taken over",
    "api": {"breaks": ["a path is gone"], "more": 2},
    "drained": "one",
}


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@contextmanager
def store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        root = Path(directory)
        (root / "releases" / "one").mkdir(parents=True)
        (root / "releases" / "one" / "unit.service").touch()
        yield Store(root)


@given(texts_like(STATE))
def test_a_file_of_json(text: str) -> None:
    with store() as there, quick():
        path = there.root / "any.json"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            found = read_json(path)
        except SlipwayError:
            return
        assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("name", "kind", "right"),
    [("state", State, STATE), ("intent", Intent, INTENT), ("draining", Draining, DRAINING)],
)
def test_a_record_of_the_transaction(name: str, kind: type[Any], right: dict[str, Any]) -> None:
    @given(texts_like(right))
    def reads(text: str) -> None:
        with store() as there, quick():
            (there.root / f"{name}.json").write_text(text, encoding="utf-8", errors="surrogatepass")
            try:
                found = getattr(there, name)()
            except SlipwayError:
                return
            if found is not None:
                assert isinstance(found, kind)
                getattr(there, f"write_{name}")(found)
                assert getattr(there, name)() == found or "nan" in repr(found)
                for field, value in right.items():
                    assert value is None or type(getattr(found, field)) in (type(value), type(None), int, str)

    reads()


@given(lines_like(RECORD))
def test_a_ledger(text: str) -> None:
    with store() as there, quick():
        path = there.root / NAME
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        there.releases_recorded()
        assert all(isinstance(release, str) for release in there.good())
        assert isinstance(there.last_record("one"), dict)
        assert there.removable(5, {"one"}) == []
        assert all(isinstance(entry, dict) for entry in there.told())
        before = there.ledger()
        there.record({"event": "after"})
        assert Ledger(there.root).entries() == [*before, {"event": "after"}] or "nan" in str(before)
        told = history.tell({"web1": {"records": there.told()}, "web2": {"records": there.told()}})
        json.dumps(told.rows)


@given(st.lists(like(RECORD) | JSON, max_size=4), st.lists(like(RECORD) | JSON, max_size=4))
def test_the_records_that_hosts_tell(one: list[Any], other: list[Any]) -> None:
    """Whoever has a host says what is in its ledger."""
    with quick():
        told = history.tell({"web1": {"records": one}, "web2": {"records": other}})
        told.text.encode()
        json.dumps(told.rows)


SAID: dict[str, tuple[str, Callable[[Path, str], Any], dict[str, Any]]] = {
    "keeps": (KEEPS, keeps_of, {"volumes": {"data": "/data"}, "overlap": True}),
    "jobs": (SCHEDULED, jobs_of, {"nightly": {"command": ["x"], "schedule": "03:00", "limit": 60}}),
    "processes": (DECLARED, processes_of, {"worker": {"command": ["x"], "replicas": 2, "singleton": False}}),
    "port": (GATE, port_of, {"port": 8000, "path": "/readyz"}),
}


@pytest.mark.parametrize("what", SAID)
def test_what_a_release_says_of_itself(what: str) -> None:
    name, read, right = SAID[what]
    inner = next(iter(right.values()))
    nested = like(inner).map(lambda one: {next(iter(right)): one}) if isinstance(inner, dict) else like(right)

    @given(texts_like(right) | nested.map(json.dumps))
    def reads(text: str) -> None:
        with store() as there, quick():
            (there.releases / "one" / name).write_text(text, encoding="utf-8", errors="surrogatepass")
            try:
                found = read(there.releases, "one")
            except SlipwayError:
                return
            assert isinstance(found, (Keeps, dict, int))
            for one in found.values() if isinstance(found, dict) else ():
                assert isinstance(one, (Job, Process))
                assert isinstance(one.command, list)
            there.gate("one")
            there.overlaps("one")

    reads()


@given(texts_like(LEASE), st.sampled_from(["r", "another"]))
def test_a_lease(text: str, run: str) -> None:
    with store() as there, quick():
        lease = Lease("app", there.root, there.root / "locks")
        lease.path.parent.mkdir()
        lease.path.write_text(text, encoding="utf-8", errors="surrogatepass")
        for ask in (lease.problem, lease.lost, lease.left_by_dead, lease.renew, lease.fade):
            ask(run)
        try:
            lease.acquire({**LEASE, "run": run})
        except Held as error:
            json.dumps(error.details)


@given(st.lists(JSON, max_size=3))
def test_what_is_remembered_of_singletons_and_jobs(values: list[Any]) -> None:
    with store() as there, quick():
        for value in values:
            (there.root / "jobs").mkdir(exist_ok=True)
            for path in (
                there.root / "singletons.json",
                there.root / "jobs" / ".at.json",
                there.root / "jobs" / "x.json",
            ):
                path.write_text(json.dumps(value), encoding="utf-8")
            for ask in (there.singletons_at, there.jobs_at, lambda: there.job("x")):
                try:
                    found = ask()
                except SlipwayError:
                    continue
                assert found is None or isinstance(found, dict)
