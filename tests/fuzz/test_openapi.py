"""What an app says of its API."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.openapi.compare import compare
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.document import NoDocument, parsed
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.uploads import uploads
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect import findings
from hypothesis import strategies as st

from tests.fuzz.hostile import DEEP, JSON, TEXTS, dumped, given, like, quick, texts_like

WORDS = st.sampled_from(
    [
        *("$ref", "type", "enum", "const", "properties", "required", "items", "allOf", "anyOf", "oneOf", "nullable"),
        *("format", "pattern", "maxLength", "minimum", "additionalProperties", "schema", "content", "parameters", "in"),
        *(
            "name",
            "requestBody",
            "responses",
            "200",
            "default",
            "get",
            "post",
            "application/json",
            "title",
            "/a/{b}",
            "multipart/form-data",
        ),
    ]
)
LEAVES = st.one_of(
    JSON,
    st.sampled_from(
        ["#", "#/", "#/paths", "#/components/schemas/A", "#/components/schemas/B", "string", "object", "array", "query"]
    ),
)
SCHEMAS = st.recursive(
    LEAVES, lambda inner: st.dictionaries(WORDS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=25
)


def api(paths: Any, named: Any, other: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": paths, "components": {"schemas": {"A": named, "B": other}}}


@given(SCHEMAS, SCHEMAS, SCHEMAS, SCHEMAS)
def test_two_documents(old: Any, new: Any, named: Any, other: Any) -> None:
    with quick():
        for one, two in (
            ({"/a/{b}": {"get": old}}, {"/a/{b}": {"get": new}}),
            ({"/a": {"post": {"requestBody": old}}}, {"/a": {"post": {"requestBody": new}}}),
            ({"/a": {"get": {"responses": {"200": old}}}}, {"/a": {"get": {"responses": {"200": new}}}}),
            ({"/a": {"get": {"parameters": [old]}}}, {"/a": {"get": {"parameters": [new, old]}}}),
        ):
            found = compare(api(one, named, other), api(two, other, named))
            assert isinstance(repr(found), str)
            assert all(isinstance(name, str) for name in uploads(api(one, named, other)))


@given(texts_like({"openapi": "3.1.0", "paths": {}}) | DEEP)
def test_a_text(text: str) -> None:
    with quick():
        try:
            found = parsed(text)
        except NoDocument:
            return
        compare(found, found)
        uploads(found)


@given(st.one_of(TEXTS, DEEP, like({"paths": {"/a": {}, "/healthz": {}}}).map(dumped), JSON.map(json.dumps)))
def test_the_paths_that_an_inspection_reads(text: str) -> None:
    with quick():
        assert all(isinstance(path, str) for path in findings.documented(text))
