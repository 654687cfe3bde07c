"""The report of a deploy in a real browser: its requests reached the app, and the page has the figures of the JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import inventory_name
from contract import ROOT, inventory_file

from tests.browser.chromium import Browser

SHOWN = """
Object.fromEntries([...document.querySelectorAll("[data-figure^='requests.']")].filter(
  element => element.getClientRects().length > 0).map(
  element => [element.dataset.figure.split(".")[1], element.innerText.trim()]))
"""


def test_the_first_deploy_was_seen_by_users(host: Any, tmp_path: Path) -> None:
    """Of all scenarios of a run the reports are in one directory, by the time at which they began."""
    name = host.check_output("hostname")
    pages = sorted((ROOT / "reports" / inventory_name([inventory_file()])).glob("*.html"))
    reports = {page: json.loads(page.with_suffix(".json").read_text(encoding="utf-8")) for page in pages}
    page, report = next((page, one) for page, one in reports.items() if [of["host"] for of in one["hosts"]] == [name])
    requests = report["requests"]
    assert requests["requests"] > 0
    assert requests["failed"] == 0
    assert requests["answered_by"] == {"app": requests["requests"], "edge": 0, "nobody": 0}
    with Browser(tmp_path) as browser:
        browser.open(page, 1200)
        shown = browser.evaluate(SHOWN)
    assert (shown["requests"], shown["failed"]) == (f"{requests['requests']:,}", "0")
    assert "first_error" not in shown
