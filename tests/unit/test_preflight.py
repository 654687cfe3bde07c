"""What the preflight sees of a host in memory, and of its disks."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import certificates
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release import observe, preflight
from ansible_collections.slipway.fleet.plugins.module_utils.release.preflight import (
    HOST,
    disk_problems,
    find_problems,
    notes_on,
    place_problem,
    places,
    scheme_problem,
    seen,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.timers import Timers

from tests.unit.memory import Host, deploy, no_sync, stage, transaction  # noqa: F401 - a fixture of every test here


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """The directory of an app, in one of all apps that no other test has."""
    found = tmp_path / "apps" / "links"
    found.mkdir(parents=True)
    return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host()
    for release in ("one", "two"):
        deploy(tmp_path, found, release, about={"migration": f"m-{release}", "image": f"app:{release}"})
    return found


def look(root: Path, host: Host, purpose: str = "deploy", release: str = "") -> dict[str, Any]:
    return seen(purpose, release, HOST, transaction(root, host, release), Timers("links", Store(root)))


def test_it_is_settled_by_what_serves(tmp_path: Path, host: Host) -> None:
    assert look(tmp_path, host, release="two")["settled"]
    assert not look(tmp_path, host, release="one")["settled"]
    assert not look(tmp_path, host, "restart")["settled"]
    host.enabled["green" if host.running["green"] else "blue"] = False
    found = look(tmp_path, host, release="two")
    assert not found["settled"]
    assert found["serving"] is None


def test_what_it_could_return_to_and_whether_that_is_there(tmp_path: Path, host: Host) -> None:
    class Lacking(Host):
        def there(self, releases: list[str]) -> list[str]:
            return [release for release in releases if release != "one"]

    host.__class__ = Lacking
    assert look(tmp_path, host, "rollback")["release"] == "one"
    assert look(tmp_path, host, release="three")["good"] == [
        {"release": "one", "migration": "m-one", "image": "app:one", "there": False},
        {"release": "two", "migration": "m-two", "image": "app:two", "there": True},
    ]


def test_a_rollback_is_from_what_serves_and_not_from_what_is_recorded(tmp_path: Path, host: Host) -> None:
    stage(tmp_path, "three")
    (tmp_path / "state.json").write_text('{"release": "one", "slot": "blue", "since": ""}')
    found = look(tmp_path, host, "rollback")
    assert (found["serving"]["release"], found["release"]) == ("two", "one")


def test_where_there_is_nothing_to_return_to(tmp_path: Path) -> None:
    host = Host()
    deploy(tmp_path, host, "one")
    with pytest.raises(SlipwayError, match="no good release before one"):
        look(tmp_path, host, "rollback")


def notes(root: Path, host: Host, release: str, purpose: str = "deploy", **said: Any) -> list[str]:
    found = look(root, host, purpose, release)
    return notes_on(purpose, {**HOST, **said}, transaction(root, host, release), found)


def test_that_nobody_will_answer_is_said_before(tmp_path: Path, host: Host) -> None:
    assert notes(tmp_path, host, "three") == []
    (note,) = notes(tmp_path, host, "three", overlap=False)
    assert note.startswith("release two is stopped before the next one starts, as fastapi_app_slots_overlap says")
    assert notes(tmp_path, host, "two", overlap=False) == [], "it serves already"
    (tmp_path / "releases/one/keeps.json").write_text('{"overlap": false}')
    assert len(notes(tmp_path, host, "one", "rollback")) == 1


def test_that_it_will_run_as_root_is_said_before(tmp_path: Path, host: Host) -> None:
    assert notes(tmp_path, host, "three", user="1000") == []
    for user in ("root", "0", "root:root"):
        assert notes(tmp_path, host, "three", user=user) == [
            "the app runs as root in its container, as fastapi_app_user says"
        ]


def test_another_app_of_this_name_is_a_problem_before_anything_is_sent(tmp_path: Path) -> None:
    def found(purpose: str = "deploy", names: tuple[str, ...] = ("b.example",), former: str = "") -> str:
        return place_problem(purpose, "links", list(names), [former] if former else [], tmp_path) or ""

    assert found() == ""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/links.cfg").write_text("# host name: a.example\n# redirect name: c.example\n")
    assert found().startswith("links is behind this edge as a.example, c.example already, and here links is b.example")
    assert [found("rollback"), found(names=()), found(former="a.example"), found(names=("c.example",))] == [""] * 4
    (tmp_path / "apps/links.cfg").write_text("# host name: a.example\n# former name: b.example\n")
    assert found() == "", "a rename that is taken back"


def test_an_edge_that_does_not_answer_is_told_apart_from_one_that_is_not_installed(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"app": "links", "edge": {"state_file": str(tmp_path / "state"), "socket": str(tmp_path / "socket")}}

    def found() -> list[str]:
        problems = find_problems("deploy", "three", "", HOST, transaction(tmp_path, host, "three"), place)
        return [problem for problem in problems if "HAProxy" in problem]

    host.unseen = {"edge"}
    (tmp_path / "haproxy").write_text("#!/bin/sh\n")
    (tmp_path / "haproxy").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert found() == ["HAProxy does not answer"]
    (tmp_path / "haproxy").unlink()
    provisioned = "run slipway.fleet.provision, as slipway.fleet.site does first"
    assert found() == [f"HAProxy is not installed; {provisioned}"]


def test_a_uid_of_somebody_else_is_a_problem_before_anything_is_sent(tmp_path: Path, host: Host) -> None:
    place = {"app": "links", "edge": {"state_file": str(tmp_path / "state"), "socket": str(tmp_path / "socket")}}

    def found(**said: Any) -> list[str]:
        problems = find_problems("deploy", "three", "", {**HOST, **said}, transaction(tmp_path, host, "three"), place)
        return [problem for problem in problems if problem.startswith("uid")]

    (problem,) = found(runtime="systemd", uid=1)
    assert problem.startswith("uid 1 belongs to daemon on this host, not to slipway-links; give fastapi_app_uid")
    assert found(runtime="compose", uid=1) == []
    assert found(runtime="systemd", uid=54321) == []


def test_limits_that_are_more_than_the_host_has_are_said_before_and_keep_nobody_from_anything(
    tmp_path: Path, host: Host
) -> None:
    """They reserve nothing: what deployed on a small host goes on to."""
    (note,) = notes(tmp_path, host, "three", slot_mib=1 << 30)
    assert "Lower fastapi_app_memory_mib" in note
    said = {**HOST, "slot_mib": 1 << 30, "processes": {"worker": {"replicas": 9, "memory_mib": 1 << 30}}}
    place = {"app": "links", "edge": {"state_file": str(tmp_path / "state"), "socket": str(tmp_path / "socket")}}
    found = find_problems("deploy", "three", "", said, transaction(tmp_path, host, "three"), place)
    assert not any("memory" in problem for problem in found)
    assert notes(tmp_path, host, "one", "rollback", slot_mib=1 << 30) == []


def test_processors_that_all_apps_want_at_once_are_said_before(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "processors", lambda: 2)
    assert notes(tmp_path, host, "three", cpus=2.0) == []
    worker = {"worker": {"replicas": 3, "memory_mib": 1, "cpus": 1.0}}
    (note,) = notes(tmp_path, host, "three", cpus=2.0, processes=worker)
    assert note.startswith("processors: this host has 2, and a slot of 2 and its processes (worker 3) may use 5")
    assert notes(tmp_path, host, "one", "rollback", cpus=2.0, processes=worker) == []


def test_limits_count_together_with_all_that_is_on_the_host(tmp_path: Path, host: Host) -> None:
    """One that fits by itself does not beside a database that may take all there is."""
    database = tmp_path.parent / "postgres"
    database.mkdir()
    (database / "compose.yaml").write_text(f"    mem_limit: {1 << 24}m\n")
    try:
        (note,) = notes(tmp_path, host, "three", slot_mib=64)
    finally:
        (database / "compose.yaml").unlink()
        database.rmdir()
    assert f"a slot of 64 beside postgres {1 << 24} may take" in note
    assert "Lower postgres_memory_mib" in note


GIB = 1 << 30


def disks(monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, table: int = 1000) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=table, f_favail=inodes))


@pytest.mark.parametrize(
    ("free", "inodes", "table", "said"),
    [
        (3 * GIB, 100_000, 1000, []),
        (GIB, 100_000, 1000, ["1024 MiB free, a release needs 2048"]),
        (3 * GIB, 12, 1000, ["12 inodes free"]),
        (GIB, 12, 1000, ["1024 MiB free", "12 inodes free"]),
        (3 * GIB, 0, 0, []),
    ],
)
def test_room_and_inodes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, inodes: int, table: int, said: list[str]
) -> None:
    disks(monkeypatch, free, inodes, table)
    found = disk_problems({tmp_path / "app/not/there/yet": True}, GIB, GIB)
    assert len(found) == len(said)
    assert all(words in problem for words, problem in zip(said, found, strict=True))


def test_where_only_records_are_written_little_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disks(monkeypatch, 100 << 20, 200)
    assert disk_problems({tmp_path: False}, GIB, GIB) == []
    disks(monkeypatch, 1 << 20, 20)
    assert len(disk_problems({tmp_path: False}, GIB, GIB)) == 2
    disks(monkeypatch, 100 << 20, 200_000)
    both = {tmp_path / "a": False, tmp_path / "b": True}
    assert len(disk_problems(both, GIB, GIB)) == 1, "one file system, by the most that it needs"


def test_every_path_that_is_written_is_looked_at(tmp_path: Path) -> None:
    found = places("compose", tmp_path, [Path("/var/lib/haproxy"), tmp_path])
    assert found == {Path("/var/lib/haproxy"): False, tmp_path: True, Path("/var/lib/docker"): True}


@pytest.mark.parametrize(
    ("settings", "purpose", "proto", "refused"),
    [
        ({"haproxy_tls_certificate": "1f", "haproxy_acme_email": ""}, "deploy", "http", True),
        ({"haproxy_tls_certificate": "", "haproxy_acme_email": "ops@example.org"}, "deploy", "http", True),
        ({"haproxy_tls_certificate": "1f"}, "deploy", "https", False),
        ({"haproxy_tls_certificate": "1f"}, "rollback", "http", False),
        ({"haproxy_tls_certificate": ""}, "deploy", "http", False),
        (None, "deploy", "http", False),
    ],
)
def test_an_app_that_takes_itself_for_one_by_http_is_refused_at_an_edge_with_certificates(
    tmp_path: Path, settings: dict[str, str] | None, purpose: str, proto: str, refused: bool
) -> None:
    if settings is not None:
        (tmp_path / "edge.json").write_text(json.dumps({"apps": ["shop"], "settings": settings}))
    problem = scheme_problem(purpose, proto, tmp_path)
    assert ("fastapi_app_edge_scheme is http; set it to https" in str(problem)) is refused
    (tmp_path / "edge.json").write_text("{")
    assert scheme_problem(purpose, proto, tmp_path) is None, "what cannot be read refuses nothing"


def test_the_certificates_of_the_edge_are_around_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"issuer": "R11", "renewed": "", "tried": "", "error": ""}
    ordered = [{"name": "a.example", "days": 61, **entry}, {"name": "b.example", "days": None, **entry}]
    monkeypatch.setattr(certificates, "of_this_edge", lambda: ordered)
    monkeypatch.setattr(certificates, "SETTINGS", tmp_path / "edge" / "acme.json")
    found = observe.surroundings(transaction(tmp_path, Host(), "one"), None, 14, 0)
    assert (found["certificates"], found["certificate_days"]) == (ordered, 61)
    assert found["drift"] == ["b.example has no certificate yet: none was ordered; run slipway.fleet.provision"]
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "edge.json").write_text("{")
    damaged, _ = observe.surroundings(transaction(tmp_path, Host(), "one"), None, 14, 0)["drift"]
    assert damaged.startswith(f"{tmp_path}/edge/edge.json cannot be read (")
    assert damaged.endswith("; remove it and run slipway.fleet.provision again")
