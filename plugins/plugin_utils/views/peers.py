# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How load balancers ask the hosts behind them, and which are not asked as they should be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import (
    Results,
    Told,
    problems_of,
    row_of,
    table,
)

COLUMNS = ("balancer", "app", "asks", "at", "by", "certificates until", "problem")


def row(balancer: str, result: Optional[Mapping[str, Any]]) -> dict[str, Any]:
    """One balancer for programs."""
    return row_of(balancer, result, {"servers": list((result or {}).get("servers") or ())})


def tell(results: Results) -> Told:
    """A table of the hosts behind each; never a failure by itself."""
    rows = [row(balancer, result) for balancer, result in results.items()]
    lines = [
        [entry["host"], one["app"], one["host"], one["at"], one["by"], one["until"], one["problem"] or "none"]
        for entry in rows
        for one in entry["servers"]
    ]
    return Told(table([COLUMNS, *lines]) if lines else "", rows)


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a host is not asked as it should be; 4 where a balancer did not answer."""
    return problems_of([row(balancer, result) for balancer, result in results.items()], named=False)
