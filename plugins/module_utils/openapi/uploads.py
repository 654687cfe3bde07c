# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which operations of an OpenAPI document take files. Pure, and within limits: whoever wrote it may mean harm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

METHODS = ("post", "put", "patch")
FORM = "multipart/form-data"
NOTHING: Mapping[str, Any] = {}
# Paths that are looked at, and references that lead to each other.
MOST, LINKS = 2000, 5


def uploads(document: Mapping[str, Any]) -> list[str]:
    """Operations with a file in their form, such as `POST /files`."""
    found = []
    known: dict[int, bool] = {}  # many operations may have the same form
    for method, path, operation in _operations(document):
        form = _form(document, operation)
        if id(form) not in known:
            known[id(form)] = any(_is_file(_mapping(one)) for one in _mapping(form.get("properties")).values())
        if known[id(form)]:
            found.append(f"{method.upper()} {path}")
    return found


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in list(_mapping(document.get("paths")).items())[:MOST]:
        for method in METHODS:
            yield method, str(path), _mapping(_mapping(methods).get(method))


def _form(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Mapping[str, Any]:
    content = _mapping(_mapping(operation.get("requestBody")).get("content"))
    schema = _mapping(_mapping(content.get(FORM)).get("schema"))
    for _ in range(LINKS):
        if not (link := str(schema.get("$ref") or "")):
            break
        schemas = _mapping(_mapping(document.get("components")).get("schemas"))
        schema = _mapping(schemas.get(link.rpartition("/")[2]))
    return schema


def _is_file(schema: Mapping[str, Any], depth: int = LINKS) -> bool:
    """One, or a list of them, or one that may be left away.

    Sources: OpenAPI 3.0 (`format`), 3.1 (`contentMediaType`).
    """
    if schema.get("type") == "string" and (schema.get("format") == "binary" or "contentMediaType" in schema):
        return True
    choices = schema.get("anyOf")
    inside = [schema.get("items"), *(choices if isinstance(choices, list) else ())]
    return depth > 0 and any(_is_file(_mapping(one), depth - 1) for one in inside if one)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else NOTHING
