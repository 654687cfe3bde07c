# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which rules hold for what: a file of `rules/` for each role, and in it a function for each use of the role."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules import (
    docker_engine,
    fastapi_app,
    fastapi_image,
    haproxy,
    postgres,
    redis,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

RULES: Mapping[str, Callable[[Values], Iterator[str]]] = {
    "docker_engine": docker_engine.host,
    "fastapi_app": fastapi_app.app,
    "fastapi_app.release": fastapi_app.release,
    "fastapi_app.command": fastapi_app.command,
    "fastapi_app.removal": fastapi_app.removal,
    "fastapi_app.volume": fastapi_app.volume,
    "fastapi_image": fastapi_image.image,
    "haproxy": haproxy.edge,
    "postgres": postgres.database,
    "redis": redis.cache,
}


def wrong_values(use: str, value_of: Values) -> list[str]:
    """A sentence for each value that cannot be used in this use of a role."""
    return list(RULES[use](value_of))
