"""What a rotation asks before it takes anything away."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.filter.databases import login_credentials
from ansible_collections.slipway.fleet.plugins.filter.fleet import elsewhere, lacking_credentials
from ansible_collections.slipway.fleet.plugins.filter.release import login_of

CREDENTIALS = {"postgres_login": "links_1a2b3c4d", "postgres_password": 'p"ss/word', "redis_password": ""}


def host(**secrets: Any) -> dict[str, Any]:
    return {"inventory_hostname": "web1", "fastapi_app_secrets": secrets, "fastapi_app_environment": {"WORKERS": 2}}


@pytest.mark.parametrize(
    ("variables", "lacks"),
    [
        (host(URL='postgresql://links_1a2b3c4d:p"ss/word@db/links'), []),
        (host(URL="postgresql://links_1a2b3c4d:p%22ss%2Fword@db/links"), []),
        (host(CONFIG='{"user": "links_1a2b3c4d", "password": "p\\"ss/word"}'), []),
        (host(PASSWORD='p"ss/word') | {"fastapi_app_environment": {"URL": "postgresql://links_1a2b3c4d@db"}}, []),
        (host(URL="postgresql://links:p%22ss%2Fword@db/links"), ["postgres_login"]),
        (host(URL="postgresql://links_1a2b3c4d:another@db/links"), ["postgres_password"]),
        ({"inventory_hostname": "web1"}, ["postgres_login", "postgres_password"]),
    ],
)
def test_an_app_must_be_told_what_is_to_stay(variables: dict[str, Any], lacks: list[str]) -> None:
    found = lacking_credentials([variables], CREDENTIALS)
    assert [name for sentence in found for name in CREDENTIALS if f"what {name} is" in sentence] == lacks
    assert not any(value in sentence for sentence in found for value in CREDENTIALS.values() if value)


def test_every_host_must_have_been_seen_to_serve_the_release() -> None:
    def seen(release: str | None, serving: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {"slipway_rollout_result": {"release": release}} if release else {}
        return found | {"fastapi_app_status_result": {"serving": {"release": serving} if serving else None}}

    hosts = {
        "there": seen("new", "new"),
        "behind": seen("new", "old"),
        "silent": seen("new", None),
        "left out": seen(None, "new"),
        "never asked": {},
    }
    assert elsewhere(list(hosts), hosts) == ["behind", "silent", "left out", "never asked"]


def test_a_login_follows_its_password() -> None:
    first, second = "first-password-0123456789", "second-password-0123456789"
    assert login_of("links", first) == login_of("links", first + "\n") != login_of("links", second)
    assert login_of("shop", first)[5:] != login_of("links", first)[6:]
    assert len(login_of("u" * 63, first)) == 63


def test_an_app_must_be_told_of_the_further_databases_whose_login_changes() -> None:
    further = {"geo": {"login": "geo_1a2b3c4d", "password": "p"}, "maps": {"user": "geo"}, "old": {"password": "q"}}
    found = login_credentials(further | {"stats": {"user": "geo", "login": "geo_1a2b3c4d"}})
    assert found == {
        "postgres_databases.geo.login": "geo_1a2b3c4d",
        "postgres_databases.geo.password": "p",
        "postgres_databases.stats.login": "geo_1a2b3c4d",
    }
    (said,) = lacking_credentials([host(URL="postgresql://geo:p@db/geo")], {"postgres_databases.geo.login": "geo_1"})
    assert "write {{ postgres_databases.geo.login }} there" in said
