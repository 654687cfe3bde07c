"""The file that says whom a shared server lets in, and which app has what."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import (
    NETWORK,
    SOCKET,
    UNNAMED,
    Access,
    AccessError,
    Login,
    admitted,
    parse,
    render,
)

SHOP, TILES, GEO = Login("shop", "shop"), Login("tiles", "tiles_owner"), Login("geo", "geo")
# As the version before parts wrote it.
BEFORE = """\
# Ansible managed
# The superuser comes through the socket, from inside the container, and needs no password.
local all postgres peer
# The app comes over the network, to its own database, with its password.
host links links_owner all scram-sha-256
"""


def lines(access: Access) -> list[str]:
    return [line for line in render(access).splitlines() if not line.startswith("#")]


def test_each_app_has_a_part_with_a_line_for_each_database() -> None:
    one = admitted(parse(""), "shop", [SHOP], [NETWORK])
    both = admitted(parse(render(one)), "tiles", [TILES, GEO], [NETWORK])
    assert lines(both) == [
        "local all postgres peer",
        "host shop shop all scram-sha-256",
        "host tiles tiles_owner all scram-sha-256",
        "host geo geo all scram-sha-256",
    ]
    assert parse(render(both)) == both
    assert both.apps == ("shop", "tiles")
    assert admitted(both, "shop", [SHOP], [NETWORK]) == both


def test_all_come_by_the_ways_of_the_server() -> None:
    one = admitted(parse(""), "shop", [SHOP], [NETWORK])
    both = admitted(one, "tiles", [TILES], [SOCKET, NETWORK])
    assert lines(both)[1:] == [
        "local shop shop scram-sha-256",
        "host shop shop all scram-sha-256",
        "local tiles tiles_owner scram-sha-256",
        "host tiles tiles_owner all scram-sha-256",
    ]
    assert parse(render(both)) == both


def test_what_an_app_does_not_name_any_more_stays() -> None:
    two = admitted(parse(""), "shop", [SHOP, GEO], [NETWORK])
    assert admitted(two, "shop", [SHOP], [NETWORK]) == two


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (Login("shop", "mine"), "database shop of this server is shop's. Give tiles another one"),
        (Login("mine", "shop"), "role shop of this server is shop's"),
        (SHOP, "database shop and role shop of this server is shop's"),
    ],
)
def test_what_is_another_app_s_is_refused_by_its_name(login: Login, said: str) -> None:
    one = admitted(parse(""), "shop", [SHOP], [NETWORK])
    with pytest.raises(AccessError, match=said) as refused:
        admitted(one, "tiles", [login], [NETWORK])
    assert "write `# app tiles` for `# app shop`" in str(refused.value)
    renamed = parse(render(one).replace("# app shop", "# app tiles"))
    assert admitted(renamed, "tiles", [SHOP], [NETWORK]).apps == ("tiles",)


def test_members_have_a_line_beside_their_role_s() -> None:
    shop = [SHOP, Login("shop", "+shop")]
    one = admitted(admitted(parse(""), "shop", [SHOP], [SOCKET]), "shop", shop, [SOCKET])
    assert lines(one)[1:] == ["local shop shop scram-sha-256", "local shop +shop scram-sha-256"]
    assert parse(render(one)) == one
    assert admitted(one, "shop", [SHOP], [SOCKET]) == one, "former logins are let in until they are taken away"
    with pytest.raises(AccessError) as refused:
        admitted(one, "tiles", shop, [SOCKET])
    assert str(refused.value).count("role") == 1
    both = [Login("links", "links_owner"), Login("links", "+links_owner")]
    assert admitted(parse(BEFORE), "links", both, [NETWORK]).parts == {"links": tuple(both)}


def test_an_app_from_before_parts_keeps_its_line_and_gets_its_name() -> None:
    found = parse(BEFORE)
    links = Login("links", "links_owner")
    beside = admitted(found, "tiles", [TILES], found.ways)
    assert beside.parts == {UNNAMED: (links,), "tiles": (TILES,)}
    assert parse(render(beside)) == beside
    assert lines(beside)[1:] == ["host links links_owner all scram-sha-256", "host tiles tiles_owner all scram-sha-256"]
    named = admitted(parse(render(beside)), "links", [links], found.ways)
    assert named.parts == {"tiles": (TILES,), "links": (links,)}


@pytest.mark.parametrize("login", [Login("links", "other"), Login("other", "links_owner")])
def test_half_of_what_an_app_from_before_has_is_refused(login: Login) -> None:
    with pytest.raises(
        AccessError, match=r"from before apps had names here \(.*: links links_owner\), and tiles has not"
    ):
        admitted(parse(BEFORE), "tiles", [login], [NETWORK])
