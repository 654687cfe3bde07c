# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.redis must be beyond their types."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import (
    Least,
    Like,
    Values,
    broken,
    password,
    published,
)

_RULES = (
    Least("redis_memory_mib", 32),
    # With what stands before it, it is a host name, a unit of systemd and a project of Compose.
    Like(
        "redis_instance",
        "(?:[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?)?",
        "up to 40 small letters, digits and - after a letter, such as the app's name, or nothing",
    ),
)

# Settings by which nothing is forgotten, and the backup finds the files.
_OF_A_STORE = {"appendonly", "maxmemory-policy", "appendfilename", "appenddirname", "dir"}


def cache(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no cache can be run with."""
    yield from password("redis_password", value_of)
    yield from broken(_RULES, value_of)
    yield from published("redis_publish", "10.0.0.5:6379", value_of)
    if value_of("redis_mode") == "store":
        yield from _forgets(value_of)


def _forgets(value_of: Values) -> Iterator[str]:
    for name in value_of("redis_settings"):
        if str(name).lower() in _OF_A_STORE:
            yield (
                f"redis_settings has {name}, by which a store (redis_mode) is kept and backed up; leave it out, or say "
                "redis_mode: cache."
            )
    eviction = str(value_of("redis_eviction"))
    if eviction != "noeviction":
        yield (
            f"redis_eviction is {eviction}, by which a store (redis_mode) loses keys when its memory is used up; leave "
            "it out, or say redis_mode: cache."
        )
    if not value_of("redis_persistence"):
        yield (
            "redis_persistence is false, by which a store (redis_mode) is empty after a restart; leave it out, or say "
            "redis_mode: cache."
        )
