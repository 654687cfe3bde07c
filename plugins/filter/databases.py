# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A filter that says what an app has in a database server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def app_databases(more: Mapping[str, Any], name: str, user: str, password: str) -> dict[str, Any]:
    """The databases of an app and, apart from them, the password of each role.

    Args:
        more: postgres_databases; what is not said of one is as its name says, of the first one as that has it
        name: postgres_database, the first one
        user: its role
        password: of that role
    """
    said = {name: {}, **{str(key): dict(value or {}) for key, value in more.items()}}
    databases, passwords = [], {}
    for key, one in said.items():
        role = str(one.get("user") or (user if key == name else key))
        databases.append({"name": key, "user": role, "extensions": [str(item) for item in one.get("extensions") or []]})
        if role == user:
            passwords[role] = password
        elif one.get("password"):
            passwords[role] = str(one["password"])
    return {"databases": databases, "passwords": passwords}


class FilterModule:
    """What stands above, of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"app_databases": app_databases}
