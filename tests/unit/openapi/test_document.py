"""What an app answers is read within limits."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.document import (
    LARGEST,
    MOST_VALUES,
    Budget,
    Document,
    Enough,
    NoDocument,
    parsed,
)


def test_a_document_is_read() -> None:
    assert parsed('{"openapi": "3.1.0", "paths": {}}') == {"openapi": "3.1.0", "paths": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON"),
        ("<html>", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"openapi": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001, "no"),
        ("[]", "no OpenAPI document"),
        ("null", "no OpenAPI document"),
        ('{"swagger": "2.0"}', "no OpenAPI document"),
        ('{"openapi": 3}', "no OpenAPI document"),
        (json.dumps({"openapi": "3.1.0", "x": "a" * LARGEST}), "larger than 4 MiB"),
        (json.dumps({"openapi": "3.1.0", "x": [[]] * MOST_VALUES}, separators=(",", ":")), "more than 300000 values"),
    ],
)
def test_what_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(NoDocument, match=why):
        parsed(text)


def test_a_number_of_a_million_digits_takes_no_time() -> None:
    began = time.process_time()
    assert parsed('{"openapi": "3.1.0", "x": -' + "7" * 1_000_000 + "}")["openapi"] == "3.1.0"
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#/a/b", {"deep": 1}),
        ("#/a/c", {"deep": 1}),
        ("#/x~1y/m~0n", {"odd": 1}),
        ("#/x%2Fy/m~0n", {}),
        ("#/loop", {}),
        ("#/list/0", {}),
        ("#/not/there", {}),
        ("other.json#/a", {}),
        ("#a", {}),
    ],
)
def test_references_lead_to_parts(reference: str, found: Any) -> None:
    content = {
        "a": {"b": {"deep": 1}, "c": {"$ref": "#/a/b"}},
        "x/y": {"m~n": {"odd": 1}},
        "loop": {"$ref": "#/loop"},
        "list": [{"no": 1}],
    }
    assert Document(content, Budget(100)).get({"$ref": reference}) == found


def test_work_ends() -> None:
    budget = Budget(2)
    budget.spend(2)
    with pytest.raises(Enough):
        budget.spend()
