"""How a module ends: what it warns of is told before, and is no part of its result."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.answer import answer


class Module:
    """What a module says, in the order in which it does."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def warn(self, words: str) -> None:
        self.said.append(words)

    def exit_json(self, **result: Any) -> None:
        self.said.append(result)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"changed": True}, [{"changed": True}]),
        ({"changed": True, "warnings": []}, [{"changed": True}]),
        ({"told": {}, "warnings": ["one", "two"]}, ["one", "two", {"told": {}}]),
    ],
)
def test_warnings_come_before_the_result_and_not_in_it(result: dict[str, Any], said: list[Any]) -> None:
    module = Module()
    answer(module, result)
    assert module.said == said
