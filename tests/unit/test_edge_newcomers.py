"""States that a load balancer loads at a reload, by what it had and what it is to have; pure."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.newcomers import balanced, held_back

HEAD = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_check_health srv_fqdn srv_port "
    "srv_use_ssl\n"
)
WEB1, WEB2 = "4 app_links 1 web1 192.0.2.11 2 0 5 - 80 0\n", "4 app_links 2 web2 - 0 0 0 - 8080 1\n"
SLOTS = "5 app_shop 1 blue unix@/run/x 0 0 0 - 0 0\n5 app_shop 2 green unix@/run/y 2 8 4 - 0 0\n"
WANTED = {"app_links": {"web1": ("80", "0"), "web2": ("8080", "1")}}


def test_hosts_are_known_from_the_pieces_and_slots_are_none() -> None:
    links = (
        "backend app_links\n    server web1 192.0.2.11:80 cookie 0f\n"
        "    server web2 host2.example.org:8080 ssl verify required ca-file /x crt /y\n"
    )
    shop = "backend app_shop\n    server blue unix@/run/x\n    server blue-port 127.0.0.1:9000 disabled\n"
    assert balanced({"links": links, "shop": shop}) == WANTED


@pytest.mark.parametrize(
    ("dump", "loaded"),
    [
        (HEAD + WEB1 + SLOTS, HEAD + WEB1 + WEB2 + SLOTS),
        (HEAD + SLOTS + WEB1 + WEB2, HEAD + SLOTS + WEB1 + WEB2),
        (HEAD + WEB1.replace(" 80 0\n", " 81 0\n") + WEB2, HEAD + WEB1 + WEB2),
        (HEAD + WEB1 + WEB2.replace(" 8080 1\n", " 80 0\n"), HEAD + WEB1 + WEB2),
        (HEAD + WEB2, HEAD + WEB2.replace(" - 0 0 0 ", " - 2 0 0 ")),
        # One that an operator drained answers nobody, and stays drained.
        (HEAD + WEB1.replace(" 2 0 5 ", " 2 8 5 "), HEAD + WEB1.replace(" 2 0 5 ", " 2 8 5 ")),
        ("Unknown command", "Unknown command"),
        ("", ""),
    ],
    ids=[
        *("a new one", "none is new", "another port", "by TLS from now on", "nobody is up", "a drained one"),
        *("another answer", "no answer"),
    ],
)
def test_who_is_new_begins_as_down_where_another_one_serves(dump: str, loaded: str) -> None:
    assert held_back(dump, WANTED) == loaded
