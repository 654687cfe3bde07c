# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that make text of what an app is told, and quote it for a unit or for Compose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_shell
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import (
    compose_word,
    told,
    unit_assignment,
    unit_word,
)


def _assignment(value: str, name: str, marks: Sequence[str] = ()) -> str:
    return unit_assignment(name, value, marks)


def launched(command: list[str]) -> list[str]:
    """A command behind the launcher that makes variables of its secrets."""
    return [*by_shell(), *command]


class FilterModule:
    """told, compose_word, unit_word, unit_assignment and launched, all of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {
            "told": told,
            "compose_word": compose_word,
            "unit_word": unit_word,
            "unit_assignment": _assignment,
            "launched": launched,
        }
