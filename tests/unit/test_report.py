"""The report: its figures by tables, and that neither missing nor hostile values break the page."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import document as report
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.page import (
    TEMPLATES,
    duration,
    milliseconds,
    share,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.picture import (
    PANEL,
    Scale,
    Window,
    clock,
    short_names,
)

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\x00\u202e'\"&{}%s"
STEP = {"phase": "gate", "start": 110.0, "seconds": 4.0, "revert": False}
RUN: dict[str, Any] = {
    "app": "shortlinks",
    "inventory": "fleet",
    "operation": "deploy",
    "release": "77aa01bc9d10",
    "who": "ops",
    "from": "controller-1",
    "started": 100.0,
    "ended": 130.0,
    "verdict": "failed",
    "message": "it did not work",
    "plays": [{"name": "Roll", "start": 108.0, "end": 120.0}],
    "hosts": [
        {
            "host": "web1", "batch": 1, "was": "old", "tried": "new", "now": "new", "outcome": "good", "steps": [STEP],
            "canary": {"word": "good", "sentence": "0.1% failed", "new": {"requests": 9, "errors": 0, "p95": 5}},
            "gap": 2.31,
        },
        {
            "host": "web2", "batch": 2, "was": "old", "tried": "new", "now": None, "outcome": "failed",
            "cause": "it broke", "diagnosis": "line 1\nline 2", "steps": [{**STEP, "start": 114.0, "seconds": 6.0}],
        },
        {"host": "web3", "batch": 2, "was": "old", "tried": None, "now": "old", "outcome": "untouched", "steps": []},
    ],
}  # fmt: skip


def sample(start: float, ms: float = 5.0, error: str | None = None, release: str = "") -> dict[str, Any]:
    found = {"start": start, "ms": ms, "kept": True, "url": 0, "status": 503 if error else 200}
    return found | ({"error": error} if error else {}) | ({"release": release} if release else {})


SAMPLES = [
    *(sample(102.0 + number, 10.0 + number, release="old") for number in range(8)),
    *(sample(110.0 + number, 50.0, release="77aa01bc9d10") for number in range(10)),
    sample(113.5, 1.0, "answered 503"),
    *(sample(121.0 + number, 7.0, release="77aa01bc9d10") for number in range(6)),
]


class Page(HTMLParser):
    """Elements of a page, and its figures by their place."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.figures: dict[str, Any] = {}
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        known = dict(attrs)
        if place := known.get("data-figure"):
            value = json.loads(known["data-value"] or "")
            assert self.figures.setdefault(place, value) == value
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_figures() -> None:
    made = report.build(RUN, SAMPLES)
    assert made["requests"] == {
        "measured": True,
        "requests": 25,
        "failed": 1,
        "availability": 0.96,
        "before_first_answer": 0,
        "answered_by": {"app": 24, "edge": 1, "nobody": 0},
        "p50_ms": 15.0,
        "p95_ms": 50.0,
        "p99_ms": 50.0,
        "max_ms": 50.0,
        "failures": [{"time": 113.5, "error": "answered 503", "ms": 1.0, "url": 0, "under_way": ["web1 gate"]}],
        "first_error": "answered 503",
    }
    assert made["roll"] == {"start": 110.0, "end": 120.0, "seconds": 10.0}
    parts = {name: (part["requests"], part["failed"], part["p50_ms"]) for name, part in made["latency"].items()}
    assert parts == {"before": (8, 0, 13.0), "during": (11, 1, 50.0), "after": (6, 0, 7.0)}
    assert [host["seconds"] for host in made["hosts"]] == [4.0, 6.0, 0]
    assert (made["seconds"], made["plays"][0]["seconds"]) == (30.0, 12.0)
    json.dumps(made, allow_nan=False)


