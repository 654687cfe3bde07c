"""What status and logs tell of the processes of a host in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.observe import observe
from ansible_collections.slipway.fleet.plugins.module_utils.release.preflight import HOST, seen
from ansible_collections.slipway.fleet.plugins.module_utils.release.seen_beside import logs_beside, seen_beside
from ansible_collections.slipway.fleet.plugins.module_utils.release.timers import Timers

from tests.unit import test_release_processes as of_processes
from tests.unit.memory import Host, transaction
from tests.unit.test_release_processes import deploy

host, no_sync = of_processes.host, of_processes.no_sync


def row(name: str, running: int, wanted: int, restarts: int = 0, ending: int = 0) -> dict[str, object]:
    return {"name": name, "running": running, "wanted": wanted, "restarts": restarts, "ending": ending}


def test_all_run(tmp_path: Path, host: Host) -> None:
    found = observe(transaction(tmp_path, host, ""))
    assert found["processes"] == [row("beat", 1, 1), row("worker", 2, 2)]
    assert found["drift"] == []


def test_one_is_not_there_and_one_was_restarted(tmp_path: Path, host: Host) -> None:
    there = host.beside.there
    there["1-worker-0"] = replace(there["1-worker-0"], running=False, gone=True)
    there["1-beat-0"] = replace(there["1-beat-0"], restarts=3)
    work = transaction(tmp_path, host, "one")
    found = observe(work)
    assert found["processes"] == [row("beat", 1, 1, restarts=3), row("worker", 1, 2)]
    assert found["drift"] == ["the process beat was restarted 3 times", "of the process worker 1 of 2 run"]
    assert not seen("deploy", "one", HOST, work, Timers("links", work.store))["settled"]


def test_what_ends_in_its_own_time_is_no_difference(tmp_path: Path, host: Host) -> None:
    host.beside.lasts = {"worker": 250.0}
    deploy(tmp_path, host, "two")
    found = observe(transaction(tmp_path, host, ""))
    assert found["processes"] == [row("beat", 1, 1), row("worker", 2, 2, ending=2)]
    assert found["drift"] == []


def test_what_should_not_be_there_is_named(tmp_path: Path, host: Host) -> None:
    one = host.beside.there["1-beat-0"]
    host.beside.there["9-beat-0"] = replace(one, id="9-beat-0", release="zero", slot="green")
    assert "the process beat of release zero runs too" in observe(transaction(tmp_path, host, ""))["drift"]


@pytest.mark.parametrize("comes", [True, False], ids=["to this host", "to another one"])
def test_a_singleton_that_a_run_moves_is_no_difference_meanwhile(tmp_path: Path, host: Host, comes: bool) -> None:
    """The host that is to start it does so in its turn; until then the other one has it, or nobody."""
    there = host.beside.there
    if comes:
        del there["1-beat-0"]
    work = transaction(tmp_path, host, "", singletons=comes)
    said = "of the process beat 0 of 1 run" if comes else "the process beat of release one runs too"
    assert observe(work, only_looks=True)["drift"] == [said]
    assert observe(work, held=True)["drift"] == [said], "for the run itself it is one"
    assert observe(work, only_looks=True, held=True)["drift"] == []
    there["1-worker-0"] = replace(there["1-worker-0"], running=False, gone=True)
    assert observe(work, only_looks=True, held=True)["drift"] == ["of the process worker 1 of 2 run"]


def test_what_cannot_be_seen_is_said(tmp_path: Path, host: Host) -> None:
    host.unseen = {"runtime"}
    assert seen_beside(transaction(tmp_path, host, ""), "blue", "one") == ([], ["Cannot connect to the Docker daemon"])


def test_each_tells_under_its_name(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.beside, "logs", lambda one, lines: f"{one.id} {lines}")
    assert logs_beside(transaction(tmp_path, host, ""), 7) == [
        {"name": "beat", "log": "1-beat-0 7"},
        {"name": "worker 1", "log": "1-worker-0 7"},
        {"name": "worker 2", "log": "1-worker-1 7"},
    ]
