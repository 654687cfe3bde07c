"""With which variables no database can be run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.saying import says

RIGHT: dict[str, Any] = {
    "postgres_database": "links",
    "postgres_user": "links_owner",
    "postgres_password": "a" * 16,
    "postgres_login": "links_owner",
    "postgres_databases": {},
    "postgres_app": "links",
    "postgres_memory_mib": 128,
    "postgres_publish": "",
    "postgres_provider": "compose",
    "__postgres_platform": "Debian 13\n",
    "__postgres_versions": {"Debian 12": "15", "Debian 13": "17"},
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"postgres_database": "my-app"}, ["postgres_database (my-app)"]),
        ({"postgres_database": "links\n"}, ["postgres_database (links\n)"]),
        ({"postgres_database": "template1"}, ["postgres_database (template1)"]),
        ({"postgres_user": "postgres"}, ["postgres_user (postgres)"]),
        ({"postgres_user": "u" * 64}, ["at most 63"]),
        ({"postgres_login": "links_owner_1a2b3c4d"}, []),
        ({"postgres_login": "Links"}, ["postgres_login (Links)"]),
        ({"postgres_login": "postgres"}, ["slipway.fleet.login_of(vault_postgres_password)"]),
        ({"postgres_password": "changeme"}, ["set vault_postgres_password"]),
        ({"postgres_app": "My App"}, ["postgres_app is 'My App'; use the name of the app"]),
        ({"postgres_memory_mib": "127"}, ["use at least 128"]),
        ({"postgres_publish": "0.0.0.0:5432"}, ["such as 10.0.0.5:5432"]),
        ({"postgres_provider": "native"}, []),
        ({"postgres_provider": "native", "__postgres_platform": "Fedora 42"}, ["Debian 12, Debian 13 and not those"]),
        ({"__postgres_platform": "Fedora 42"}, []),
    ],
)
def test_databases_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("postgres", RIGHT | changed, *said)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"geo": {"password": "b" * 16, "extensions": ["postgis", "uuid-ossp"]}}, []),
        ({"geo": {"user": "links_owner"}}, []),
        ({"geo": {"user": "links_owner", "password": "a" * 16}, "links": {"extensions": ["pg_trgm"]}}, []),
        ({"geo": {}}, ["postgres_databases: geo: password is a placeholder"]),
        ({"geo": {"password": "changeme", "user": "g"}}, ["set vault_g_password with"]),
        ({"geo": None}, ["geo: it is no dictionary; write {user: ..., password"]),
        ({"geo": {"passwort": "b" * 16}}, ["geo: passwort is no part of a database"]),
        ({"geo": {"password": "b" * 16, "extensions": "postgis"}}, ["use a list of names, such as [postgis, pg_trgm]"]),
        ({"geo": {"password": "b" * 16, "extensions": ["a; b"]}}, ["use a list of names"]),
        ({"my-geo": {"password": "b" * 16}}, ["my-geo: a database and its user (my-geo) must be lower case"]),
        ({"template1": {"password": "b" * 16}}, ["not those that PostgreSQL brings"]),
        ({"geo": {"user": "postgres", "password": "b" * 16}}, ["its user (postgres)"]),
        ({"geo": {"user": "links_owner", "password": "b" * 16}}, ["links_owner has another password elsewhere"]),
        ({"a": {"user": "u", "password": "b" * 16}, "b": {"user": "u"}}, []),
        ({"geo": {"password": "b" * 16, "login": "geo_1a2b3c4d"}, "maps": {"user": "geo"}}, []),
        (
            {"geo": {"password": "b" * 16, "login": "G"}},
            ["or write \"{{ 'geo' | slipway.fleet.login_of(vault_geo_password) }}\""],
        ),
        ({"geo": {"user": "links_owner", "login": "other"}}, ["links_owner has another login elsewhere"]),
        ({"links": {"user": "other"}}, ["links is postgres_database, whose user"]),
        ({"links": {"password": "b" * 16}}, ["links is postgres_database, whose user"]),
    ],
)
def test_further_databases(more: dict[str, Any], said: list[str]) -> None:
    says("postgres", RIGHT | {"postgres_databases": more}, *said)
