"""An app that was removed is told as that, with when and by whom, and what brings it back."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError, NoBackend
from ansible_collections.slipway.fleet.plugins.module_utils.edge.maintenance import Page
from ansible_collections.slipway.fleet.plugins.module_utils.host import removed
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import DONE, noted
from ansible_collections.slipway.fleet.plugins.module_utils.release import preflight as preflight_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.observe import BROUGHT_BACK, observe
from ansible_collections.slipway.fleet.plugins.modules import balancer

from tests.unit.memory import Host, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here
from tests.unit.test_operations import World, world  # noqa: F401 - a fixture

ADA = {"who": "ada", "from": "ci-07", "run": "run-1"}
SINCE = r"it was removed at 20[0-9T:+-]+ by ada from ci-07"
LOOK = {"place": {"app": "links", "root": "", "edge": {"socket": "/x/s", "state_file": "/x/f", "backend": "app_links"}}}


class Unknown:
    """An edge from which the app was taken."""

    def servers(self) -> dict[str, Any]:
        raise NoBackend("HAProxy has no backend app_links with the servers blue and green; run slipway.fleet.provision")


def looked(root: Path, purpose: str, monkeypatch: pytest.MonkeyPatch, edge: object = None) -> list[str]:
    work = transaction(root, Host(), "")
    work.edge = edge or Unknown()  # type: ignore[assignment]
    timers = SimpleNamespace(none=True, names=list, follow=lambda *more: False, problems=lambda *more: [])
    monkeypatch.setattr(preflight_module, "timers_problems", lambda *more: [])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(preflight_module, "docker_problem", lambda: None)
    monkeypatch.setattr(preflight_module, "disk_problems", lambda *more: [])
    given = {**LOOK, "purpose": purpose, "place": {**LOOK["place"], "root": str(root)}}
    found: list[str] = preflight_module.look(given, work, timers)["problems"]  # type: ignore[arg-type]
    return found


def test_a_removal_is_kept_and_forgotten_once_the_app_is_staged_again(world: World) -> None:  # noqa: F811 - the fixture
    world.hold("ann")
    world.ask("remove", run_id="ann", record={"root": str(world.root), **ADA})
    assert not world.root.exists()
    assert removed.told(world.root).endswith(" by ada from ci-07")
    for verb, more in (("run", {"command": ["true"]}), ("activate", {"release": "two", "restart": True})):
        with pytest.raises(SlipwayError, match=f"{SINCE}.; {BROUGHT_BACK}"):
            world.ask(verb, **more)
    world.ask("stage", check_mode=True, release="two", files=[], contents={})
    assert removed.told(world.root)
    world.root.mkdir()
    world.ask("stage", release="two", files=[], contents={})
    assert removed.told(world.root) == ""


@pytest.mark.parametrize("purpose", ["rollback", "restart"])
def test_who_goes_back_is_told_that_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, purpose: str) -> None:
    root = tmp_path / "links"
    (said,) = looked(root, purpose, monkeypatch)
    assert said == (
        "links is not on this host, and its edge does not know it: it was removed, or never here; " + BROUGHT_BACK
    )
    removed.note(root, ADA)
    (said,) = looked(root, purpose, monkeypatch)
    assert said.startswith("links is not on this host: it was removed at 20")
    assert said.endswith(f" by ada from ci-07; {BROUGHT_BACK}")


def test_a_deploy_is_told_so_too_until_the_host_is_provisioned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed.note(tmp_path / "links", ADA)
    (said,) = looked(tmp_path / "links", "deploy", monkeypatch)
    assert said.endswith(f" by ada from ci-07; {BROUGHT_BACK}")
    assert looked(tmp_path / "links", "deploy", monkeypatch, SimpleNamespace(servers=dict)) == []


def test_its_status_says_so(tmp_path: Path) -> None:
    root = tmp_path / "links"
    work = transaction(root, Host(), "")
    assert observe(work)["drift"] == ["nothing was released yet"]
    removed.note(root, {})
    (said,) = observe(work)["drift"]
    assert said.startswith("links is not on this host: it was removed at 20")
    stage(root, "one")
    assert observe(work)["drift"] == ["nothing was released yet"], "it comes again"


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_what_cannot_be_read_is_as_not_known(tmp_path: Path, text: str) -> None:
    removed.note(tmp_path / "links", ADA)
    (tmp_path / ".removed/links.json").write_text(text)
    assert removed.told(tmp_path / "links") == ""


def test_a_balancer_knows_it_by_the_ledger_that_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balancer, "APPS", tmp_path)
    with pytest.raises(EdgeError, match="links is not on lb1: it was removed, or this balancer was not provisioned"):
        balancer.require_there({}, "links", " on lb1")
    noted({**ADA, "root": tmp_path / "links"}, "remove", "links").end(DONE)
    with pytest.raises(EdgeError, match=rf"links is not on lb1: {SINCE}\. Nothing was done there\. slipway.fleet."):
        balancer.require_there({}, "links", " on lb1")
    (tmp_path / "declared").write_text("shop off\n")
    page = Page(SimpleNamespace(), "links", tmp_path / "declared", tmp_path / "switched", tmp_path)  # type: ignore[arg-type]
    assert "knows no app links: it was removed at 20" in page.problem("on")
    noted({**ADA, "root": tmp_path / "links"}, "provision", "").end(DONE)
    assert removed.told(tmp_path / "links") == "", "it is there again"


def test_a_record_of_it_has_no_more_than_it_says(tmp_path: Path) -> None:
    removed.note(tmp_path / "links", {**ADA, "token": "secret"})
    path = tmp_path / ".removed/links.json"
    assert json.loads(path.read_text()).keys() == {"at", "who", "from"}
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_stands_in_its_way_keeps_nobody_from_removing(world: World) -> None:  # noqa: F811 - the fixture
    (world.root.parent / ".removed").write_text("in the way")
    world.hold("ann")
    assert world.ask("remove", run_id="ann")["changed"]
    assert not world.root.exists()
