# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Where the content of each host's release comes from: one object for all hosts that are to get the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Content, Host, Identity, Result


class Present:
    """What another role of the play has put on the host already."""

    def __init__(self, reference: str, content: str) -> None:
        self._identity = Identity(reference, content)

    async def identify(self) -> Identity:
        return self._identity

    async def look(self, host: Host) -> Result:
        return {}

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        return False

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        return self._identity, False

    async def bill(self) -> Path | None:
        return None


def shared(
    wanted: Mapping[str, Mapping[str, Any]], makers: Mapping[str, Callable[[Mapping[str, Any]], Content]]
) -> dict[str, Content]:
    """The content of each host, made once for equal requests.

    Args:
        wanted: for each host the `kind` and the `request`
        makers: for each kind what makes a content of a request
    """
    made: dict[str, Content] = {}
    found = {}
    for host, content in wanted.items():
        key = json.dumps([content["kind"], content["request"]], sort_keys=True, default=str)
        if key not in made:
            made[key] = makers[content["kind"]](content["request"])
        found[host] = made[key]
    return found
