# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that look over all hosts of a fleet, for playbooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def edge_urls(hostvars: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Where requests from the controller reach the app: the balancers, else the web hosts.

    A host's `slipway_url` says it; without it http and its address.
    """
    hosts = groups.get("load_balancer") or groups.get("web") or ()
    variables = ((host, hostvars[host]) for host in hosts)
    return [known.get("slipway_url") or f"http://{known.get('ansible_host') or host}" for host, known in variables]


class FilterModule:
    """slipway.fleet.edge_urls."""

    def filters(self) -> dict[str, Any]:
        return {"edge_urls": edge_urls}
