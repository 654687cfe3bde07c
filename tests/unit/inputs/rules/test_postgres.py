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
        ({"postgres_memory_mib": "127"}, ["use at least 128"]),
        ({"postgres_publish": "0.0.0.0:5432"}, ["such as 10.0.0.5:5432"]),
        ({"postgres_provider": "native"}, []),
        ({"postgres_provider": "native", "__postgres_platform": "Fedora 42"}, ["Debian 12, Debian 13 and not those"]),
        ({"__postgres_platform": "Fedora 42"}, []),
    ],
)
def test_databases_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("postgres", RIGHT | changed, *said)
