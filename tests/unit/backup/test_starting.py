"""A drill starts the release that serves against what it restored, or says why that was not proven."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import cache
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import GATE, BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host, save

from tests.unit.backup.memory import Aside, Databases, Started, host


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "twins", lambda *_: nullcontext())


@pytest.fixture
def live() -> Databases:
    return Databases(postgres={}, links={"t": ["a", "b"]})


@pytest.fixture
def saved(tmp_path: Path, live: Databases) -> Host:
    made, _ = host(tmp_path, live)
    save(made, "timer")
    return made


def test_the_release_that_serves_passes_its_gate(saved: Host) -> None:
    start = Started()
    (found,) = drill(saved, scratch=Aside, start=start)["releases"]
    assert (found["app"], found["release"], found["unproven"]) == ("links", "r1", "")
    assert (start.asked, start.place) == (["r1"], saved.settings.scratch)
    assert start.stage == Aside.stage


def test_a_set_on_which_it_does_not_is_not_proven(saved: Host) -> None:
    start = Started({"r1": "not ready within 120 s: GET /readyz answered 503"})
    with pytest.raises(BackupError, match="release r1 of links does not pass its gate on it: not ready") as caught:
        drill(saved, scratch=Aside, start=start)
    assert caught.value.fault == GATE
    assert "backup_drill_releases: false" in str(caught.value)
    assert "proven" not in saved.records.read()


def test_today_s_passwords_are_those_of_the_copy(saved: Host) -> None:
    made = Aside()
    drill(saved, scratch=lambda *_: made, start=Started())
    assert made.server.scripts[-1] == "ALTER ROLE \"owner\" LOGIN PASSWORD 'SCRAM-SHA-256$today';\n"


def test_a_login_that_came_after_the_set_is_in_the_copy(saved: Host, live: Databases) -> None:
    live.members_of = {"owner_1a2b3c4d": "owner", "gone_1a2b3c4d": "gone"}
    made = Aside()
    drill(saved, scratch=lambda *_: made, start=Started())
    assert made.server.scripts[-1].splitlines() == [
        'CREATE ROLE "owner_1a2b3c4d" LOGIN IN ROLE "owner";',
        'ALTER ROLE "owner_1a2b3c4d" SET role TO "owner";',
        "COMMENT ON ROLE \"owner_1a2b3c4d\" IS 'slipway login of owner';",
        "ALTER ROLE \"owner\" LOGIN PASSWORD 'SCRAM-SHA-256$today';",
        "ALTER ROLE \"owner_1a2b3c4d\" LOGIN PASSWORD 'SCRAM-SHA-256$member';",
    ]


@pytest.mark.parametrize(
    ("now", "asked"), [(("0003",), ["r1"]), (("0004",), ["r0"]), ((), ["r1"])], ids=["the same", "another", "unknown"]
)
def test_an_earlier_schema_is_that_of_the_release_of_then(
    saved: Host, live: Databases, now: tuple[str, ...], asked: list[str]
) -> None:
    live.heads_of = {"links": ("0003",)}
    (saved.settings.apps / "links/state.json").write_text('{"release": "r0"}')
    save(saved, "timer")
    (saved.settings.apps / "links/state.json").write_text('{"release": "r1"}')
    live.heads_of = {"links": now}
    start, made = Started(), Aside()
    made.server.heads_of = {"links": ("0003",)}
    drill(saved, scratch=lambda *_: made, start=start)
    assert start.asked == asked


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"releases": False}, "backup_drill_releases is false"),
        ({"apps": Path("/nowhere")}, "no app runs on this host"),
    ],
)
def test_what_cannot_be_proven_is_said(saved: Host, changes: dict[str, Any], why: str) -> None:
    saved.settings = replace(saved.settings, **changes)
    start = Started()
    proof = drill(saved, scratch=Aside, start=start)
    assert (proof["releases"], start.asked) == ([], [])
    assert proof["unproven"].startswith(why)
    assert saved.records.read()["proven"] == proof


def test_without_databases_there_is_nothing_beside_which_one_could_be_started(tmp_path: Path) -> None:
    made, _ = host(tmp_path)
    save(made, "timer")
    assert drill(made, scratch=Aside, start=Started())["unproven"].startswith("no database server is backed up")


def test_a_release_that_cannot_be_started_here_is_not_proven_and_no_failure(saved: Host) -> None:
    (found,) = drill(saved, scratch=Aside, start=Started(unfit="the image of release r1 is not on this host"))[
        "releases"
    ]
    assert found["unproven"] == "the image of release r1 is not on this host"
