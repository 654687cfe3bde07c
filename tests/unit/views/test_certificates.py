"""What operators are told of the certificates of load balancers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import certificates

ROOT = Path(__file__).resolve().parents[3]
GONE = {"unreachable": True, "msg": "no route to host"}
GOOD = {"name": "a.example", "days": 61, "issuer": "R11", "renewed": "2026-11-01T10:00:00Z", "tried": "", "error": ""}
OVERDUE = "overdue since 2026-11-20T10:00:00Z"
GOOD |= {"hsts": 0, "hsts_from": "2026-11-08T10:00:00Z"}
LATE = {**GOOD, "days": 28, "hsts": 604800, "overdue": "2026-11-20T10:00:00Z"}


def edge(*names: dict[str, Any], problems: list[str] | None = None) -> dict[str, Any]:
    return {"names": list(names), "problems": problems or []}


def test_a_name_is_a_line_for_each_balancer() -> None:
    told = certificates.tell({"lb1": edge(GOOD), "lb2": edge(LATE, problems=["late"]), "lb3": GONE, "lb4": edge()})
    assert told.text.splitlines() == [
        "host  name       certificate  issuer  since                 hsts             trouble",
        "lb1   a.example  61 days      R11     2026-11-01T10:00:00Z  from 2026-11-08  none",
        f"lb2   a.example  28 days      R11     2026-11-01T10:00:00Z  7 days           {OVERDUE}",
    ]
    assert told.code == 0, "the table comes before what follows it in the play"
    assert [row["certificates"] for row in told.rows] == [[GOOD], [LATE], [], []]
    assert certificates.tell({"lb1": edge()}).text == "", "balancers without TLS have nothing to show"


@pytest.mark.parametrize(
    ("results", "code", "said"),
    [
        ({"lb1": edge(GOOD)}, 0, ""),
        ({"lb1": edge(GOOD), "lb2": edge(LATE, problems=["it is late"])}, 3, "lb2: it is late"),
        ({"lb1": GONE, "lb2": edge(problems=["it is late"])}, 3, "lb2: it is late; no answer from lb1"),
        ({"lb1": GONE, "lb2": edge(GOOD)}, 4, "no answer from lb1"),
    ],
)
def test_what_is_wrong_with_one_is_how_the_run_ends(results: dict[str, Any], code: int, said: str) -> None:
    told = certificates.tell_problems(results)
    assert (told.code, told.message) == (code, said)


def test_the_status_looks_at_balancers_which_end_https_for_a_fleet() -> None:
    plays = yaml.safe_load((ROOT / "playbooks/status.yml").read_text(encoding="utf-8"))
    looks = [play for play in plays if "certificates_status" in str(play)]
    fails = [play for play in plays if "certificate_problems" in str(play)]
    hosts = [play.get("hosts") for play in plays]
    assert [play["hosts"] for play in (*looks, *fails)] == ["load_balancer", "load_balancer"]
    assert plays.index(looks[0]) < hosts.index("web") < plays.index(fails[0]), "the table of the hosts comes first"
