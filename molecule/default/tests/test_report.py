"""The report of a deploy in a real browser: its requests reached the app, and the page has the figures of the JSON."""

from __future__ import annotations

import json
from pathlib import Path

from contract import ROOT

from tests.browser.chromium import Browser

SHOWN = """
Object.fromEntries([...document.querySelectorAll("[data-figure^='requests.']")].filter(
  element => element.getClientRects().length > 0).map(
  element => [element.dataset.figure.split(".")[1], element.innerText.trim()]))
"""


def test_the_first_deploy_was_seen_by_users(tmp_path: Path) -> None:
    """Molecule runs it in the directory of the scenario, and the second one, which changes nothing, writes none."""
    written = (ROOT / "molecule/default/reports").glob("*/*.html")
    page = max(written, key=lambda path: path.stat().st_mtime)
    requests = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["requests"]
    assert requests["requests"] > 0
    assert requests["failed"] == 0
    assert requests["answered_by"] == {"app": requests["requests"], "edge": 0, "nobody": 0}
    with Browser(tmp_path) as browser:
        browser.open(page, 1200)
        shown = browser.evaluate(SHOWN)
    assert (shown["requests"], shown["failed"]) == (f"{requests['requests']:,}", "0")
    assert "first_error" not in shown
