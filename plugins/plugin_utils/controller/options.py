# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Options of a task as the types that a request has; what a template made of a number or a truth is taken as that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


class OptionError(ValueError):
    """An option cannot be used; the text names the variable that it came from, and what it takes."""


def typed(kind: type[T], options: Mapping[str, Any], prefix: str) -> T:
    """A dataclass from the options with the names of its fields; what is not given or None has the field's default.

    Args:
        kind: the dataclass, whose fields are str, bool, int, Path, tuples of str, or dict of str, or optional ones
        options: by name; others than the fields are refused
        prefix: of the role's variables, for messages
    """
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(options.keys() - known.keys()):
        raise OptionError(f"there is no option {', '.join(unknown)}; there are {', '.join(known)}")
    given = {name: value for name, value in options.items() if value is not None}
    for name, field in known.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise OptionError(f"{prefix}_{name} is missing")
    return kind(**{name: _as(str(known[name].type), value, f"{prefix}_{name}") for name, value in given.items()})


def _as(kind: str, value: Any, name: str) -> Any:
    """A value as the annotation of its field says."""
    wanted = kind.partition(" | ")[0]
    if wanted == "str" and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    if wanted == "Path" and isinstance(value, (str, Path)):
        return Path(value).expanduser() if str(value) or " | None" not in kind else None
    if wanted == "int" and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            raise OptionError(f"{name} is {value!r}, and takes a whole number") from None
    if wanted == "bool" and str(value).lower() in (*_TRUE, *_FALSE):
        return str(value).lower() in _TRUE
    if wanted.startswith("tuple") and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(item) for item in value)
    if wanted.startswith("dict") and isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    words = {"str": "text", "Path": "a path", "bool": "true or false", "int": "a whole number"}
    takes = words.get(wanted, "a list" if wanted.startswith("tuple") else "a dictionary of names and values")
    raise OptionError(f"{name} is of type {type(value).__name__}, and takes {takes}")
