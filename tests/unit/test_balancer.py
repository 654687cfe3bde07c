"""What operators are told where they take a host out of a balancer, or bring it back."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError, Server
from ansible_collections.slipway.fleet.plugins.modules.balancer import left_in, require_known, told

WELL = Server(enabled=True, answers=True, sessions=0, check="L7OK 200")
DOWN = Server(enabled=True, answers=False, sessions=0, check="L4CON Connection refused", down=True)
OUT = Server(enabled=False, answers=True, sessions=0, since=5)
LAST = "web1 is the last host of links that gets requests, so it was left in. "
TAKEN_OUT = (
    "taken out (5 s ago, by no slipway.fleet.drain): it gets nothing until the run that restarts its edge is done with "
    "it"
)
UNDONE = "slipway.fleet.drain -e haproxy_server=web2 -e haproxy_server_state=ready brings it back"


def options(state: str, **more: Any) -> dict[str, Any]:
    return {"server": "web2", "state": state, "wait": 30.0, "balancer": "lb1", "edge": {"backend": "app_links"}, **more}


def test_a_host_that_is_mistyped_is_told_from_an_app_that_is_not_there() -> None:
    servers = {"web2": WELL, "web1": WELL}
    with pytest.raises(EdgeError) as caught:
        require_known(servers, "web9", "app_links", " on lb1")
    assert str(caught.value) == "web9 is no server of links on lb1; there are web1, web2. Nothing was done there."
    require_known(servers, "web1", "app_links", " on lb1")
    require_known({}, "web9", "app_links", " on lb1")


@pytest.mark.parametrize(
    ("others", "why"),
    [
        ({"web2": WELL, "web3": DOWN}, ""),
        ({}, "web1 is the only host of links, so it was left in"),
        (
            {"web2": DOWN, "web3": OUT},
            f"{LAST}web2 is down: L4CON Connection refused. web3 is {TAKEN_OUT}",
        ),
        (
            {"web2": Server(enabled=True, answers=False, sessions=0, check="L4TOUT")},
            f"{LAST}web2 does not pass its check (L4TOUT)",
        ),
    ],
)
def test_the_last_host_is_left_in_and_what_the_others_do_is_told(others: dict[str, Server], why: str) -> None:
    assert left_in({"web1": WELL, **others}, "web1", "links") == why


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (("drain", OUT, 0, True, False), f"lb1 sends web2 nothing of links. {UNDONE}"),
        (("drain", OUT, 0, False, False), f"lb1 sends web2 nothing of links, as before. {UNDONE}"),
        (
            ("drain", OUT, 3, True, False),
            f"lb1 sends web2 nothing of links; 3 of its requests had not ended after 30 s. {UNDONE}",
        ),
        (("drain", WELL, 0, True, True), f"lb1 would send web2 nothing of links. {UNDONE}"),
        (
            ("ready", WELL, 0, True, False),
            "lb1 sends web2 requests of links again. slipway.fleet.drain -e haproxy_server=web2 takes it out",
        ),
        (
            ("ready", DOWN, 0, True, False),
            "lb1 sends web2 requests of links once its check passes; it got L4CON Connection refused",
        ),
    ],
)
def test_what_is_so_now_and_how_it_is_undone_is_one_line(said: tuple[Any, ...], wanted: str) -> None:
    state, now, in_flight, differs, check = said
    assert told(options(state), now, in_flight, differs, check, "") == wanted


def test_the_command_names_an_app_that_is_not_the_usual_one() -> None:
    assert "ready -e haproxy_server_app=links brings" in told(
        options("drain"), OUT, 0, True, False, " -e haproxy_server_app=links"
    )
