"""Hosts that are to get the same image or package share what makes it."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.contents import Present, shared


def test_equal_requests_are_one_content() -> None:
    made: list[Any] = []

    def make(request: Any) -> Present:
        made.append(request)
        return Present(request["name"], "key")

    wanted = {
        "a": {"kind": "image", "request": {"name": "one", "args": {"x": 1, "y": 2}}},
        "b": {"kind": "image", "request": {"args": {"y": 2, "x": 1}, "name": "one"}},
        "c": {"kind": "image", "request": {"name": "two"}},
        "d": {"kind": "package", "request": {"name": "two"}},
    }
    found = shared(wanted, {"image": make, "package": make})
    assert found["a"] is found["b"]
    assert len({id(content) for content in found.values()}) == 3
    assert [request["name"] for request in made] == ["one", "two", "two"]
