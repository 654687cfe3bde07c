"""The report of a drill says what is proven, also of hosts that tell little."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import drills as report
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.page import value_at

from tests.browser import drills as example


@pytest.fixture
def made() -> dict[str, Any]:
    return report.build("fleet", example.AT, example.fleet(), example.DRILLS)


def test_what_is_proven_how_old_that_is_and_how_long_it_takes(made: dict[str, Any]) -> None:
    assert (made["verdict"], made["proven"], made["message"]) == ("failed", 2, "db2: damaged")
    assert made["age"] == pytest.approx(8.083 * 86400, abs=1), "of the host where that is longest"
    assert made["seconds"] == 153.7
    db1, db2, _ = made["hosts"]
    assert (db1["outcome"], db2["outcome"], db2["fault"]) == ("proven", "failed", "damaged")
    assert [phase["phase"] for phase in db2["phases"]] == ["find", "fetch"], "it ended there"
    assert db2["problems"] == [], "what went wrong is said once"
    proven = [one["set"] for one in db1["sets"] if one["proven"] is not None]
    assert len(proven) == 5
    assert made["drills"][0]["time"] == example.AT


def test_every_figure_of_the_page_is_that_of_the_json(made: dict[str, Any]) -> None:
    page = report.render(made)
    figures = re.findall(r'data-figure="([^"]+)" data-value="([^"]*)"', page)
    assert len(figures) > 40
    for place, value in figures:
        assert json.loads(value.replace("&#34;", '"')) == value_at(made, place), place


def test_sets_are_where_their_age_is_and_as_high_as_their_size(made: dict[str, Any]) -> None:
    line = report.timeline(made)
    lane = line.lanes[0]
    assert [stem.x for stem in lane.stems] == sorted(stem.x for stem in lane.stems), "the newest at the right"
    assert lane.stems[0].top > lane.stems[-1].top, "the database has grown"
    assert lane.stems[-1].kind == "proven"
    assert "2.2 GiB, by the timer, proven 2025-10-12" in lane.stems[-1].title
    assert "before a migration, not proven" in lane.stems[-2].title
    ((x, words),) = line.lanes[1].failures
    assert (x, words.rpartition(": ")[2]) == (97, "damaged")
    assert line.ticks[-1] == (97, "now")


def test_points_in_time_are_a_band_with_its_gaps(made: dict[str, Any]) -> None:
    lane, _, without = report.timeline(made).lanes
    (since, lost, _), (again, until, title) = lane.points
    assert lane.stems[0].x < since < lost < again < until < 97
    assert title == "each point in time from 2025-10-09 03:10 UTC to 2025-10-12 05:08 UTC"
    assert without.points == []
    assert ("points", "each point in time can be restored") in report.timeline(made).legend
    assert "points in time from 2025-10-05" in report.render(made)


def test_the_bars_are_those_of_the_longest_drill(made: dict[str, Any]) -> None:
    longest, cut, _ = report.bars(made)
    assert sum(part.width for part in longest) == pytest.approx(100)
    assert [part.title for part in cut] == ["find 2.1 s", "fetch 31.0 s"]


@pytest.mark.parametrize(
    ("drill", "outcome", "fault"),
    [
        (None, "failed", "failed"),
        ({"unreachable": True, "msg": "no route"}, "unreachable", "unreachable"),
        ({"failed": True, "msg": "backups are not set up"}, "failed", "failed"),
    ],
)
def test_a_host_that_tells_nothing_is_not_proven(drill: Any, outcome: str, fault: str, tmp_path: Path) -> None:
    made = report.build("fleet", example.AT, {"db1": None}, {"db1": drill, "web1": {"skipped": True}})
    (host,) = made["hosts"]
    assert (host["outcome"], host["fault"], made["verdict"]) == (outcome, fault, "failed")
    page = report.write(made, tmp_path)
    assert page.name == "20251012T051000Z-drill.html"
    assert json.loads(page.with_suffix(".json").read_text()) == made


def test_what_an_earlier_version_has_recorded_is_told() -> None:
    told = example.fleet()["db1"]["told"]
    made = report.build("fleet", example.AT, {"db1": {"told": {"proven": told["proven"]}}}, {"db1": {}})
    assert (made["hosts"][0]["set"], made["hosts"][0]["sets"]) == (told["proven"]["set"], [])
    assert "Proven" in report.render(made)


def test_a_fleet_without_backups() -> None:
    made = report.build("fleet", example.AT, {}, {"web1": {"skipped": True}})
    assert made["verdict"] == "nothing"
    assert "No host of this inventory is backed up" in report.render(made)


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ("2025-10-12T05:10:00Z", 1_760_245_800.0),
        ("2025-10-12T05:10:00.123456789Z", 1_760_245_800.0),
        ("2025-10-12T07:10:00.1+02:00", 1_760_245_800.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_as_records_and_restic_have_them(moment: Any, found: float | None) -> None:
    assert report.epoch(moment) == found


def test_nothing_of_a_host_is_taken_for_markup() -> None:
    wrong = {"failed": True, "fault": "<b>x</b>", "msg": "<script>x</script>"}
    told = {
        "points": {"reach": ["<i>", ["<i>", "<i>"]]},
        "drills": [{"set": "<i>"}],
        "sets": [{"set": "<i>", "time": "2025-10-12T05:10:00Z", "reason": "<i>"}],
    }
    page = report.render(report.build("<i>", example.AT, {"<i>": {"told": told}}, {"<i>": wrong}))
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>x" not in page
