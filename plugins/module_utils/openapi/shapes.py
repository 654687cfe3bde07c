"""From a JSON Schema, as OpenAPI 3.0 and 3.1 have it, to the shapes that a value may have. Pure.

A schema becomes a few alternatives, each of one kind: references, allOf, anyOf, oneOf, lists of types and nullable are
worked in. What cannot be told within the limits has the kind `UNKNOWN`, and nothing is said about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from .document import Document, part, parts

ANY, UNKNOWN = "anything", "something"
KINDS = ("string", "integer", "number", "boolean", "array", "object", "null")
# Alternatives of a schema, and schemas inside each other without a field between.
MOST, DEEPEST = 32, 30
# Less is what fits more: of two limits the other one is the narrower.
UPPER = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")
LOWER = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
# Formats that say how something is shown or sent, not what it is.
UNHEEDED = ("password", "binary", "byte", "int32", "int64", "float", "double")
# What of a schema narrows it, beside a reference.
_OWN = {
    *("type", "format", "enum", "const", "properties", "required", "additionalProperties", "items", "pattern"),
    *("nullable", *UPPER, *LOWER),
}


@dataclass(frozen=True)
class Shape:
    """One alternative of a schema. `values` are those that it may have, None for all of its kind.

    `closed` is an object that takes no other properties; `other` is what others of them are, None for anything.
    """

    kind: str
    title: str = ""
    format: str = ""
    values: Optional[frozenset[str]] = None
    properties: dict[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    closed: bool = False
    other: Any = None
    items: Any = None
    limits: dict[str, float] = field(default_factory=dict)
    pattern: str = ""


class Shapes:
    """The shapes of one document's schemas; each is worked out once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._budget = document.budget
        # With the schema itself, so that its id stays its own.
        self._known: dict[int, tuple[Any, tuple[Shape, ...]]] = {}
        self._open: set[int] = set()

    def of(self, schema: Any) -> tuple[Shape, ...]:
        """The alternatives of a schema; none for one that nothing fits. Raises Enough."""
        self._budget.spend()
        if not isinstance(schema, dict):
            return () if schema is False else (Shape(ANY),)
        if id(schema) in self._known:
            return self._known[id(schema)][1]
        if id(schema) in self._open or len(self._open) >= DEEPEST:
            return (Shape(UNKNOWN),)
        self._open.add(id(schema))
        try:
            found = self._worked_out(schema)
        finally:
            self._open.discard(id(schema))
        self._known[id(schema)] = (schema, found)
        return found

    def _worked_out(self, schema: dict[str, Any]) -> tuple[Shape, ...]:
        found = self._own(schema)
        if isinstance(schema.get("$ref"), str):
            target = self._document.at(schema["$ref"])
            # One that leads out of the document says nothing.
            found = self._both(found, (Shape(UNKNOWN),) if target is None else self.of(target))
        for member in parts(schema, "allOf"):
            found = self._both(found, self.of(member))
        for name in ("anyOf", "oneOf"):
            if members := parts(schema, name):
                found = self._both(found, [shape for member in members for shape in self.of(member)])
        if schema.get("nullable") is True and not any(shape.kind in (ANY, "null") for shape in found):
            found = (*found, Shape("null"))
        return tuple(found)

    def _own(self, schema: dict[str, Any]) -> tuple[Shape, ...]:
        """What the schema says by itself."""
        if not _OWN & schema.keys():
            return (Shape(ANY, title=_text(schema.get("title"))),)
        properties = part(schema, "properties")
        self._budget.spend(len(properties) + len(parts(schema, "enum")))
        values = _values(schema)
        return tuple(self._shape(kind, schema, properties, values) for kind in _kinds(schema, values))

    def _shape(
        self, kind: str, schema: dict[str, Any], properties: dict[str, Any], values: Optional[dict[str, str]]
    ) -> Shape:
        own = None if values is None else frozenset(text for text, of in values.items() if _is(of, kind))
        other = schema.get("additionalProperties")
        form = _text(schema.get("format")) if kind == "string" else ""
        return Shape(
            kind=kind,
            title=_text(schema.get("title")),
            format="" if form in UNHEEDED else form,
            values=own,
            properties=properties if kind == "object" else {},
            required=frozenset(name for name in parts(schema, "required") if isinstance(name, str)),
            closed=other is False,
            other=other if isinstance(other, dict) else None,
            items=schema.get("items") if kind == "array" else None,
            limits={name: schema[name] for name in (*UPPER, *LOWER) if type(schema.get(name)) in (int, float)},
            pattern=_text(schema.get("pattern")),
        )

    def _both(self, first: Sequence[Shape], second: Sequence[Shape]) -> tuple[Shape, ...]:
        """What fits both; something unknown where that is nothing, or too much to tell."""
        if len(first) * len(second) > MOST:
            return (Shape(UNKNOWN),)
        self._budget.spend(len(first) * len(second))
        found = [shape for one in first for other in second if (shape := self._meet(one, other))]
        return tuple(found) or (Shape(UNKNOWN),)

    def _meet(self, one: Shape, other: Shape) -> Optional[Shape]:
        kinds = {one.kind, other.kind}
        if UNKNOWN in kinds:
            return Shape(UNKNOWN)
        kinds -= {ANY}
        if kinds == {"integer", "number"}:
            kinds = {"integer"}
        if len(kinds) > 1:
            return None
        self._budget.spend(len(one.properties) + len(other.properties))
        values = one.values if other.values is None else other.values
        if one.values is not None and other.values is not None:
            values = one.values & other.values
        return Shape(
            kind=kinds.pop() if kinds else ANY,
            title=one.title or other.title,
            format=one.format or other.format,
            values=values,
            properties=_merged(one.properties, other.properties),
            required=one.required | other.required,
            closed=one.closed or other.closed,
            other=_all_of(one.other, other.other),
            items=_all_of(one.items, other.items),
            limits=_narrowest(one.limits, other.limits),
            pattern=" and ".join(dict.fromkeys(filter(None, (one.pattern, other.pattern)))),
        )


