"""Figures of the edge come from whole lines; one that was cut is no figure."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import Answers, counts
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.edge.overload import overload

COLUMNS = ("pxname", "svname", "econ", "eresp", "srv_abrt", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx")
SAID = (
    "Pid: 7\nUptime_sec: 100\n\n"
    "# table: answers_links, type: string, size:10240, used:1\n"
    "0x7f: key=2/blue/20 use=0 exp=0 shard=0 gpc0=40 gpc0_rate(10000)=4\n\n"
)
ROW = "app_links,blue,2,3,0,90,0,0,5"
# Of all slots: as many as they answered, and what the edge answered itself.
WHOLE = "app_links,BACKEND,2,3,0,90,0,0,9"


def told(*rows: str) -> str:
    return SAID + "\n".join(["# " + ",".join(COLUMNS), "edge,FRONTEND", *rows, ""])


def test_what_was_not_answered_is_counted() -> None:
    found = counts(lambda command: told(ROW, WHOLE), "app_links")
    assert found.ever == {"blue": Answers(Counter({20: 40}), 0, broken=5, noticed=4)}
    assert found.ever["blue"].unanswered == 4, "one was asked again and answered"
    assert found.age == 100


def test_an_answer_that_was_cut_is_none() -> None:
    cut = ROW.replace(",2,3,0,", ",2,3,1,"), WHOLE.replace(",2,3,0,", ",2,3,1,")
    assert counts(lambda command: told(*cut), "app_links").ever["blue"].unanswered == 5


def test_what_users_were_told_before_explains_nothing_of_what_broke_since() -> None:
    """A maintenance page is an answer of the edge's own as well."""
    first = counts(lambda command: told("app_links,green,0,0,0,0,0,0,0", WHOLE), "app_links")
    second = counts(lambda command: told("app_links,green,0,3,0,9,0,0,0", WHOLE), "app_links")
    assert second.of("green").since(first.of("green")).unanswered == 0


@pytest.mark.parametrize("row", [ROW[:at] for at in range(len("app_links"), ROW.rindex(","))])
def test_a_line_that_was_cut_is_no_figure(row: str) -> None:
    with pytest.raises(EdgeError, match="cut off"):
        counts(lambda command: told(row), "app_links")


def test_what_is_no_number_is_no_figure() -> None:
    with pytest.raises(EdgeError, match="where econ is"):
        counts(lambda command: told(ROW.replace(",2,", ",\u00b2,")), "app_links")


class Counting:
    """An edge that counts answers of slot blue: what it says first, and what two seconds later."""

    def __init__(self, first: dict[int, tuple[int, int]], second: dict[int, tuple[int, int]], limit: str = "") -> None:
        self.said = [first, second]
        self.limit = limit
        self.slept: list[float] = []

    def ask(self, command: str) -> str:
        if command == "show stat":
            return f"# pxname,svname,slim\napp_links,blue,{self.limit}\napp_links,BACKEND,200\n"
        times = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        lines = [
            f"0x7f: key=2/blue/{ms} use=0 exp=0 shard=0 gpc0={ever} gpc0_rate(300000)={lately}"
            for ms, (ever, lately) in times.items()
        ]
        table = "\n".join(["# table: answers_links, type: string, size:10240, used:1", *lines])
        return f"Pid: 7\nUptime_sec: 100\n\n{table}\n\n# {','.join(COLUMNS)}\n{ROW}\n"

    def told(self) -> dict[str, object]:
        return overload(self.ask, "app_links", self.slept.append)


WELL = {100: (4000, 200)}


def test_an_app_that_is_behind_is_told_with_the_number_that_it_does_at_a_time() -> None:
    edge = Counting({**WELL, 4800: (300, 300)}, {**WELL, 4800: (400, 400)})
    assert edge.told() == {"slot": "blue", "ms": 4800, "usual_ms": 100, "rate": 50, "number": 10}
    assert edge.slept == [2.0]


@pytest.mark.parametrize(
    "edge",
    [
        # Well; behind, but with a limit already; behind a minute ago; long answers, as ever.
        Counting(WELL, WELL),
        Counting({**WELL, 4800: (300, 300)}, {**WELL, 4800: (400, 400)}, limit="10"),
        Counting({**WELL, 4800: (300, 300)}, {100: (4100, 300), 4800: (300, 300)}),
        Counting({4800: (4000, 300)}, {4800: (4100, 400)}),
        # It does fewer than before: something else is slow, and no number would help.
        Counting({**WELL, 4800: (300, 300)}, {**WELL, 4800: (320, 320)}),
    ],
)
def test_what_is_no_overload_is_not_told(edge: Counting) -> None:
    assert edge.told() == {}
    assert edge.slept in ([], [2.0])
