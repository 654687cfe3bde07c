"""The report of a drill in a real browser: it fits the screen, and shows every set and every phase."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import drills as report

from tests.browser import drills
from tests.browser.chromium import Browser
from tests.browser.test_report_page import FIGURES, ROOT, TOO_WIDE


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.mark.parametrize("width", [1200, 420])
def test_the_page_fits_and_shows_all_of_it(browser: Browser, tmp_path: Path, width: int) -> None:
    made = report.build("fleet", drills.AT, drills.fleet(), drills.DRILLS)
    page = report.write(made, tmp_path)
    browser.open(page, width, dark=width == 420)
    assert all(figure["seen"] for figure in browser.evaluate(FIGURES))
    assert browser.evaluate(TOO_WIDE) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert (browser.complaints, browser.requested) == ([], [page.as_uri()])
    browser.requested.clear()
    assert browser.evaluate("document.querySelectorAll('svg circle').length") == sum(
        len(host["sets"]) for host in made["hosts"]
    )
    assert browser.evaluate("document.querySelectorAll('svg circle.proven').length") == 5 + 5 + 5 - 1
    assert browser.evaluate("document.querySelectorAll('svg .cross').length") == 1
    assert browser.evaluate("document.querySelectorAll('.restores i').length") == 7 + 2 + 7


def test_the_picture_of_the_documentation_is_that_of_the_example() -> None:
    drawn = drills.drawing()
    ET.fromstring(drawn)  # noqa: S314 - our own
    assert (ROOT / "docs/drill.svg").read_text() == drawn, "write it anew: see tests/browser/drills.py"
