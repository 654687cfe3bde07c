# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.postgres must be beyond their types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Least, Values, password, published

_NAME = "[a-z_][a-z0-9_]{0,62}"
_APP = "[a-z0-9][a-z0-9_-]{0,62}"
_EXTENSION = "[a-z][a-z0-9_-]{0,62}"
_KEYS = ("user", "password", "login", "extensions")
_BROUGHT = {"postgres", "template0", "template1"}


def database(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no database can be run with."""
    yield from _names(str(value_of("postgres_database")), str(value_of("postgres_user")))
    yield from _login("postgres_login", "postgres", str(value_of("postgres_user")), str(value_of("postgres_login")))
    yield from password("postgres_password", value_of)
    yield from _more(value_of)
    if not re.fullmatch(_APP, str(value_of("postgres_app"))):
        yield f"postgres_app is {value_of('postgres_app')!r}; use the name of the app (fastapi_app_name), lower case."
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


def _login(where: str, secret: str, user: str, name: str) -> Iterator[str]:
    if not re.fullmatch(_NAME, name) or name == "postgres":
        yield (
            f"{where} ({name}) must be lower case letters, digits and underscores, at most 63, and not postgres; "
            f"leave it away, or write \"{{{{ '{user}' | slipway.fleet.login_of(vault_{secret}_password) }}}}\"."
        )


def _more(value_of: Values) -> Iterator[str]:
    """Of postgres_databases: each key is a database, and a role has one password and one login."""
    name, first = str(value_of("postgres_database")), str(value_of("postgres_user"))
    passwords = {first: str(value_of("postgres_password"))}
    logins = {first: str(value_of("postgres_login"))}
    for key, said in value_of("postgres_databases").items():
        where = f"postgres_databases: {key}"
        if not isinstance(said, Mapping) or (unknown := sorted(set(map(str, said)) - set(_KEYS))):
            what = (
                f"{', '.join(unknown)} is no part of a database" if isinstance(said, Mapping) else "it is no dictionary"
            )
            form = "{user: ..., password: ..., login: ..., extensions: [...]}"
            yield f"{where}: {what}; write {form}, {{}} for none of them."
            continue
        user = str(said.get("user") or (first if key == name else key))
        if key == name and (user != first or said.get("password", passwords[first]) != passwords[first]):
            yield f"{where} is postgres_database, whose user and password are postgres_user and postgres_password."
            continue
        if not re.fullmatch(_NAME, str(key)) or not re.fullmatch(_NAME, user) or key in _BROUGHT or user == "postgres":
            yield (
                f"{where}: a database and its user ({user}) must be lower case letters, digits and underscores, at "
                "most 63, and not those that PostgreSQL brings (postgres, template0, template1)."
            )
        yield from _password(where, user, said, passwords)
        if "login" in said:
            yield from _member(where, user, str(said["login"]), logins)
        yield from _extensions(where, said.get("extensions") or [])


def _member(where: str, user: str, login: str, logins: dict[str, str]) -> Iterator[str]:
    yield from _login(f"{where}: login", user, user, login)
    if logins.setdefault(user, login) != login:
        yield f"{where}: its user {user} has another login elsewhere; a role has one, so leave it out here."


def _password(where: str, user: str, said: Mapping[str, Any], passwords: dict[str, str]) -> Iterator[str]:
    if user in passwords and "password" not in said:
        return
    wanted = str(said.get("password") or "")
    wrong = list(password(f"{where}: password", lambda _: wanted, f"vault_{user}_password"))
    if not wrong and passwords.setdefault(user, wanted) != wanted:
        wrong = [f"{where}: its user {user} has another password elsewhere; a role has one, so leave it out here."]
    yield from wrong


def _extensions(where: str, named: Any) -> Iterator[str]:
    if not isinstance(named, list) or not all(re.fullmatch(_EXTENSION, str(one)) for one in named):
        yield f"{where}: extensions is {named!r}; use a list of names, such as [postgis, pg_trgm]."


def _platform(value_of: Values) -> Iterator[str]:
    platform, versions = value_of("__postgres_platform").strip(), value_of("__postgres_versions")
    if platform not in versions:
        yield (
            f"postgres_provider is native, which knows the packages of {', '.join(versions)} and not those of "
            f"{platform}; use postgres_provider: compose here."
        )
