"""The judge of a canary, by a table: it must condemn what is worse and nothing else."""

from __future__ import annotations

import json

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import Counters, Thresholds, counted, judge

# Narrower than the defaults, so that a table of small numbers can be read.
NARROW = Thresholds(ms_ratio=1.5, ms_difference=20.0)
OLD = [Counters("web2", 1000, 1, 20.0), Counters("web3", 1000, 1, 22.0)]


@pytest.mark.parametrize(
    ("new", "old", "word", "said"),
    [
        ([Counters("web1", 500, 0, 21.0)], OLD, "good", "0.0% of 500 requests failed"),
        ([Counters("web1", 500, 0, 21.0)], OLD, "good", "21 ms after 21 ms"),
        # too few on one side
        ([Counters("web1", 49, 49, 900.0)], OLD, "unknown", "49 new and 2000 old"),
        ([Counters("web1", 500, 500)], [], "unknown", "500 new and 0 old"),
        ([], OLD, "unknown", "0 new"),
        # errors: both the ratio and the difference, and more than a few
        ([Counters("web1", 500, 10, 21.0)], OLD, "worse", "10 of 500 requests failed (2.0%)"),
        ([Counters("web1", 50, 2)], OLD, "good", "4.0%"),
        ([Counters("web1", 50, 3)], OLD, "worse", "3 of 50"),
        ([Counters("web1", 10_000, 90)], OLD, "good", "0.9%"),
        ([Counters("web1", 1000, 65)], [Counters("web2", 1000, 50)], "good", "6.5%"),
        ([Counters("web1", 1000, 101)], [Counters("web2", 1000, 50)], "worse", "10.1%"),
        # latency: both again; hosts weigh as much as they were asked
        ([Counters("web1", 500, 0, 60.0)], OLD, "worse", "60 ms (most on web1), the old release 21 ms"),
        ([Counters("web1", 500, 0, 39.0)], OLD, "good", "39 ms"),
        ([Counters("web1", 500, 0, 900.0)], [Counters("web2", 500, 0, 700.0)], "good", "900 ms"),
        ([Counters("web1", 900, 0, 20.0), Counters("web4", 100, 0, 90.0)], OLD, "good", "27 ms"),
        # p95 jumps where slow requests are about a twentieth; then the median decides
        ([Counters("web1", 500, 0, 9000.0, 20.0)], [Counters("web2", 500, 0, 90.0, 20.0)], "good", "9000 ms"),
        ([Counters("web1", 500, 0, 9000.0, 90.0)], [Counters("web2", 500, 0, 90.0, 20.0)], "worse", "9000 ms"),
        # nothing measured is nothing against it
        ([Counters("web1", 500, 0)], OLD, "good", "of 500 requests failed, on the old release 0.1%"),
        ([Counters("web1", 500, 0, 900.0)], [Counters("web2", 500, 0)], "good", "0.0%"),
    ],
)
def test_judge(new: list[Counters], old: list[Counters], word: str, said: str) -> None:
    verdict = judge(new, old, NARROW)
    assert verdict.word == word
    assert said in verdict.sentence


def test_thresholds_are_the_callers() -> None:
    new = [Counters("web1", 20, 1, 30.0)]
    assert judge(new, OLD, Thresholds(requests=10, errors=1)).word == "worse"
    assert judge(new, OLD, Thresholds(requests=10, ms_difference=5.0, ms_ratio=1.1)).word == "worse"
    assert judge(new, OLD, Thresholds(requests=10)).word == "good"


def line(slot: str, status: int, ms: float, at: float, app: str = "app_links") -> str:
    return json.dumps({"time": at, "app": app, "slot": slot, "status": status, "ms": {"total": str(ms)}})


def test_the_access_log_is_counted_by_slot_and_time() -> None:
    lines = [
        "Proxy edge started.",
        line("green", 200, 10, at=99),
        line("green", 200, 20, at=101),
        line("green", 503, 30, at=102),
        line("green", 101, 60_000, at=103),
        line("blue", 200, 40, at=101),
        line("green", 200, 50, at=101, app="app_other"),
        '{"time": "torn',
    ]
    assert counted(lines, "app_links", "green", (100, 200)) == Counters("green", 2, 1, 30.0, 30.0)
    assert counted(lines, "app_links", "blue", (200, 300)) == Counters("blue", 0, 0, None)
