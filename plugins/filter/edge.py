# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters for the configuration of an edge."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import (
    at_or_below,
    leading_to,
    other_spellings,
)


class FilterModule:
    """Of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"at_or_below": at_or_below, "leading_to": leading_to, "other_spellings": other_spellings}
