# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.postgres must be beyond their types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Least, Values, password, published

_NAME = "[a-z_][a-z0-9_]{0,62}"
_BROUGHT = {"postgres", "template0", "template1"}


def database(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no database can be run with."""
    yield from _names(str(value_of("postgres_database")), str(value_of("postgres_user")))
    yield from _login(str(value_of("postgres_login")))
    yield from password("postgres_password", value_of)
    yield from Least("postgres_memory_mib", 128).broken(value_of)
    yield from published("postgres_publish", "10.0.0.5:5432", value_of)
    if value_of("postgres_provider") == "native":
        yield from _platform(value_of)


def _names(name: str, user: str) -> Iterator[str]:
    plain = re.fullmatch(_NAME, name) and re.fullmatch(_NAME, user)
    if not plain or name in _BROUGHT or user == "postgres":
        yield (
            f"postgres_database ({name}) and postgres_user ({user}) must be lower case letters, digits and "
            "underscores, at most 63, and not those that PostgreSQL brings (postgres, template0, template1)."
        )


def _login(name: str) -> Iterator[str]:
    if not re.fullmatch(_NAME, name) or name == "postgres":
        yield (
            f"postgres_login ({name}) must be lower case letters, digits and underscores, at most 63, and not "
            "postgres; leave it away, or write \"{{ 'NAME' | slipway.fleet.login_of(vault_postgres_password) }}\" with "
            "postgres_user as NAME."
        )


def _platform(value_of: Values) -> Iterator[str]:
    platform, versions = value_of("__postgres_platform").strip(), value_of("__postgres_versions")
    if platform not in versions:
        yield (
            f"postgres_provider is native, which knows the packages of {', '.join(versions)} and not those of "
            f"{platform}; use postgres_provider: compose here."
        )
