# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A filter that says what an app has in a database server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def app_databases(more: Mapping[str, Any], name: str, user: str, password: str, login: str) -> dict[str, Any]:
    """The databases of an app and, apart from them, the password of each role.

    Args:
        more: postgres_databases; what is not said of one is as its name says, of the first one as that has it
        name: postgres_database, the first one
        user: its role
        password: of that role
        login: postgres_login, by which the app comes as that role
    """
    said = {name: {}, **{str(key): dict(value or {}) for key, value in more.items()}}
    roles = {key: str(one.get("user") or (user if key == name else key)) for key, one in said.items()}
    logins = {roles[key]: str(one["login"]) for key, one in said.items() if one.get("login")} | {user: login}
    databases, passwords = [], {}
    for key, one in said.items():
        role = roles[key]
        database = {"name": key, "user": role, "extensions": [str(item) for item in one.get("extensions") or []]}
        # What is not said is not told to the host, so that an app without logins is told as it always was.
        if logins.get(role, role) != role:
            database["login"] = logins[role]
        databases.append(database)
        if role == user:
            passwords[role] = password
        elif one.get("password"):
            passwords[role] = str(one["password"])
    return {"databases": databases, "passwords": passwords}


def login_credentials(more: Mapping[str, Any]) -> dict[str, str]:
    """Login and password of the further databases (postgres_databases) that name a login, as a template has them."""
    return {
        f"postgres_databases.{key}.{name}": str(one[name])
        for key, one in more.items()
        for name in ("login", "password")
        if one and one.get("login") and one.get(name)
    }


class FilterModule:
    """What stands above, of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"app_databases": app_databases, "login_credentials": login_credentials}
