# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is known against the releases that serve, by their bills of materials."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom.audit import Audit, audit
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import DRIFT, UNSEEN, Results, Told, table

COLUMNS = ("package", "version", "id", "fixed in", "hosts")


def tell(results: Results, look: Callable[[Mapping[str, Any]], Audit] = audit) -> Told:
    """A table of vulnerabilities. Exit code 3 where one has a fix, else 4 where something was not checked.

    A vulnerability without a fix is shown, and does not fail the run: nobody could do anything about it.
    """
    documents, hosts, unchecked = _documents(results)
    rows: list[dict[str, Any]] = []
    checked = 0
    for content, document in documents.items():
        found = look(document)
        checked += found.checked
        rows += [{**one.as_dict(), "hosts": hosts[content]} for one in found.findings]
        unchecked += [f"{words} ({', '.join(hosts[content])})" for words in found.unchecked]
    fixable = sum(bool(row["fixed"]) for row in rows)
    lines = [
        [*(row[name] for name in ("package", "version", "id")), " ".join(row["fixed"]) or None, _all(row, results)]
        for row in rows
    ]
    said = [table([COLUMNS, *lines])] if rows else []
    said += [f"not checked: {words}" for words in unchecked]
    said.append(
        f"{checked} packages checked: {len(rows)} known vulnerabilities, {fixable} of them with a fix"
        if checked
        else "Nothing was checked, so nothing is known; this is no clean result."
    )
    code = DRIFT if fixable else UNSEEN if unchecked else 0
    message = f"{fixable} known vulnerabilities have a fix" if fixable else "; ".join(unchecked)
    return Told("\n".join(said), [*rows, *({"unchecked": words} for words in unchecked)], code, message if code else "")


def _documents(results: Results) -> tuple[dict[str, Mapping[str, Any]], dict[str, list[str]], list[str]]:
    """Each document once with the hosts that have it, and what is to be said of hosts without one."""
    documents: dict[str, Mapping[str, Any]] = {}
    hosts: dict[str, list[str]] = {}
    unchecked = []
    for host, result in results.items():
        if not (result or {}).get("content"):
            unchecked.append(f"{host}: no bill of materials; it does not answer, or its release was made without one")
            continue
        text = base64.b64decode((result or {})["content"]).decode()
        documents.setdefault(text, json.loads(text))
        hosts.setdefault(text, []).append(host)
    return documents, hosts, unchecked


def _all(row: Mapping[str, Any], results: Results) -> str:
    return f"all {len(results)}" if len(row["hosts"]) == len(results) > 1 else ",".join(row["hosts"])
