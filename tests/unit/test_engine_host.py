"""What would be lost of a Docker Engine that is there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import engine
from ansible_collections.slipway.fleet.plugins.module_utils.host.engine import There, problems

WANTED = {"live-restore": True, "log-driver": "local", "icc": False}


@pytest.mark.parametrize(
    ("there", "source", "said"),
    [
        (There(), "distribution", ""),
        (There({"docker.io": "26.1"}), "distribution", ""),
        (There({"docker-ce": "5:27.3"}), "docker", ""),
        (
            There({"docker-ce": "5:27.3"}),
            "distribution",
            "take its place with what runs on it; write docker_engine_source: docker to go on with it, or remove it",
        ),
        (There({"moby-engine": "20.10"}), "docker", "what runs on it; remove it first: apt-get remove moby-engine"),
        (There(snap=True), "docker", "snap remove docker"),
        (There(daemon=WANTED), "docker", ""),
        (
            There(daemon={"insecure-registries": ["a:5000"], "icc": False, "log-driver": "journald"}),
            "docker",
            'write docker_engine_daemon: {"insecure-registries": ["a:5000"], "log-driver": "journald"} to keep them',
        ),
        (There(unreadable="Expecting value"), "docker", "cannot be read (Expecting value); mend it, or move it away"),
        (There(swarm=True), "docker", "docker_engine_daemon: {live-restore: null}"),
    ],
)
def test_what_would_be_lost_is_said(there: There, source: str, said: str) -> None:
    found = problems(there, source, WANTED, [])
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_what_the_message_says_is_enough() -> None:
    there = There(daemon={"insecure-registries": ["a:5000"], "log-driver": "journald"}, swarm=True)
    named = {**json.loads(problems(there, "docker", WANTED, [])[0].split("daemon: ", 1)[1].split(" to keep")[0])}
    wanted = {**WANTED, **named, "live-restore": None}
    assert problems(there, "docker", wanted, list(named)) == []


@pytest.mark.parametrize(
    ("text", "ours", "daemon", "unreadable"),
    [
        (None, False, None, False),
        ('{"icc": true}', False, {"icc": True}, False),
        ('{"icc": true}', True, None, False),
        ("", False, {}, False),
        ("{", False, None, True),
        ("[]", False, None, True),
    ],
)
def test_a_file_of_the_role_is_no_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, ours: bool, daemon: Any, unreadable: bool
) -> None:
    monkeypatch.setattr(engine, "_packages", dict)
    for path, content in ((engine.DAEMON, text), (engine.OURS, "" if ours else None)):
        if content is not None:
            file = tmp_path / path.relative_to("/")
            file.parent.mkdir(parents=True)
            file.write_text(content)
    there = engine.look(tmp_path)
    assert (there.daemon, bool(there.unreadable)) == (daemon, unreadable)


def test_packages_are_those_that_dpkg_has_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the real dpkg and a database of its own; one that was removed is known to it still."""
    (tmp_path / "status").write_text(
        "".join(
            f"Package: {name}\nStatus: {status}\nMaintainer: nobody\nArchitecture: all\nVersion: {version}\n"
            "Description: none\n\n"
            for name, version, status in (
                ("docker-ce", "5:27.3", "install ok installed"),
                ("docker.io", "26.1", "deinstall ok config-files"),
            )
        )
    )
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path))
    assert engine.look(tmp_path).packages == {"docker-ce": "5:27.3"}
