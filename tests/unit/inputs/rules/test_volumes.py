"""Which volumes an app cannot have, and what is to be written instead."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.volumes import volumes


@pytest.mark.parametrize(
    ("given", "runtime", "said"),
    [
        ({}, "compose", []),
        ({"uploads": "/data/uploads", "media_2": "/app/media"}, "compose", []),
        ({"uploads": "/home/shop/uploads", "cache": "/usr/src/app/.cache"}, "compose", ["without dots"]),
        ({"uploads": "/home/shop/uploads"}, "compose", []),
        ({"uploads": "/home/shop/uploads"}, "systemd", ["under systemd the app sees /home"]),
        ({"uploads": "/srv/uploads"}, "systemd", []),
        ({"Uploads": "/data"}, "compose", ['"Uploads" is at "/data"; a name has at most 31 lower case']),
        ({"../x": "/data"}, "compose", ["a name has"]),
        ({5: "/data"}, "compose", []),
        ({"uploads": "data/uploads"}, "compose", ["write the absolute path"]),
        ({"uploads": "/data/../etc"}, "compose", ["write the absolute path"]),
        ({"uploads": "/data/"}, "compose", ["write the absolute path"]),
        ({"uploads": "/"}, "compose", ["write the absolute path"]),
        ({"uploads": None}, "compose", ["is at null; write the absolute path"]),
        ({"uploads": "/etc"}, "compose", ["/etc belongs to the system"]),
        ({"uploads": "/run/secrets/more"}, "compose", ["/run belongs to the system"]),
        ({"uploads": "/tmp/uploads"}, "compose", ["/tmp belongs to the system or goes with the process"]),
        ({"uploads": "/opt/slipway/links"}, "compose", ["/opt/slipway belongs"]),
        ({"uploads": "/srv"}, "systemd", ["would hide all that is there; give it a directory below, such as /srv/upl"]),
        ({"uploads": "/var"}, "compose", ["would hide all that is there"]),
        ({"a": "/data", "b": "/data"}, "compose", ["a is at /data and b at /data, one of them in the other"]),
        ({"a": "/data/a/b", "b": "/data/a"}, "compose", ["one of them in the other"]),
        ({"a": "/data/a", "b": "/data/ab"}, "compose", []),
        ({"a": "/sockets/db/more"}, "compose", ["a is at /sockets/db/more, where the app has /sockets/db"]),
    ],
)
def test_volumes_are_checked_by_themselves_and_beside_each_other(
    given: dict[Any, Any], runtime: str, said: list[str]
) -> None:
    found = list(volumes(given, runtime, ["/sockets/db"]))
    assert len(found) == len(said), found
    for sentence, part in zip(found, said, strict=True):
        assert part in sentence
