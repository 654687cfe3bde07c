"""What operators are told of hosts that a balancer sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.behind import TURN, Away, away
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Server
from ansible_collections.slipway.fleet.plugins.module_utils.edge.peers import Peers
from ansible_collections.slipway.fleet.plugins.modules import peers as module

BACK = "slipway.fleet.drain -e haproxy_server=web2 -e haproxy_server_state=ready brings it back"
DRAINED = {"operation": "drain", "what": "web2", "who": "ada", "start": "2026-11-28T13:00:00+00:00", "result": "done"}
UNDRAINED = {**DRAINED, "operation": "undrain"}
# What other hosts' drains and the events of a release stand there as.
OTHERS: list[dict[str, Any]] = [{**DRAINED, "what": "web1"}, {"event": "it drained", "drained": "f2b05a3c7377"}]


def out(since: int) -> Server:
    return Server(enabled=False, answers=True, sessions=0, check="L7OK 200 OK", since=since)


def down(check: str, since: int = 60) -> Server:
    return Server(enabled=True, answers=False, sessions=0, check=check, down=True, since=since)


@pytest.mark.parametrize(
    ("server", "records", "told"),
    [
        (
            out(3),
            [UNDRAINED, DRAINED, *OTHERS],
            Away(f"drained by an operator (ada, {DRAINED['start']}): it gets nothing; {BACK}"),
        ),
        # A run has it out for the restart of its edge, and then somebody else had.
        (
            out(12),
            [DRAINED, UNDRAINED, {**DRAINED, "result": "failed"}],
            Away(
                "taken out (12 s ago, by no slipway.fleet.drain): it gets nothing until the run that restarts its "
                "edge is done with it",
                amiss=False,
            ),
        ),
        (out(TURN), OTHERS, Away(f"taken out (by no slipway.fleet.drain): it gets nothing; {BACK}")),
        (down("L4CON Connection refused"), [], Away("down: L4CON Connection refused", down=True)),
        (down("L7STS 421 Misdirected Request"), [], Away("down: L7STS 421 Misdirected Request", down=True)),
        # Its own row says why, or a run is at it.
        (
            down("L7STS 503 Service Unavailable"),
            [],
            Away("down: L7STS 503 Service Unavailable", amiss=False, down=True),
        ),
        (down("L7STS 503"), [], Away("down: L7STS 503", amiss=False, down=True)),
        # It is started just now.
        (down("L4CON Connection refused", 2), [], Away("down: L4CON Connection refused", amiss=False, down=True)),
        (Server(enabled=True, answers=True, sessions=4), [DRAINED], None),
        # A check that did not pass once is no reason yet.
        (Server(enabled=True, answers=False, sessions=4, check="L4TOUT"), [], None),
    ],
)
def test_why_a_host_gets_nothing(server: Server, records: list[dict[str, Any]], told: Away | None) -> None:
    assert away({"web2": server}, records).get("web2") == told


def test_the_command_names_an_app_that_is_not_the_first() -> None:
    assert "-e haproxy_server_state=ready -e haproxy_server_app=shop brings it back" in (
        away({"web2": out(TURN)}, [], " -e haproxy_server_app=shop")["web2"].why
    )


def test_an_app_that_has_no_piece_of_the_edge_is_not_asked_for(tmp_path: Path) -> None:
    """It was removed, or is not provisioned yet; where it has one, HAProxy has to answer."""
    peers = Peers(tmp_path, "lb1")
    options = {"socket": str(tmp_path / "admin.sock"), "apps": [{"name": "links", "servers": {"web1": "192.0.2.1:80"}}]}
    assert module.unsent(peers, options) == ({}, [])
    peers.piece("links").parent.mkdir()
    peers.piece("links").touch()
    assert module.unsent(peers, {**options, "socket": ""}) == ({}, [])
    found, (wrong,) = module.unsent(peers, options)
    assert (found, wrong.startswith("HAProxy does not answer")) == ({}, True)
