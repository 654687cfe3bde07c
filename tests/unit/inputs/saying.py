"""What the rules for a use of a role say of its variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import wrong_values


def says(use: str, values: Mapping[str, Any], *words: str) -> None:
    """There is a sentence for each of these, in their order, that has it, and no other one."""
    found = wrong_values(use, values.__getitem__)
    assert len(found) == len(words), found
    for sentence, part in zip(found, words, strict=True):
        assert part in sentence
