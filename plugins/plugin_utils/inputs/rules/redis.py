# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.redis must be beyond their types."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Least, Values, password, published


def cache(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no cache can be run with."""
    yield from password("redis_password", value_of)
    yield from Least("redis_memory_mib", 32).broken(value_of)
    yield from published("redis_publish", "10.0.0.5:6379", value_of)
