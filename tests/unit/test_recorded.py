"""Operations in the ledger: begun and ended, without secrets, and no reader that decides something is disturbed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.plugins.loader import lookup_loader
from ansible_collections.slipway.fleet.plugins.lookup.record import app_of
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files as backup_files
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import Settings
from ansible_collections.slipway.fleet.plugins.module_utils.edge import acme
from ansible_collections.slipway.fleet.plugins.module_utils.edge.acme import Outcome
from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import Settings as EdgeSettings
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import BEGUN, Ledger, recorded
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import command_line
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, TransactionError
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.modules import certificates as certificates_module
from ansible_collections.slipway.fleet.plugins.modules import ledger as ledger_module
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import history as told_history

from tests.unit.memory import (  # noqa: F401 - a fixture of every test here
    Crash,
    Host,
    assert_whole,
    deploy,
    effects_of_a_release,
    no_sync,
    stage,
    transaction,
)

BY = {"run": "r1", "who": "ada", "from": "ci-07"}


def record(root: Path) -> dict[str, str]:
    return {"root": str(root), **BY}


def lines(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "ledger.jsonl").read_text().splitlines()]


def test_an_operation_is_begun_and_ended(tmp_path: Path) -> None:
    with recorded(record(tmp_path / "new/links"), "run", "python -V") as note:
        [begun] = Ledger(tmp_path / "new/links").told()
        note.more["rc"] = 0
    [ended] = Ledger(tmp_path / "new/links").told()
    assert (begun["result"], ended["result"], ended["rc"]) == ("begun", "done", 0)
    assert begun.items() - {("result", "begun")} <= ended.items()
    assert ended.items() >= {**BY, "operation": "run", "what": "python -V"}.items()
    assert ended["start"] <= ended["end"]
    assert [line["result"] for line in lines(tmp_path / "new/links")] == ["begun", "done"]


def test_one_that_failed_has_its_cause_and_exit_code(tmp_path: Path) -> None:
    error = SlipwayError(
        "the command failed: exit code 7\nits output", {"rc": 7, "release": "one", "stdout": "its output"}
    )
    with pytest.raises(SlipwayError), recorded(record(tmp_path), "run", "false"):
        raise error
    [told] = Ledger(tmp_path).told()
    assert (told["result"], told["cause"], told["rc"]) == ("failed", "the command failed: exit code 7", 7)
    assert told["serving"] == "one"
    assert "release" not in told, "with it this would be the record of a release"


def killed(root: str) -> None:
    with recorded(record(Path(root)), "run", "sleep"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_one_that_was_killed_is_seen_as_not_ended(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed, args=(str(tmp_path),))
    process.start()
    process.join()
    told = told_history.tell({"web1": {"records": Ledger(tmp_path).told()}})
    assert (told.rows[0]["operation"], told.rows[0]["result"]) == ("run", "not ended")


def test_a_ledger_that_cannot_be_written_stops_nothing_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    done = False
    with recorded(record(tmp_path), "remove_volume", "uploads") as note:
        done = True
    assert done
    assert note.unwritten()["warnings"][0].startswith(f"this is not in the ledger {tmp_path}/ledger.jsonl: ")


@pytest.mark.parametrize("nowhere", [None, {}, BY])
def test_what_is_told_no_ledger_is_in_none(tmp_path: Path, nowhere: dict[str, str] | None) -> None:
    with recorded(nowhere, "run", "true") as note:
        pass
    assert note.unwritten() == {}


def test_secrets_of_the_app_and_what_is_called_like_one_are_not_in_it(tmp_path: Path) -> None:
    (tmp_path / "releases/one/secrets").mkdir(parents=True)
    (tmp_path / "releases/one/secrets/KEY").write_text("correct-horse")
    words = ["tool", "--with", "correct-horse", "--db-password", "staple", "--api-key=battery"]
    with recorded(record(tmp_path), "run", command_line(words)):
        pass
    text = (tmp_path / "ledger.jsonl").read_text()
    assert not any(word in text for word in ("correct-horse", "staple", "battery"))
    assert "tool --with ******** --db-password ********" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["alembic", "history", "--verbose"], "alembic history --verbose"),
        (["x", "--password", "a b", "--user", "ada"], "x --password ******** --user ada"),
        (["x", "--db-password=a b"], "x --db-password=********"),
        (["env", "API_TOKEN=a b", "x"], "env API_TOKEN=******** x"),
        (["sh", "-c", "cd /; SECRET=a KEY='b c' x"], "sh -c 'cd /; SECRET=******** KEY='\"'\"'b c'\"'\"' x'"),
        (["x", "--password", "--password", "b"], "x --password ******** b"),
        (["secrets", "list"], "secrets list"),
    ],
)
def test_a_command_is_kept_without_what_is_called_like_a_secret(words: list[str], shown: str) -> None:
    assert command_line(words) == shown


# Every operation, in every state.
NAMES = (
    *("run", "provision", "maintenance", "drain", "backup", "restore", "remove_volume", "remove_cache", "lock"),
    "certificates",
)
STATES: dict[str, dict[str, Any]] = {
    "begun": {},
    "done": {"end": "2026-01-01", "rc": 0, "serving": "two"},
    "failed": {"end": "2026-01-01", "cause": "y"},
}
OPERATIONS: list[dict[str, Any]] = [
    {**BY, "id": f"{name} {result}", "operation": name, "what": "x", "start": "2026-01-01", "result": result, **more}
    for name in NAMES
    for result, more in STATES.items()
]
READERS: dict[str, Callable[[Store], Any]] = {
    "releases_recorded": lambda store: store.releases_recorded(),
    "good": lambda store: store.good(),
    "last_record": lambda store: [store.last_record(release) for release in ("one", "two", "three", "four")],
    "removable": lambda store: [store.removable(keep, {"two"}) for keep in (0, 1, 2, 5)],
    "damaged_records": lambda store: store.damaged_records(),
}


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """Three good releases, one that was refused, a way back to the first, and one that was never tried."""
    host = Host(sick={"sick": Probe(500, "no")})
    for release in ("one", "two", "three"):
        deploy(tmp_path, host, release)
    with pytest.raises(TransactionError):
        deploy(tmp_path, host, "sick")
    deploy(tmp_path, host, "two", about={"operation": "rollback"})
    stage(tmp_path, "four")
    return tmp_path


@pytest.mark.parametrize("reader", READERS)
def test_what_decides_by_the_ledger_sees_no_operation(deployed: Path, reader: str) -> None:
    ledger = deployed / "ledger.jsonl"
    before, wanted = ledger.read_text().splitlines(), READERS[reader](Store(deployed))
    for place in range(len(before) + 1):
        between = [json.dumps(entry) for entry in OPERATIONS]
        ledger.write_text("\n".join([*before[:place], *between, *before[place:]]) + "\n")
        assert READERS[reader](Store(deployed)) == wanted, place


@pytest.mark.parametrize("point", range(1, effects_of_a_release() + 1))
def test_a_crash_anywhere_converges_with_operations_between(tmp_path: Path, point: int) -> None:
    host, store = Host(), Store(tmp_path)
    deploy(tmp_path, host, "one")
    host.crash_at, host.crash_after = host.effects + point, True
    with pytest.raises(Crash):
        deploy(tmp_path, host, "two")
    host.crash_at = 0
    for entry in OPERATIONS:
        store.record(entry)
    transaction(tmp_path, host, "two").reconcile()
    for entry in OPERATIONS:
        store.record(entry)
    deploy(tmp_path, host, "two")
    assert_whole(tmp_path, host, "two")
    starts = [(entry["release"], entry["start"]) for entry in store.ledger() if "release" in entry]
    assert len(starts) == len(set(starts)), "a release was recorded twice"
    assert store.good() == ["one", "two"]


def test_the_newest_records_are_those_of_as_many_operations(tmp_path: Path) -> None:
    for number in range(3):
        with recorded(record(tmp_path), "run", str(number)):
            pass
    with recorded(record(tmp_path), "run", "outer"), recorded(record(tmp_path), "run", "inner"):
        pass
    assert [entry["what"] for entry in Store(tmp_path).told()] == ["0", "1", "2", "inner", "outer"]


def test_the_backup_of_a_host_takes_apps_with_releases_and_no_ledger_alone(tmp_path: Path) -> None:
    with recorded(record(tmp_path / "links"), "backup", "asked"):
        pass
    settings = Settings("/srv/sets", "h", apps=tmp_path)
    assert backup_files.apps(settings) == []
    (tmp_path / "links/releases").mkdir()
    assert backup_files.apps(settings) == [tmp_path / "links"]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Namespace(verb="backup", reason="asked"), "asked"),
        (Namespace(verb="restore", set="latest", part=["all"]), "all"),
        (Namespace(verb="backup", reason="timer"), None),
        (Namespace(verb="drill", set="latest"), None),
    ],
)
def test_a_set_that_somebody_asks_for_and_a_restore_are_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: Namespace, what: str | None
) -> None:
    settings = Settings("/srv/sets", "h", apps=tmp_path)
    for app in ("links", "shop"):
        Store(tmp_path / app).root.mkdir()
        Store(tmp_path / app).record({"event": "x"})
    monkeypatch.setenv(program.RECORD, json.dumps(record(tmp_path / "links")))
    with program.in_the_ledgers(asked, settings):
        pass
    monkeypatch.delenv(program.RECORD)
    monkeypatch.setenv("SUDO_USER", "ada")
    with program.in_the_ledgers(asked, settings):
        pass
    told = {
        app: [entry for entry in Ledger(tmp_path / app).told() if "operation" in entry] for app in ("links", "shop")
    }
    found = {app: [(entry["who"], entry["operation"], entry["what"]) for entry in told[app]] for app in told}
    one = ("ada", asked.verb, what)
    assert found == ({"links": [one, one], "shop": [one]} if what else {"links": [], "shop": []})


class Renewed:
    """The certificates of an edge, one of which is due."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.forced: list[str] = []

    def wanted(self) -> list[str]:
        return ["a.example", "b.example"]

    def records(self) -> dict[str, Any]:
        return {}

    def orders(self) -> list[str]:
        return ["a.example"]

    def run(self, asked: bool = False, forced: Any = (), limit: float = 0) -> Outcome:
        return Outcome(changed=list(forced) or ["a.example"])


