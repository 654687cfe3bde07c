"""The caches of a drill are like those of the host, with nothing in them, where a release looks for each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import cache
from ansible_collections.slipway.fleet.plugins.module_utils.backup.likeness import aliases
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import FAILED, GATE, BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.scratch import Scratch
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage

PACKAGED = "bind 127.0.0.1\nport {port}\nunixsocket /run/{name}/redis.sock\ndir /var/lib/{name}\n"
CONTAINED = "bind * -::*\nport 6379\ndir /data\n"
BIND = "/opt/slipway/redis/config:/etc/slipway:ro"
STAGE = Stage("slipway-drill", "/run/netns/slipway-drill")


class Asked:
    """What was run, and what `docker inspect` says of a cache of the host that is published on `port`."""

    def __init__(self, there: bool = True, port: str = "") -> None:
        self.words = list[list[str]]()
        self._there, self._port = there, port

    def __call__(self, words: Sequence[str], *_: Any) -> Ran:
        self.words.append([*words])
        if not self._there:
            return Ran((), 1, "", "No such object")
        found = {
            "Image": "sha256:abc",
            "Config": {"User": "999:999", "Image": "redis:8", "Cmd": ["redis-server", "/etc/slipway/redis.conf"]},
            "HostConfig": {
                "Memory": 67108864,
                "PortBindings": {"6379/tcp": [{"HostIp": "10.0.0.5", "HostPort": self._port}]} if self._port else {},
            },
            "NetworkSettings": {"Networks": {"slipway": {"Aliases": ["redis", "0123456789ab"]}}},
            "Mounts": [
                {"Type": "volume", "Source": "/var/lib/docker/volumes/data", "Destination": "/data"},
                {"Type": "bind", "Source": "/opt/slipway/redis/config", "Destination": "/etc/slipway"},
            ],
        }
        return Ran((), 0, json.dumps([found]))

    def started(self) -> list[list[str]]:
        return [words for words in self.words if words[:2] == ["docker", "run"]]


def configure(apps: Path, text: str, name: str = "redis") -> Path:
    root = apps / "redis" if name == "redis" else apps / "redis/instances" / name.removeprefix("redis-")
    file = root / "config/redis.conf"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def test_a_container_has_its_image_and_settings_under_its_names(tmp_path: Path) -> None:
    configure(tmp_path, CONTAINED)
    asked = Asked()
    with cache.twins(STAGE, tmp_path, tmp_path, asked):
        (started,) = asked.started()
    assert started[-3:] == ["sha256:abc", "redis-server", "/etc/slipway/redis.conf"]
    assert started[started.index("--network") :][:2] == ["--network", "slipway-drill"]
    assert [after for word, after in pairwise(started) if word == "--network-alias"] == ["0123456789ab", "redis"]
    assert started[started.index("--volume") :][:2] == ["--volume", BIND]
    assert asked.words[-1] == started, "it goes with the server of the drill"


def test_each_cache_of_the_host_has_one(tmp_path: Path) -> None:
    configure(tmp_path, CONTAINED)
    configure(tmp_path, CONTAINED, "redis-shop")
    asked = Asked()
    with cache.twins(STAGE, tmp_path, tmp_path, asked):
        names = [words[words.index("--name") + 1] for words in asked.started()]
    assert names == ["slipway-drill-of-redis", "slipway-drill-of-redis-shop"]
    inspected = [words[-1] for words in asked.words if words[:2] == ["docker", "inspect"]]
    assert inspected == ["slipway-redis-redis-1", "slipway-redis-shop-redis-shop-1"]


def test_one_that_is_published_answers_units_on_its_port(tmp_path: Path) -> None:
    configure(tmp_path, CONTAINED)
    asked = Asked(port="6380")
    with cache.twins(STAGE, tmp_path, tmp_path, asked):
        _, started = asked.started()
    assert started[started.index("--network") :][:2] == ["--network", "container:slipway-drill"]
    assert started[-2:] == ["--port", "6380"]
    asked = Asked(port="6380")
    with cache.twins(replace(STAGE, lacks="published nowhere"), tmp_path, tmp_path, asked):
        assert len(asked.started()) == 1, "no unit comes there"


def test_each_goes_with_the_server_of_the_drill_whichever_network_it_is_in() -> None:
    there = {"slipway-drill", "slipway-drill-of-redis", "slipway-drill-of-redis-shop-at-6380", "my-slipway-drill"}

    def run(words: Sequence[str], *_: Any) -> Ran:
        if words[:2] == ["docker", "rm"]:
            there.difference_update(words[2:])
        kind, wanted = words[-1].partition("=")[::2]
        # One that shares the network of another container is in none that Docker would find it by.
        found = [name for name in sorted(there) if words[1] == "ps" and kind == "name" and re.search(wanted, name)]
        return Ran((), 0, "\n".join(found))

    server: Any = None
    Scratch(server, "compose", run).remove()
    assert there == {"my-slipway-drill"}


def test_a_host_without_a_cache_has_none_there(tmp_path: Path) -> None:
    asked = Asked(there=False)
    with cache.twins(STAGE, tmp_path, tmp_path, asked):
        assert asked.words == []
    configure(tmp_path, CONTAINED)
    with cache.twins(STAGE, tmp_path, tmp_path, asked):
        assert asked.started() == []
    assert cache.sockets(tmp_path, tmp_path) == {}


@pytest.mark.parametrize("name", ["redis", "redis-shop"])
def test_that_of_the_package_has_directories_and_a_network_of_its_own(tmp_path: Path, name: str) -> None:
    config = configure(tmp_path / "apps", PACKAGED.format(name=name, port=0), name)
    asked = Asked()
    with cache.twins(STAGE, tmp_path, tmp_path / "apps", asked):
        stopped, _, made, started = asked.words
    assert stopped == ["systemctl", "stop", f"slipway-drill-of-{name}.service"], "one that a killed drill has left"
    own = tmp_path / f"slipway-drill-of-{name}"
    assert made[-2:] == [str(own / "socket"), str(own / "data")]
    assert "--owner=redis" in made
    assert started[started.index("/usr/bin/redis-server") + 1] == str(config)
    assert "--property=NetworkNamespacePath=/run/netns/slipway-drill" in started
    assert f"--property=BindPaths={own}/socket:/run/{name} {own}/data:/var/lib/{name}" in started
    assert asked.words[-1] == ["systemctl", "stop", f"slipway-drill-of-{name}.service"]
    assert cache.sockets(tmp_path, tmp_path / "apps") == {f"/run/{name}": own / "socket"}


def test_one_that_does_not_start_is_no_verdict_about_the_set(tmp_path: Path) -> None:
    configure(tmp_path, PACKAGED.format(name="redis", port=0))

    def run(words: Sequence[str], *_: Any) -> Ran:
        return Ran((), int(words[0] == "systemd-run"), "", "Unit slipway-drill-of-redis.service already exists.")

    said = "what stands in for redis was not there: Unit slipway-drill-of-redis.service already exists.; no answer"
    with pytest.raises(BackupError, match=said) as caught, cache.twins(STAGE, tmp_path, tmp_path, run):
        raise BackupError(GATE, "no answer")
    assert caught.value.fault == FAILED
    with cache.twins(STAGE, tmp_path, tmp_path, run):
        pass  # a release that needs none passes


def test_that_of_the_package_needs_no_network_of_the_drill(tmp_path: Path) -> None:
    configure(tmp_path, PACKAGED.format(name="redis", port=0))
    asked = Asked()
    with cache.twins(replace(STAGE, lacks="published nowhere"), tmp_path, tmp_path, asked):
        assert "--property=PrivateNetwork=yes" in asked.words[-1]


def test_the_names_of_a_container_in_its_networks() -> None:
    networks = {"slipway": {"Aliases": ["redis", "0123456789ab"]}, "other": {"Aliases": None}}
    assert aliases(networks) == ["0123456789ab", "redis"]