def test_the_page_says_what_the_json_says() -> None:
    made = report.build(RUN, SAMPLES)
    page = Page(report.render(made))
    assert not page.open
    assert page.figures["requests.failed"] == 1
    assert page.figures["requests.requests"] == 25
    for place, value in page.figures.items():
        found: Any = made
        for key in place.split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert found == value, place
    assert page.figures["hosts.0.gap"] == 2.31
    assert "nobody answered for 2.3 s, as fastapi_app_slots_overlap says" in " ".join(page.text.split())
    assert {"hosts.2.outcome", "latency.during.p99_ms", "requests.availability", "hosts.1.cause"} <= set(page.figures)


def test_the_page_needs_nothing_else() -> None:
    html = report.render(report.build(RUN, SAMPLES))
    assert "script" not in Page(html).tags
    assert not re.findall(r"(?:https?:|//|url\((?!#)|@import|src=)", html.replace('href="data:,"', ""))


@pytest.mark.parametrize("hostile", [HOSTILE, "", "x" * 5000, "\ud800", "-->"])
def test_hostile_texts_are_only_text(hostile: str) -> None:
    run = hostile_copy(RUN, hostile)
    samples = [sample(112.0), sample(113.0, error=hostile or "x", release=hostile)]
    made = report.build(run, samples)
    html = report.render(made)
    assert not {"script", "img"} & set(Page(html).tags)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800]", html)
    html.encode()
    ET.fromstring(re.search(r"<svg.*</svg>", html, re.DOTALL)[0])  # type: ignore[index] # noqa: S314 - our own
    assert not re.search("[\x00-\x08\x1b\u202e]", report.table(run))


def hostile_copy(value: Any, hostile: str) -> Any:
    if isinstance(value, dict):
        return {key: hostile_copy(item, hostile) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile_copy(item, hostile) for item in value]
    return hostile if isinstance(value, str) else value


def cut(value: Any, put: Any) -> list[Any]:
    """Copies of a value in each of which one part is something else."""
    if isinstance(value, dict):
        return [{**value, key: other} for key, item in value.items() for other in [put, *cut(item, put)]] + [
            {other: item for other, item in value.items() if other != key} for key in value
        ]
    if isinstance(value, list):
        return [
            [*value[:at], other, *value[at + 1 :]] for at, item in enumerate(value) for other in [put, *cut(item, put)]
        ]
    return []


@pytest.mark.parametrize("put", [None, math.nan, "", -1, True])
def test_anything_may_be_missing(put: Any) -> None:
    runs = [{}, *cut(RUN, put)]
    assert len(runs) > 60
    for run in runs:
        for samples in ((), SAMPLES[6:12]):
            made = report.build(run, samples)
            json.dumps(made, allow_nan=False)
            assert not Page(report.render(made)).open
            report.table(run)


@pytest.mark.parametrize("put", [None, math.nan, "", -1, True])
def test_any_sample_may_be_odd(put: Any) -> None:
    for odd in cut(sample(113.0, error="reset", release="old"), put):
        made = report.build(RUN, [*SAMPLES, odd])
        json.dumps(made, allow_nan=False)
        assert not Page(report.render(made)).open


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "not measured"),
        ([sample(101.0, error="refused")], "1 of 1 request failed · availability 0 %"),
        ([sample(101.0)], "0 of 1 request failed · availability 100 %"),
        ([sample(101.0, error="refused"), sample(102.0)], "1 before the first answer are not counted"),
        ([sample(101.0), sample(102.0, error="reset")], "1 of 2 requests failed · availability 50 %"),
        (
            [sample(101.0), sample(102.0, error="answered 503"), sample(103.0, error="reset") | {"by": "nobody"}],
            "Answered by the app 1, by the edge itself 1, by nobody 1; the first failure: answered 503.",
        ),
    ],
)
def test_what_is_said_of_the_requests(samples: list[dict[str, Any]], said: str) -> None:
    text = Page(report.render(report.build(RUN, samples)).replace("<p ", " <p ")).text
    assert said in " ".join(text.split())


def test_table() -> None:
    assert report.table(RUN).splitlines() == [
        "host  was  tried  now  outcome    canary  seconds",
        "web1  old  new    new  good       good    4.0",
        "web2  old  new    -    failed     -       6.0",
        "web3  old  -      old  untouched  -       -",
    ]
    assert report.table({}) == "host  was  tried  now  outcome  seconds"


