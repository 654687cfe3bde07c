# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that quote the words of a unit file."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.words import unit_assignment, unit_word


def _assignment(value: object, name: str) -> str:
    return unit_assignment(name, value)


class FilterModule:
    """unit_word and unit_assignment, both of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"unit_word": unit_word, "unit_assignment": _assignment}
