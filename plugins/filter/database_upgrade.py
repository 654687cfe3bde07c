# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that say what an upgrade of a database will do, why it may not be done, and what it did."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.database_upgrade import done, plan, refused


class FilterModule:
    """upgrade_plan, upgrade_refused and upgraded, all of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"upgrade_plan": plan, "upgrade_refused": refused, "upgraded": done}
