# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that say what a restore will do, why it may not be done, and what it did, and what a drill needs."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.backups import (
    plan,
    refused,
    restored,
    stand_in_images,
)


class FilterModule:
    """restore_plan, restore_refused, restored and stand_in_images, all of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {
            "restore_plan": plan,
            "restore_refused": refused,
            "restored": restored,
            "stand_in_images": stand_in_images,
        }