@pytest.fixture
def edge_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (acme, certificates_module):
        monkeypatch.setattr(module, "Renewal", Renewed)
        monkeypatch.setattr(module.Settings, "load", staticmethod(lambda path: object()))


@pytest.mark.usefixtures("edge_settings")
def test_certificates_that_are_ordered_or_forced_are_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "links"
    options = {"settings": "x", "names": ["a.example"], "wait": 1, "missing": "tell", "record": record(root)}
    assert certificates_module.act(options, check_mode=True)["changed"]
    assert not root.exists()
    certificates_module.act(options, check_mode=False)
    monkeypatch.setattr(acme, "ledgers", lambda: [root])
    assert acme.main(["--force", "b.example"]) == 0
    assert acme.main([]) == 0, "what the timer does is in its own records"
    told = [(entry["operation"], entry["what"], entry["result"]) for entry in Ledger(root).told()]
    assert told == [("certificates", "a.example", "done"), ("certificates", "forced: b.example", "done")]


def test_an_operation_of_several_tasks_is_one_record(tmp_path: Path) -> None:
    options = {"operation": "provision", "what": "", "cause": "", "begun": {}, "record": record(tmp_path)}
    begun = ledger_module.perform({**options, "state": "begun"})
    assert not begun["changed"]
    assert [entry["result"] for entry in Ledger(tmp_path).told()] == [BEGUN]
    ledger_module.perform({**options, "state": "failed", "cause": "no\nroom", "begun": begun["begun"]})
    [told] = Ledger(tmp_path).told()
    assert (told["result"], told["cause"], told["start"]) == ("failed", "no", begun["begun"]["start"])


def test_the_ledger_is_that_of_the_host_s_app_or_of_the_fleet_s() -> None:
    hosts = {"web1": {}, "web2": {"fastapi_app_name": "links"}, "db": {}, "other": {"fastapi_app_name": "shop"}}
    groups = {"web": ["web1", "web2"]}
    found = [app_of({"hostvars": hosts, "groups": groups, "inventory_hostname": host}) for host in hosts]
    assert found == ["links", "links", "links", "shop"]
    assert app_of({"hostvars": {"db": {}}, "groups": {}, "inventory_hostname": "db"}) == ""


@pytest.mark.parametrize(
    ("name", "root"), [("links", "/opt/slipway/links"), ("../etc", None), ("", None), ("a/b", None), ("links\n", None)]
)
def test_what_cannot_be_the_name_of_an_app_has_no_ledger(name: str, root: str | None) -> None:
    [found] = lookup_loader.get("slipway.fleet.record").run([name], {})
    assert found.get("root") == root
    assert root is None or all(found[key] for key in ("run", "who", "from"))
