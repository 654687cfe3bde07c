"""A drain ends where its host is behind the balancer no more, so that one of that name begins undrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.behind import DRAIN, UNDRAIN, away, drains
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Server
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import DONE, FAILED, Ledger, noted
from ansible_collections.slipway.fleet.plugins.modules import edge
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.history import merged

from tests.unit.test_edge_pieces import options

ADA = {"who": "ada", "from": "ada-1", "run": "run-1"}


def piece(*hosts: str) -> str:
    servers = "".join(f"    server {host} 192.0.2.{number}:80\n" for number, host in enumerate(hosts, 11))
    return f"# Ansible managed\n# maintenance: off\nbackend app_links\n{servers}"


def drained(apps: Path, *hosts: str, result: str = DONE) -> list[dict[str, Any]]:
    for host in hosts:
        noted({**ADA, "root": apps / "links"}, DRAIN, host).end(result)
    return Ledger(apps / "links").told()


def test_a_host_that_is_gone_and_comes_back_was_drained_by_nobody(tmp_path: Path) -> None:
    drained(tmp_path, "web1", "web2")
    before, after = {"links": piece("web1", "web2")}, {"links": piece("web1")}
    record = {"who": "bob", "from": "ci-07", "run": "run-2"}
    assert edge.end_drains(after, record, before, tmp_path) == []
    records = Ledger(tmp_path / "links").told()
    assert set(drains(records)) == {"web1"}, "that is drained still"
    gone = Server(enabled=False, answers=True, sessions=0, since=5)
    assert "by no slipway.fleet.drain" in away({"web2": gone}, records)["web2"].why
    last = merged({"lb1": {"records": records}})[-1]
    assert (last["operation"], last["who"], last["cause"]) == (
        UNDRAIN,
        "bob",
        "web2: it is no host of this balancer any more",
    )


def test_one_that_went_before_this_was_recorded_ends_as_well(tmp_path: Path) -> None:
    drained(tmp_path, "web2")
    now = {"links": piece("web1")}
    edge.end_drains(now, None, now, tmp_path)
    edge.end_drains(now, None, now, tmp_path)
    assert [one["operation"] for one in Ledger(tmp_path / "links").told()] == [DRAIN, UNDRAIN], "once"


def test_those_of_an_app_that_is_taken_off_end(tmp_path: Path) -> None:
    drained(tmp_path, "web1")
    edge.end_drains({}, None, {"links": piece("web1")}, tmp_path)
    assert drains(Ledger(tmp_path / "links").told()) == {}


@pytest.mark.parametrize("text", [piece("web1"), "backend app_links\n    server blue unix@/run/x\n"])
def test_nothing_is_written_where_nobody_is_drained(tmp_path: Path, text: str) -> None:
    drained(tmp_path, "web2", result=FAILED)
    before = (tmp_path / "links/ledger.jsonl").read_text()
    edge.end_drains({"links": text, "shop": text}, None, {}, tmp_path)
    assert (tmp_path / "links/ledger.jsonl").read_text() == before
    assert not (tmp_path / "shop").exists()


def test_configuring_the_edge_does_so_and_a_dry_run_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def end(*given: Any) -> list[str]:
        asked.append(given)
        return ["not in the ledger"]

    monkeypatch.setattr(edge, "end_drains", end)
    first, second = {"links": piece("web1", "web2")}, {"links": piece("web1")}
    for pieces, check in ((first, False), (second, True), (second, False)):
        result = edge.act(options(tmp_path, pieces, record=ADA), check_mode=check)
        assert result["warnings"] == ([] if check else ["not in the ledger"])
    assert asked == [(first, ADA, {}), (second, ADA, first)]
