"""An OpenAPI document (https://spec.openapis.org/oas) as an app served it: read within limits, its references followed.

Whoever wrote it may mean harm: nothing here takes more time or memory than its limits allow.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

# Bytes of a document, and values in it. The largest public ones have about 10 MB; an app of 500 routes has 1 MB.
LARGEST = 4 << 20
MOST_VALUES = 300_000
# Digits of a number that is read as one; int() takes time in proportion to their square.
DIGITS = 300
# References that lead to each other.
LINKS = 20


class NoDocument(Exception):
    """What an app answered is no OpenAPI document that can be read; the text says why."""


class Enough(Exception):
    """More work than two documents are worth."""


class Budget:
    """Steps that are left; one takes some microseconds."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Raises Enough when there are none."""
        self._left -= steps
        if self._left < 0:
            raise Enough


class Document:
    """A document whose parts may be references to others of its parts."""

    def __init__(self, content: dict[str, Any], budget: Budget) -> None:
        self.content = content
        self.budget = budget

    def get(self, part: Any) -> dict[str, Any]:
        """What a part is, a reference followed; empty where it is no object, or leads nowhere."""
        for _ in range(LINKS):
            if not isinstance(part, dict):
                return {}
            reference = part.get("$ref")
            if not isinstance(reference, str):
                return part
            part = self.at(reference)
        return {}

    def target(self, schema: Any) -> Any:
        """What a schema stands for that is nothing but a reference; the same for all of them, else itself."""
        for _ in range(LINKS):
            if not isinstance(schema, dict) or len(schema) != 1 or not isinstance(schema.get("$ref"), str):
                break
            found = self.at(schema["$ref"])
            if found is None:
                break
            schema = found
        return schema

    def at(self, reference: str) -> Any:
        """The part to which a reference points (RFC 6901); None for one that leads nowhere or out of the document."""
        if reference != "#" and not reference.startswith("#/"):
            return None
        found: Any = self.content
        for word in unquote(reference).split("/")[1:]:
            self.budget.spend()
            if not isinstance(found, dict):
                return None
            found = found.get(word.replace("~1", "/").replace("~0", "~"))
        return found


def parsed(text: str) -> dict[str, Any]:
    """The document in a text. Raises NoDocument."""
    if len(text) > LARGEST:
        raise NoDocument(f"it is larger than {LARGEST >> 20} MiB")
    if sum(map(text.count, "{[,")) > MOST_VALUES:  # before there is an object for each of them
        raise NoDocument(f"it has more than {MOST_VALUES} values")
    try:
        content = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise NoDocument(f"it is no JSON ({type(error).__name__})") from error
    if not isinstance(content, dict) or not str(content.get("openapi") or "").startswith("3."):
        raise NoDocument("it is no OpenAPI document of version 3")
    return content


def _integer(digits: str) -> float:
    return int(digits) if len(digits) <= DIGITS else float("inf")


def part(value: Any, name: str) -> dict[str, Any]:
    """An object that stands under a name; empty where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def parts(value: Any, name: str) -> list[Any]:
    """A list that stands under a name; empty where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []
