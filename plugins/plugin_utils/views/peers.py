# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How load balancers ask the hosts behind them, and what keeps users from them there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.status import pages
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
    seen = result or {}
    return row_of(balancer, result, {name: list(seen.get(name) or ()) for name in ("servers", "pages")})


def tell(results: Results) -> Told:
    """A table of the hosts behind each; never a failure by itself."""
    rows = [row(balancer, result) for balancer, result in results.items()]
    lines = [
        [entry["host"], one["app"], one["host"], one["at"], one["by"], one["until"], one["problem"] or "none"]
        for entry in rows
        for one in entry["servers"]
    ]
    text = table([COLUMNS, *lines]) if lines else ""
    return Told("\n".join(filter(None, [text, *shown_pages(rows)])), rows)


def shown_pages(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each maintenance page that balancers show, whatever hosts do."""
    return pages([{"host": f"{row['host']} ({page['app']})", "page": page} for row in rows for page in row["pages"]])


def tell_between(results: Results) -> Told:
    """What a deploy would not stop at, and keeps users from it all the same: lines for people, never a failure."""
    rows = [row(host, result) for host, result in results.items()]
    said = [
        *(f"{entry['host']} asks {_asked(entry['servers'])}" for entry in rows if entry["servers"]),
        *(
            problem if entry["answers"] else f"{entry['host']}: {problem}"
            for entry in rows
            for problem in entry["problems"]
        ),
        *shown_pages(rows),
    ]
    heading = "Load balancers, and the way from them to the hosts (docs/balancers.md):"
    return Told("\n".join([heading, *said]) if said else "", rows)


def _asked(servers: Sequence[Mapping[str, Any]]) -> str:
    """Which hosts by which way: `web1, web2 by TLS, with certificates until 2036-11-24; web3 by HTTP`."""
    ways = sorted(
        {(one["by"], one["until"] or "", one["host"]) for one in servers}, key=lambda way: (way[0] != "TLS", way)
    )
    return "; ".join(
        f"{', '.join(name for _, _, name in of)} by {by}" + (f", with certificates until {until}" if until else "")
        for (by, until), of in groupby(ways, key=lambda way: way[:2])
    )


def tell_problems(results: Results) -> Told:
    """Exit code 3 where a host is not asked as it should be; 4 where a balancer did not answer."""
    return problems_of([row(balancer, result) for balancer, result in results.items()], named=False)
