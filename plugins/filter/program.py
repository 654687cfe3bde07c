# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A filter that lists a program which stays on hosts, for role vars."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.program import files


class FilterModule:
    """Of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"program": files}
