"""Which caches a host has, by the files that the role puts there and what runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.release.caches import Cache, caches

from tests.templates.rendering import Role

PASSWORD = "b" * 16


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What Docker and systemd say, by the words of a command; what is not there was not found."""
    said: dict[str, str] = {}

    def run(words: Sequence[str], _timeout: float) -> command.Ran:
        line = " ".join(words)
        for known, answer in said.items():
            if known in line:
                return command.Ran(tuple(words), 0, answer)
        return command.Ran(tuple(words), 1, "", "no such thing")

    monkeypatch.setattr(command, "run", run)
    return said


def provision(host: Path, **variables: object) -> None:
    """Put there what the role puts there, below `host`."""
    role = Role("redis", redis_password=PASSWORD, slipway_app="", **variables)
    native = variables.get("redis_provider") == "native"
    for item in role.value("__redis_native_files" if native else "__redis_files"):
        path = host / str(item["dest"]).lstrip("/")
        if item.get("state") == "directory":
            path.mkdir(parents=True, exist_ok=True)
        elif item.get("state") != "absent":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(role.render(item["src"]) if "src" in item else str(item["content"]))


def seen(host: Path) -> list[Cache]:
    return caches(host / "opt/slipway", host / "etc/systemd/system")


def test_a_host_without_any_has_none(tmp_path: Path) -> None:
    assert seen(tmp_path) == []


def test_one_in_a_container_and_a_store_of_the_distribution(tmp_path: Path, programs: dict[str, str]) -> None:
    provision(tmp_path, redis_app="links", redis_memory_mib=96)
    shop = {"redis_app": "shop", "redis_instance": "shop", "redis_mode": "store", "redis_provider": "native"}
    provision(tmp_path, **shop, redis_memory_mib=64)
    programs["ps --quiet --filter label=com.docker.compose.project=slipway-redis "] = "abc\n"
    programs["inspect --format {{.State.Pid}} abc"] = f"{os.getpid()}\n"
    programs["show --property=MainPID --value redis-server@shop.service"] = "0\n"
    first, second = seen(tmp_path)
    assert first.used_mib is not None
    assert 5 < first.used_mib < 4096, "the memory of this process"
    assert first == Cache("redis", "links", "cache", "compose", 96, first.used_mib)
    assert second == Cache("redis-shop", "shop", "store", "native", 64, None)


def test_why_nobody_knows_whether_one_runs_is_told(tmp_path: Path, programs: dict[str, str]) -> None:
    provision(tmp_path)
    (one,) = seen(tmp_path)
    assert (one.app, one.used_mib, one.unseen) == ("", None, "`docker ps` failed: no such thing")
    programs["docker ps"] = "\n"
    assert seen(tmp_path)[0].unseen == "", "no container is one that does not run"
