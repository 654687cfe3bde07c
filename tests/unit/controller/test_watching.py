"""What a run says and decides by what it sees of the edge."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible_collections.slipway.fleet.plugins.action.rollout import asked_path, requests_told
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.watching import EdgeProbe
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unwatchable
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.edges import Edge

# Reserved: nobody listens there.
DEAD = "http://127.0.0.1:1"
USUAL: dict[str, Any] = {"rate": 10.0, "urls": [], "path": None, "ca_file": None, "must_pass": False}


def probe(directory: Path, *edges: Edge, wrong: tuple[str, ...] = (), dry: bool = False, **options: Any) -> EdgeProbe:
    found = list(edges), list(wrong)
    return EdgeProbe({**USUAL, **options}, lambda: found, "/version", directory, dry)


def look(seen: EdgeProbe, *serving: str) -> list[str]:
    return list(asyncio.run(seen.look(dict.fromkeys(serving, "/version"))))


def ran(seen: EdgeProbe, *samples: dict[str, Any]) -> EdgeProbe:
    """As after a roll in which these requests were sent."""
    seen._begun = True
    seen._files.samples.write_text(
        "".join(json.dumps({"start": 1.0, "ms": 1.0, "url": 0, **one}) + "\n" for one in samples)
    )
    seen.summary = client.summarize(seen.samples(), seen.served)
    return seen


def test_a_host_that_serves_and_gives_no_answer_is_said(tmp_path: Path) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1", "a.test"))
    (said,) = look(seen, "web1")
    assert f"{DEAD} (as a.test) gives no answer of the app, which its host says it serves: refused" in said
    assert "slipway_probe_rate: 0" in said
    assert seen.served == []
    assert not ran(seen, {"error": "refused"}).failure(), "perhaps only this controller cannot reach it"


def test_where_nothing_serves_nothing_is_said(tmp_path: Path) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1"), Edge(DEAD, "web2"))
    assert look(seen) == []
    assert seen.served == []


def test_a_balancer_serves_what_any_host_does(tmp_path: Path) -> None:
    seen = probe(tmp_path, Edge(DEAD, "lb1", balances=True), Edge(DEAD, "web2"), dry=True)
    assert look(seen, "web1") == []
    assert seen.served == [0]


@pytest.mark.parametrize(
    ("own", "serving", "earlier"),
    [
        (None, {"web1": "/healthz", "web2": "/version", "web3": "/healthz"}, ["/healthz"]),
        (None, {"web1": ""}, []),
        ("/ping", {"web1": "/healthz"}, []),
    ],
)
def test_what_serves_is_asked_for_what_it_knows(
    tmp_path: Path, own: str | None, serving: dict[str, str], earlier: list[str]
) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1"), path=own)
    asyncio.run(seen.look(serving))
    assert seen._settings["earlier"] == earlier


@pytest.mark.parametrize(
    ("own", "asked", "earlier"), [(None, "/api/version", ["/api/healthz"]), ("/ping", "/ping", [])]
)
def test_where_the_edge_has_the_app_below_a_path_it_is_asked_there(
    tmp_path: Path, own: str | None, asked: str, earlier: list[str]
) -> None:
    found: tuple[list[Edge], list[str]] = [Edge(DEAD, "web1")], []
    seen = EdgeProbe({**USUAL, "path": own}, lambda: found, "/version", tmp_path, False, lambda: "/api")
    asyncio.run(seen.look({"web1": "/healthz", "web2": "/version", "web3": ""}))
    assert (seen._settings["path"], seen._settings["earlier"]) == (asked, earlier)


def test_many_edges_are_one_sentence(tmp_path: Path) -> None:
    seen = probe(tmp_path, wrong=tuple(f"web{number} is deaf" for number in range(5)))
    (said,) = look(seen)
    assert "web0 is deaf; web1 is deaf; web2 is deaf. The same goes for 2 more." in said


@pytest.mark.parametrize(
    ("edges", "options", "said"),
    [
        ([Edge("ftp://edge", "web1")], {}, "'ftp://edge' is not of the form"),
        ([Edge(DEAD, "web1")], {"rate": 5000.0}, "rate must be"),
        ([Edge(DEAD, "web1")], {"path": "version"}, "must begin with /"),
        ([Edge("https://edge", "web1")], {"ca_file": "/nowhere/ca.pem"}, "No such file"),
        (
            [Edge(DEAD, "web1")],
            {"must_pass": True},
            "slipway_probe_must_pass is set, and .* gives no answer of the app",
        ),
        ([], {"must_pass": True}, "there is no host whose edge could be asked"),
        ([Edge(DEAD, "web1")], {"must_pass": True, "rate": 0.0}, "take one of them away"),
    ],
)
def test_what_ends_a_run_before_it_changes_anything(
    tmp_path: Path, edges: list[Edge], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(Unwatchable, match=said):
        look(probe(tmp_path, *edges, **options), "web1")


def test_variables_of_an_edge_that_cannot_be_computed_are_said(tmp_path: Path) -> None:
    def find() -> tuple[list[Edge], list[str]]:
        raise AnsibleUndefinedVariable("'vault_tls' is undefined")

    (said,) = look(EdgeProbe(USUAL, find, "/version", tmp_path, False), "web1")
    assert "the edges cannot be computed from their variables: 'vault_tls' is undefined" in said


def test_off_it_says_nothing_and_measures_nothing(tmp_path: Path) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1"), rate=0.0)
    assert look(seen, "web1") == []
    asyncio.run(seen.start())
    asyncio.run(seen.stop())
    assert (seen.summary, seen.samples(), seen.failure()) == ({}, [], "")


GOOD = {"by": "app", "status": 200}
REFUSED = {"by": "nobody", "error": "refused"}
REDIRECTED = {"by": "edge", "error": "answered 308 by the edge"}
PAGE = {"by": "edge", "error": "answered 503, the maintenance page"}


@pytest.mark.parametrize(
    ("samples", "must_pass", "said"),
    [
        ([GOOD, REFUSED], False, ""),
        ([GOOD, GOOD], True, ""),
        ([GOOD, REFUSED], True, "1 of 2 requests of the probe failed"),
        ([REFUSED, GOOD], True, "1 of 2 requests of the probe failed"),
        (
            [REDIRECTED] * 3,
            False,
            "the app answered none of 3 requests through the edge, which served before (first: answ",
        ),
        ([REDIRECTED] * 3, True, "the app answered none of 3 requests"),
        ([PAGE] * 2, False, ""),
        ([PAGE] * 2, True, "2 of 2 requests of the probe failed"),
        ([], True, "slipway_probe_must_pass is set, and no request of the probe was sent"),
    ],
)
def test_when_a_fleet_that_served_has_failed(
    tmp_path: Path, samples: list[dict[str, Any]], must_pass: bool, said: str
) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1"), must_pass=must_pass)
    seen.served = [0]
    found = ran(seen, *samples).failure()
    assert found.startswith(said) if said else not found


@pytest.mark.parametrize(
    ("samples", "must_pass", "said"),
    [
        ([REFUSED, GOOD], True, ""),
        ([REFUSED] * 2, False, ""),
        ([REFUSED] * 2, True, "2 of 2 requests of the probe failed"),
    ],
)
def test_when_a_first_release_has_failed(
    tmp_path: Path, samples: list[dict[str, Any]], must_pass: bool, said: str
) -> None:
    timed = [{"start": float(at), **one} for at, one in enumerate(samples)]
    assert ran(probe(tmp_path, Edge(DEAD, "web1"), must_pass=must_pass), *timed).failure() == said


def test_of_a_first_release_that_nobody_saw_the_run_says_so(tmp_path: Path) -> None:
    seen = probe(tmp_path, Edge(DEAD, "web1"))
    found = ran(seen, REFUSED, REFUSED).doubt()
    assert found.startswith("the app answered none of 2 requests of this controller through the edge (first: refused")
    assert "slipway_url of a host or slipway_probe_urls say where to ask" in found
    assert ran(seen, REDIRECTED).doubt().startswith("the app answered none of 1 requests")
    assert not ran(seen, REFUSED, GOOD).doubt()
    assert not ran(seen, PAGE).doubt(), "somebody wanted that page"
    assert not ran(seen).doubt()
    assert not probe(tmp_path).doubt(), "none was sent"
    seen.served = [0]
    assert ran(seen, REFUSED).failure()
    assert not seen.doubt(), "it has failed"


def test_an_app_that_names_no_release_is_asked_whether_it_is_well() -> None:
    assert asked_path({"version_path": "/version", "path": "/readyz"}) == "/version"
    assert asked_path({"version_path": "", "path": "/readyz"}) == "/readyz"


def test_the_three_who_answered_are_told(tmp_path: Path) -> None:
    seen = ran(probe(tmp_path), GOOD, GOOD, REDIRECTED, REFUSED)
    assert requests_told(seen.summary) == (
        "2 of 4 requests through the edge failed meanwhile; answered by the app: 2, by the edge itself: 1, by nobody: 1"
        "; failed by: answered 308 by the edge (1), refused (1)"
    )
    seen = ran(probe(tmp_path), GOOD, *[{"by": "nobody", "error": "timeout"}] * 2)
    assert requests_told(seen.summary).endswith("by nobody: 2; failed by: no answer within 5 s (2)")
