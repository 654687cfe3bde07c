"""The cache of a drill is like that of the host, with nothing in it, where a release looks for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import cache
from ansible_collections.slipway.fleet.plugins.module_utils.backup.scratch import aliases
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage

PACKAGED = "bind 127.0.0.1\nport 0\nunixsocket /run/redis/redis.sock\ndir /var/lib/redis\n"
STAGE = Stage(namespace="/run/netns/slipway-drill")


class Asked:
    """What was run, and what `docker inspect` says of the cache of the host."""

    def __init__(self, told: Ran) -> None:
        self.told, self.words = told, list[list[str]]()

    def __call__(self, words: Sequence[str], *_: Any) -> Ran:
        self.words.append([*words])
        return self.told


@pytest.fixture
def config(tmp_path: Path) -> Path:
    made = tmp_path / "redis.conf"
    made.write_text(PACKAGED)
    return made


def test_a_container_has_its_image_and_settings_in_the_network_of_the_server(tmp_path: Path) -> None:
    bind = "/opt/slipway/redis/config:/etc/slipway:ro"
    asked = Asked(Ran((), 0, f"sha256:abc\n999:999\n67108864\n\tredis-server\t/etc/slipway/redis.conf\n{bind}\n"))
    with cache.twin(STAGE, tmp_path, asked, tmp_path / "none"):
        started = asked.words[-1]
    assert started[-3:] == ["sha256:abc", "redis-server", "/etc/slipway/redis.conf"]
    assert started[started.index("--network") :][:2] == ["--network", "container:slipway-drill"]
    assert ["--volume", bind] == started[started.index("--volume") :][:2]
    assert asked.words[-1] == started, "it goes with that network"


def test_a_host_without_a_cache_has_none_there(tmp_path: Path) -> None:
    asked = Asked(Ran((), 1, "", "No such object"))
    with cache.twin(STAGE, tmp_path, asked, tmp_path / "none"):
        assert [words[:2] for words in asked.words] == [["docker", "inspect"]]
    assert cache.sockets(tmp_path, tmp_path / "none") == {}


def test_that_of_the_package_has_directories_and_a_network_of_its_own(tmp_path: Path, config: Path) -> None:
    asked = Asked(Ran((), 0))
    with cache.twin(STAGE, tmp_path, asked, config):
        made, started = asked.words
    own = tmp_path / "slipway-drill-cache"
    assert made[-2:] == [str(own / "socket"), str(own / "data")]
    assert "--owner=redis" in made
    assert started[started.index("/usr/bin/redis-server") + 1] == str(config)
    assert "--property=NetworkNamespacePath=/run/netns/slipway-drill" in started
    assert f"--property=BindPaths={own}/socket:/run/redis {own}/data:/var/lib/redis" in started
    assert asked.words[-1] == ["systemctl", "stop", "slipway-drill-cache.service"]
    assert cache.sockets(tmp_path, config) == {"/run/redis": own / "socket"}


def test_the_names_of_a_container_in_its_networks() -> None:
    networks = {"slipway": {"Aliases": ["redis", "0123456789ab"]}, "other": {"Aliases": None}}
    assert aliases(json.dumps(networks)) == ["0123456789ab", "redis"]
