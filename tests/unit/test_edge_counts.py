"""Figures of the edge come from whole lines; one that was cut is no figure."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import Answers, counts
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError

COLUMNS = ("pxname", "svname", "econ", "eresp", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx")
SAID = (
    "Pid: 7\nUptime_sec: 100\n\n"
    "# table: answers_links, type: string, size:10240, used:1\n"
    "0x7f: key=2/blue/20 use=0 exp=0 shard=0 gpc0=40 gpc0_rate(10000)=4\n\n"
)
ROW = "app_links,blue,2,3,90,0,0,5"


def told(*rows: str) -> str:
    return SAID + "\n".join(["# " + ",".join(COLUMNS), "edge,FRONTEND", *rows, ""])


def test_what_was_not_answered_is_counted() -> None:
    found = counts(lambda command: told(ROW), "app_links")
    assert found.ever["blue"] == Answers(Counter({20: 40}), 0, 5)
    assert found.age == 100


@pytest.mark.parametrize("row", [ROW[:at] for at in range(len("app_links"), ROW.rindex(","))])
def test_a_line_that_was_cut_is_no_figure(row: str) -> None:
    with pytest.raises(EdgeError, match="cut off"):
        counts(lambda command: told(row), "app_links")


def test_what_is_no_number_is_no_figure() -> None:
    with pytest.raises(EdgeError, match="where econ is"):
        counts(lambda command: told(ROW.replace(",2,", ",\u00b2,")), "app_links")
