# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filter that reads where the caches of a host are reached."""

from __future__ import annotations

import re
from typing import Any

# Whose directory it is, and what stands in a line of compose.yaml, config/redis.conf or config/app of the role redis.
_LINE = re.compile(r"^(.*?)/(?:config/)?(compose\.yaml|redis\.conf|app):(.*)$", re.MULTILINE)
_PORTS = re.compile(r'^ *ports: \["(.*):\d+"\]$')


def redis_published(found: str) -> list[dict[str, str]]:
    """Of each cache that is reached from elsewhere `root`, `app` and `address`, as redis_publish has that.

    `found` are lines of the files of all caches, each after the path of its file and a colon, as grep writes them.
    """
    caches: dict[str, dict[str, str]] = {}
    for root, file, line in _LINE.findall(found):
        said = caches.setdefault(root, {"app": ""})
        if file == "app":
            said["app"] = line
        elif file == "redis.conf":
            name, value, *_ = line.split()
            said[name] = value
        elif ports := _PORTS.match(line):
            said["published"] = ports[1]
    return [
        {"root": root, "app": said["app"], "address": _address(said)} for root, said in caches.items() if _address(said)
    ]


def _address(said: dict[str, str]) -> str:
    """In a container Redis listens on all addresses, of which those that Docker publishes are reached."""
    if said.get("bind", "*") == "*":
        return said.get("published", "")
    return f"{said['bind']}:{said['port']}" if said.get("port", "0") != "0" else ""


class FilterModule:
    """redis_published, of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"redis_published": redis_published}