def _kinds(schema: dict[str, Any], values: Optional[dict[str, str]]) -> Iterable[str]:
    """The kinds that a schema names, or that can be told from what else it says."""
    named = schema.get("type")
    given = [named] if isinstance(named, str) else [kind for kind in named or () if isinstance(kind, str)]
    kinds = [kind for kind in dict.fromkeys(given) if kind in KINDS]
    if values is not None:
        own = list(dict.fromkeys(values.values()))
        return [kind for kind in kinds or own if any(_is(of, kind) for of in own)] or kinds
    if kinds:
        return kinds
    if {"properties", "required", "additionalProperties"} & schema.keys():
        return ["object"]
    return ["array"] if "items" in schema else [ANY]


def _is(kind: str, wanted: str) -> bool:
    return kind == wanted or (kind, wanted) == ("integer", "number")


def _values(schema: dict[str, Any]) -> Optional[dict[str, str]]:
    """The values that a schema names, as text, with the kind of each; None where it names none, or some with parts."""
    named = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(named, list) or not named:
        return None
    found = {}
    for value in named:
        if isinstance(value, (dict, list)):
            return None
        kind = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}[type(value)]
        found[str(value) if isinstance(value, str) else repr(value)] = kind
    return found


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if not one or not other:
        return one or other
    return {name: _all_of(one.get(name), other.get(name)) for name in (*one, *other)}


def _all_of(one: Any, other: Any) -> Any:
    return {"allOf": [one, other]} if one is not None and other is not None else other if one is None else one


def _narrowest(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    found = {**one, **other}
    for name in one.keys() & other.keys():
        found[name] = min(one[name], other[name]) if name in UPPER else max(one[name], other[name])
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