def test_long_logs_show_their_end() -> None:
    log = "\n".join(f"line {number}" for number in range(500))
    made = report.build({"hosts": [{"host": "web1", "outcome": "failed", "diagnosis": log}]})
    assert made["hosts"][0]["diagnosis"].splitlines()[-1] == "line 499"
    assert made["hosts"][0]["left_out"] == 380
    page = Page(report.render(made))
    assert "380 earlier lines are left out" in page.text
    assert "line 379\n" not in page.text


@pytest.mark.parametrize("count", [10, 480, 481, 5000, 36_000])
def test_few_marks_that_keep_the_slowest_and_every_failure(count: int) -> None:
    chance = random.Random(count)  # noqa: S311 - the same every time
    samples = [sample(number / 10, chance.uniform(1, 9)) for number in range(count)]
    samples[count // 2] = sample(samples[count // 2]["start"], 900.0)
    for at in range(0, count, 7):
        samples[at] = sample(samples[at]["start"], 1.0, "reset")
    samples[count // 2] = sample(samples[count // 2]["start"], 900.0)
    found = report.marks(samples, "")
    failed = sum(1 for one in samples if one.get("error"))
    assert len(found) <= 600
    assert sum(mark["failed"] for mark in found) == failed
    assert max(mark["ms"] for mark in found if not mark["failed"]) == 900.0
    assert min(mark["ms"] for mark in found if not mark["failed"]) == min(
        one["ms"] for one in samples if not one.get("error")
    )
    assert len(found) == count or count > 480
    assert [mark["start"] for mark in found] == sorted(mark["start"] for mark in found)


def test_who_answered() -> None:
    answers = ["77aa01bc9d10", "77aa01bc", "old", ""]
    marks = report.marks([sample(float(at), release=release) for at, release in enumerate(answers)], "77aa01bc9d10")
    assert [mark["new"] for mark in marks] == [True, True, False, None]


@pytest.mark.parametrize("count", [1, 4, 12, 50])
def test_each_host_has_a_row(count: int) -> None:
    hosts = [{**RUN["hosts"][0], "host": f"web{number}", "batch": number // 3 + 1} for number in range(count)]
    html = report.render(report.build({**RUN, "hosts": hosts}, SAMPLES))
    rows = re.findall(r'<div class="label host good" style="top:([\d.]+)px;height:([\d.]+)px', html)
    assert len(rows) == count
    ends = [(float(top), float(top) + float(height)) for top, height in rows]
    assert all(end <= top for (_, end), (top, _) in itertools.pairwise(ends))
    assert html.count('<rect class="phase phase-gate"') == count


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["web1.example.com", "web2.example.com"], ["web1", "web2"]),
        (["web1.example.com", "web2.example.org"], ["web1.example.com", "web2.example.org"]),
        (["web1", "web2"], ["web1", "web2"]),
        (["10.0.0.1"], ["10.0.0.1"]),
        ([], []),
    ],
)
def test_a_domain_that_all_have_is_left_out(names: list[str], shown: list[str]) -> None:
    assert list(short_names([{"host": name} for name in names]).values()) == shown


def test_what_was_taken_back_looks_different() -> None:
    steps = [STEP, {**STEP, "start": 116.0, "revert": True}]
    html = report.render(report.build({**RUN, "hosts": [{**RUN["hosts"][0], "steps": steps}]}))
    assert html.count('<rect class="phase phase-gate"') == 2
    assert html.count('<rect class="back"') == 1
    assert "web1: taking back: gate 4.0 s, at 16 s" in html


def test_only_the_roll_is_drawn_large_but_no_failure_is_left_out() -> None:
    long = {**RUN, "started": -3000.0, "ended": 3000.0}
    window = Window.of(report.build(long, SAMPLES))
    assert (window.start, window.end) == (107.0, 123.0)
    early = Window.of(report.build(long, [sample(-200.0), sample(-100.0, error="reset"), *SAMPLES]))
    assert (early.start, early.end) == (-100.0, 123.0)
    assert Window.of(report.build(RUN)).start == 107.0
    assert Window.of(report.build({})).end == 1.0


@pytest.mark.parametrize("span", [0.5, 3.0, 40.0, 66.0, 400.0, 7000.0, 90_000.0, 1e7])
def test_axis(span: float) -> None:
    ticks = Window(1000.0, 1000.0 + span, 995.0).ticks()
    assert 1 <= len(ticks) <= 8 or span < 1
    assert all(0 <= x <= 100 for x, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


@pytest.mark.parametrize(
    ("values", "low", "high", "labels"),
    [
        ([3.0, 157.0], 2, 200, ["10 ms", "100 ms", "2 ms", "200 ms"]),
        ([], 1, 20, ["1 ms"]),
        ([4.0], 2, 20, ["10 ms"]),
        ([0.0, 4800.0], 0.05, 5000, ["1 s", "100 ms"]),
        ([9.0, 9.0], 5, 50, ["50 ms"]),
    ],
)
def test_scale(values: list[float], low: float, high: float, labels: list[str]) -> None:
    scale = Scale.of(values, 10.0)
    assert (scale.low, scale.high) == (low, high)
    assert (scale.y(low), scale.y(high)) == (10.0 + PANEL, 10.0)
    assert {label for _, label in scale.ticks()} >= set(labels)
    assert all(10.0 <= scale.y(value) <= 10.0 + PANEL for value in values)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "100 %"), (0.999999, "99.999 %"), (0.5, "50 %"), (0.0, "0 %"), (None, "unknown"), (1233 / 1234, "99.918 %")],
)
def test_availability_is_never_rounded_up(value: float | None, shown: str) -> None:
    assert share(value) == shown


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (milliseconds(None), "\N{EN DASH}"),
        (milliseconds(3.44), "3.4"),
        (milliseconds(1234.5), "1,234"),
        (duration(66.04), "66.0 s"),
        (duration(125.0), "2 min 05 s"),
        (duration(4000.0), "1 h 06 min"),
        (clock(5.0), "5 s"),
        (clock(65.0), "1:05"),
        (clock(120.0, 60), "2:00"),
        (clock(-65.0), "-1:05"),
        (clock(3661.0), "1:01 h"),
    ],
)
def test_how_numbers_read(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_files(tmp_path: Path) -> None:
    made = report.build(RUN, SAMPLES)
    page = report.write(made, tmp_path / "reports/fleet", report.name_of(RUN))
    assert page.name == "19700101T000140Z-77aa01bc9d10.html"
    assert json.loads(page.with_suffix(".json").read_text()) == json.loads(json.dumps(made))
    assert page.read_text() == report.render(made)
    assert report.name_of({"release": "../../etc/x"}) == "19700101T000000Z-.._.._etc_x"
    assert report.read_samples(None) == []
    assert report.read_samples(str(tmp_path / "nothing")) == []


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast(scheme: int) -> None:
    """WCAG 2.2 AA: 4.5 for text (1.4.3), 3 for what a picture is made of (1.4.11)."""
    style = (TEMPLATES / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+):\s+(#\w{6})", part)) for part in style.split("@media", 2)[:2])
    colors = (light, {**light, **dark})[scheme]
    texts = [(name, back) for name in ("ink", "soft", "bad") for back in ("card", "paper")]
    texts += [("soft", "roll"), ("soft", "calm-back"), *((name, f"{name}-back") for name in ("good", "warn", "bad"))]
    graphics = [(name, "card") for name in ("start", "gate", "edge", "drain", "soak", "stop", "return", "bad")]
    graphics += [("old", "roll"), ("new", "roll"), ("bad", "roll")]
    low = {pair: round(contrast(*(colors[name] for name in pair)), 2) for pair in texts + graphics}
    assert not {pair: ratio for pair, ratio in low.items() if ratio < (4.5 if pair in texts else 3)}
