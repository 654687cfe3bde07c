"""The clusters of the distribution: whatever fails or is killed, none goes that the run did not make."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade import upgrading
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.model import State, UpgradeError

from tests.unit.upgrade.cluster_world import NEW, Host

IN_15, IN_17 = "rows of 15", "rows that apps wrote in 17"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def gone_back(host: Host) -> None:
    """An upgrade, what apps wrote in the new version, and the way back: 17/main has what is nowhere else."""
    host.upgrade().upgrade()
    assert host.serves() == "17/main"
    host.written("17/main", IN_17)
    host.upgrade().back()
    assert (host.serves(), host.all_rows()) == ("15/main", {"15/main": IN_15, "17/main": IN_17})


def test_what_a_way_back_has_kept_is_renamed_for_the_next_attempt_and_told(host: Host) -> None:
    gone_back(host)
    assert host.upgrade().plan(back=False)["aside"] == "17/main"
    told = host.upgrade().upgrade()
    aside = told["aside"]["name"]
    assert aside.startswith("17/kept_")
    assert told["aside"]["remove"] == f"pg_dropcluster 17 {aside[3:]}"
    assert host.all_rows() == {"15/main": IN_15, "17/main": IN_15, aside: IN_17}
    assert (host.serves(), host.boots_on(5432)) == ("17/main", ["17/main"])
    assert (host.etc / aside / "start.conf").read_text(encoding="utf-8") == "manual\n"


@pytest.mark.parametrize("program", ["pg_renamecluster", "pg_createcluster", "sh", "pg_ctl"])
def test_a_second_attempt_that_fails_leaves_what_was_kept_where_it_was(host: Host, program: str) -> None:
    gone_back(host)
    upgrade = host.upgrade()
    plan = upgrade._plan()
    upgrade._plan = lambda: plan  # type: ignore[method-assign]
    host.fails = program
    with pytest.raises(UpgradeError, match="PostgreSQL 15 serves"):
        upgrade.upgrade()
    host.fails = ""
    assert host.serves() == "15/main"
    if State(host.root).run():  # it could not be tidied up, which is said
        host.upgrade()._settle()
    assert host.all_rows() == {"15/main": IN_15, "17/main": IN_17}
    assert host.upgrade().back()["to"] == NEW, "what was kept is found"
    assert host.rows(host.serves()) == IN_17


def test_a_cluster_without_databases_of_its_own_is_not_taken_for_an_empty_one(host: Host) -> None:
    """It may have tables in the database postgres, which the package's own has not."""
    host.make(NEW, 5433, "somebody's")
    (host.data / "17" / "main" / "base" / "5").mkdir(parents=True)
    aside = host.upgrade().upgrade()["aside"]["name"]
    assert host.all_rows() == {"15/main": IN_15, "17/main": IN_15, aside: "somebody's"}


def test_a_cluster_with_its_data_elsewhere_is_not_taken_for_an_empty_one(host: Host) -> None:
    host.make(NEW, 5433, "somebody's")
    (host.data / "17").rename(host.data / "elsewhere")
    (host.data / "17").mkdir()
    aside = host.upgrade().upgrade()["aside"]["name"]
    assert (host.etc / aside).is_dir()
    assert host.rows("elsewhere/main") == "somebody's"


def test_a_directory_without_a_cluster_is_not_taken_over(host: Host) -> None:
    """pg_createcluster takes what is in such a directory for its own."""
    (host.data / "17" / "main").mkdir(parents=True)
    host.written("17/main", "somebody's")
    with pytest.raises(UpgradeError, match=r"PostgreSQL 15 serves as before.*17/main, which this upgrade did not make"):
        host.upgrade().upgrade()
    assert host.rows("17/main") == "somebody's"
    assert State(host.root).run() is None


def test_an_attempt_that_is_killed_before_any_command_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for before in range(1, 100):
        host = Host(tmp_path / str(before), monkeypatch)
        gone_back(host)
        cut = host.killed(before, lambda host=host: host.upgrade().upgrade())  # type: ignore[misc]
        rows = host.all_rows()
        assert max(rows.values()) == IN_17, before
        assert len(host.boots_on(5432)) <= 1, before
        if not cut:
            break
        settled = str(host.upgrade().back()["settled"]) if State(host.root).run() else ""
        served, rows = host.serves(), host.all_rows()
        assert host.boots_on(5432) == [served], before
        assert rows["15/main"] == IN_15
        if "finished" in settled:
            assert rows[settled.rpartition(" ")[2]] == IN_17, "it is said where it is"
        else:
            assert (served, rows) == ("15/main", {"15/main": IN_15, "17/main": IN_17}), before
            assert State(host.root).run() is None
            assert host.upgrade().back()["to"] == NEW
            assert host.rows(host.serves()) == IN_17
    assert before > 20, "the run was killed in all of its steps"


@pytest.mark.parametrize("ends", ["back", "taken back"])
def test_after_a_way_back_that_is_killed_one_cluster_starts_with_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    for before in range(1, 100):
        host = Host(tmp_path / str(before), monkeypatch)
        host.upgrade().upgrade()
        host.written("17/main", IN_17)
        if not host.killed(before, lambda host=host: host.upgrade().back()):  # type: ignore[misc]
            break
        if ends == "back":
            host.upgrade().back()
        elif State(host.root).run():
            host.upgrade()._settle()
        served = host.serves()
        assert ends == "taken back" or served == "15/main"
        assert host.boots() == host.has_port(5432) == [served], before
        assert host.all_rows() == {"15/main": IN_15, "17/main": IN_17}
    assert before > 7, "the way back was killed in all of its steps"


def test_whether_somebody_is_let_in_is_known_after_a_run_that_could_not_be_taken_back(host: Host) -> None:
    upgrade = host.upgrade()
    plan = upgrade._plan()
    upgrade._plan = lambda: plan  # type: ignore[method-assign]
    host.fails = "systemctl"
    with pytest.raises(UpgradeError):
        upgrade.upgrade()
    assert upgrade.closed(), "the old server does not start again, so the page stays"
    host.fails = ""
    upgrade._settle()
    assert not upgrade.closed()
    assert (host.serves(), State(host.root).run()) == ("15/main", None)


def test_what_cannot_be_tidied_up_keeps_nobody_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = host.upgrade()
    monkeypatch.setattr(host, "_pg_dropcluster", lambda *words: None)

    def broken(*_: object) -> None:
        raise UpgradeError("no copy")

    monkeypatch.setattr(upgrading, "copy", broken)
    with pytest.raises(UpgradeError, match="PostgreSQL 15 serves, and nothing was lost; run this again to tidy up"):
        upgrade.upgrade()
    assert host.serves() == "15/main"
    assert not upgrade.closed()
    assert State(host.root).run(), "the next run tries again"
