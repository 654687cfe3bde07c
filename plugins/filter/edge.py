# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A filter for the configuration of an edge."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import at_or_below


class FilterModule:
    """Of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"at_or_below": at_or_below}
