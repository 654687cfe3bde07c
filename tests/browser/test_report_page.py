"""The report in a real browser: what it shows is what the JSON says, and it fits the screen."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import document as report

from tests.browser import examples
from tests.browser.chromium import Browser

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>console.error('run')</script><img src=x onerror=console.error('run')>\u202e\x1b[31m" + "w" * 300
FIGURES = """
[...document.querySelectorAll("[data-figure]")].map(element => ({
  place: element.dataset.figure, value: JSON.parse(element.dataset.value), text: element.innerText.trim(),
  seen: element.getClientRects().length > 0 && getComputedStyle(element).visibility === "visible",
}))
"""
# What a reader can scroll to on its own does not count: the log of a host.
TOO_WIDE = """
[...document.querySelectorAll("body *")].filter(element => !element.closest("pre") && !element.closest("thead") &&
  element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(element => element.outerHTML)
"""


def many() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fifty hosts, an hour, and a slow balancer."""
    run, samples = examples.good()
    hosts = [
        examples.host(
            f"web{number}.a-long-domain.example.com", number // 12 + 1, "good", examples.steps(30.0, examples.GOOD)
        )
        for number in range(50)
    ]
    return {**run, "hosts": hosts, "ended": run["started"] + 3600}, samples


def hostile() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    run, samples = examples.reverted()
    for host in run["hosts"]:
        host.update(dict.fromkeys(("host", "was", "tried", "now", "outcome", "cause", "diagnosis"), HOSTILE))
    run.update(
        dict.fromkeys(("app", "inventory", "operation", "release", "who", "from", "verdict", "message"), HOSTILE)
    )
    return run, [sample | ({"error": HOSTILE} if "error" in sample else {"release": HOSTILE}) for sample in samples]


def unmeasured() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return examples.good()[0], []


def empty() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {}, []


RUNS = {make.__name__: make for make in (examples.good, examples.reverted, many, hostile, unmeasured, empty)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def read_number(text: str) -> float:
    return float(text.replace(",", "").partition(" ")[0])


@pytest.mark.parametrize("width", [1200, 420])
@pytest.mark.parametrize("name", RUNS)
def test_the_page_shows_what_the_json_says(browser: Browser, tmp_path: Path, name: str, width: int) -> None:
    run, samples = RUNS[name]()
    page = report.write(report.build(run, samples), tmp_path, name)
    made = json.loads(page.with_suffix(".json").read_text())
    browser.complaints.clear()
    browser.requested.clear()
    browser.open(page, width, dark=width == 420)

    figures = browser.evaluate(FIGURES)
    assert len(figures) >= (3 if name == "empty" else 20)
    for figure in figures:
        found: Any = made
        for key in figure["place"].split("."):
            found = found[int(key)] if isinstance(found, list) else found[key]
        assert figure["value"] == found, figure
        assert figure["seen"] or found == "", figure
        if figure["place"].startswith(("requests.failed", "requests.requests", "latency.")) and found is not None:
            assert read_number(figure["text"]) == pytest.approx(found, abs=0.06 if found < 100 else 0.6), figure
        if figure["place"].endswith((".host", ".was", ".tried", ".now")) and found is not None:
            assert figure["text"] == found, figure

    assert browser.evaluate(TOO_WIDE) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.complaints == []
    assert browser.requested == [page.as_uri()]
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(17, 21, 26)" if width == 420 else "rgb(246, 246, 243)"
    )
    if directory := os.environ.get("SLIPWAY_PICTURES"):  # for whoever wants to look
        Path(directory).mkdir(parents=True, exist_ok=True)
        height = browser.evaluate("document.documentElement.scrollHeight")
        for dark in (False, True):
            browser.open(page, width, dark=dark, height=height)
            browser.picture(Path(directory, f"{name}-{width}-{'dark' if dark else 'light'}.png"))


def test_the_picture_shows_every_phase_and_every_failure(browser: Browser, tmp_path: Path) -> None:
    run, samples = examples.reverted()
    page = report.write(report.build(run, samples), tmp_path, "reverted")
    browser.open(page, 1200)
    steps = [step for host in run["hosts"] for step in host["steps"]]
    assert browser.evaluate("document.querySelectorAll('svg .phase').length") == sum(
        step["phase"] != "switch" for step in steps
    )
    assert browser.evaluate("document.querySelectorAll('svg .back').length") == sum(
        step["phase"] != "switch" and step["revert"] for step in steps
    )
    assert browser.evaluate("document.querySelectorAll('svg .switch').length") == 4
    assert browser.evaluate("document.querySelectorAll('svg .failure').length") == 4
    assert browser.evaluate("document.querySelectorAll('svg .cross').length") == 1
    assert "web3" in browser.evaluate("document.querySelector('details[open]').innerText")
    # the same axis for hosts and requests: a switch is where it is in the figures, to a pixel
    begins, width = browser.evaluate(
        "(box => [box.x, box.width])(document.querySelector('svg .axis').getBoundingClientRect())"
    )
    failures = browser.evaluate(
        "[...document.querySelectorAll('svg .failure')].map(line => line.getBoundingClientRect().x)"
    )
    gate = browser.evaluate(
        "(box => [box.x, box.width])(document.querySelector('svg .phase-gate').getBoundingClientRect())"
    )
    first = next(step for step in steps if step["phase"] == "gate")
    failed = next(sample for sample in samples if "error" in sample)
    seconds = (failures[0] - gate[0]) / gate[1] * first["seconds"]
    assert seconds == pytest.approx(failed["start"] - first["start"], abs=0.15)
    assert begins < gate[0] < begins + width


def test_paper_is_white(browser: Browser, tmp_path: Path) -> None:
    page = report.write(report.build(*examples.reverted()), tmp_path, "reverted")
    browser.open(page, 720, dark=True)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    colors = "(style => [style.color, style.backgroundColor])(getComputedStyle(document.querySelector('pre')))"
    assert browser.evaluate(colors) == ["rgb(27, 35, 45)", "rgb(255, 255, 255)"]
    assert browser.evaluate("document.documentElement.scrollWidth") == 720


def test_the_browser_notices_what_it_must(browser: Browser, tmp_path: Path) -> None:
    """The driver itself: a page that complains, asks for more and is too wide."""
    page = tmp_path / "bad.html"
    page.write_text("<p style='width:2000px'>x</p><script>console.error('oh'); nothing()</script><img src='gone.png'>")
    browser.complaints.clear()
    browser.requested.clear()
    browser.open(page, 420)
    assert browser.evaluate("document.documentElement.scrollWidth") > 2000
    assert browser.evaluate(TOO_WIDE)
    assert any('"oh"' in complaint for complaint in browser.complaints)
    assert any("nothing is not defined" in complaint for complaint in browser.complaints)
    assert (tmp_path / "gone.png").as_uri() in browser.requested


def test_the_picture_in_the_documentation_is_what_the_code_draws() -> None:
    drawn = examples.drawing()
    ET.fromstring(drawn)  # noqa: S314 - our own
    assert (ROOT / "docs/report.svg").read_text() == drawn, "write it anew: see tests/browser/examples.py"
    assert len(drawn) < 60_000
