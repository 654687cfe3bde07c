"""JSON and archives that somebody else wrote: an app, a host, a registry, an earlier version, a damaged disk."""

from __future__ import annotations

import json
import math
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Callable, TypeVar, Union

Record = TypeVar("Record")
# What tarfile raises for an archive that is none, is cut off, or was made to be neither.
NO_ARCHIVE = (tarfile.TarError, EOFError, IndexError, KeyError, OSError, OverflowError, ValueError, zlib.error)

# Digits of a whole number: one that a float can hold, and that int() reads at once (its time is their square).
DIGITS = 300


def json_of(text: Union[str, bytes]) -> Any:
    """What a text says. Raises ValueError where it is no JSON, nested deeper than Python goes, or has such numbers."""
    try:
        return _DECODER.decode(text) if isinstance(text, str) else json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def object_of(text: Union[str, bytes]) -> dict[str, Any]:
    """The object that a text is. Raises ValueError where it is none."""
    found = json_of(text)
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def record_of(kind: type[Record], content: Mapping[str, Any]) -> Record:
    """A dataclass of what somebody wrote down; what a newer version wrote besides is left out.

    Raises ValueError where a field has another type than the class says, or is missing and has no default.
    """
    known = {field.name: field.type for field in fields(kind) if field.name in content}  # type: ignore[arg-type]
    if wrong := [name for name, type_ in known.items() if not _FITS[str(type_)](content[name])]:
        raise ValueError(f"{', '.join(wrong)} is of another kind")
    try:
        return kind(**{name: content[name] for name in known})
    except TypeError as error:
        raise ValueError(str(error)) from error


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)


# What a field may have, by its type as classes write it.
_FITS: dict[str, Callable[[Any], bool]] = {
    "str": _text,
    "bool": lambda value: isinstance(value, bool),
    "float": _number,
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "tuple[float, ...]": lambda value: isinstance(value, list) and all(map(_number, value)),
    "dict[str, Any]": lambda value: isinstance(value, dict),
}
_FITS |= {
    f"Optional[{name}]": lambda value, fits=fits: value is None or fits(value)  # type: ignore[misc]
    for name, fits in list(_FITS.items())
}


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


# One for all: to make it takes longer than to read a small file.
_DECODER = json.JSONDecoder(parse_int=_integer)
