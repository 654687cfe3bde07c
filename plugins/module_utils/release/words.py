"""What an app is told: values as text, and texts quoted so that systemd and Compose leave them alone."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What the text of a unit says in place of what is known when it is started.
_MARK = re.compile("@[A-Z]+@")


def told(values: Mapping[str, Any]) -> dict[str, str]:
    """The variables of an environment as text.

    A text is left as it is, booleans are true and false, lists and dictionaries JSON; what is null is left out.
    """
    return {str(name): text_of(value) for name, value in values.items() if value is not None}


def text_of(value: Any) -> str:
    """One value as the text of a variable."""
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """What JSON has a word for. Ansible's own containers render an item when it is asked for, so each one is."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, dt.date) else str(value)


def compose_word(text: str, marks: Sequence[str] = ()) -> str:
    """Text in double quotes for a Compose file, in which a dollar is a dollar but in `marks`, which Compose replaces.

    Source: YAML 1.2.2, 5.7 (escaped characters); Compose specification, Interpolation.
    """
    escaped = "".join(map(_yaml, text)).replace("$", "$$")
    for mark in marks:
        escaped = escaped.replace(mark.replace("$", "$$"), mark)
    return f'"{escaped}"'


def _yaml(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"


def unit_word(text: str, marks: Sequence[str] = ()) -> str:
    """One argument of ExecStart=: no specifier, no variable and no blank in it means anything to systemd.

    Nothing but `marks` is replaced at a start.
    """
    return quoted(text, marks).replace("$", "$$")


def unit_assignment(name: str, value: str, marks: Sequence[str] = ()) -> str:
    """One assignment of Environment=, where a dollar is a dollar, and nothing but `marks` is replaced at a start."""
    return quoted(f"{name}={value}", marks)


def quoted(text: str, marks: Sequence[str] = ()) -> str:
    """Text in double quotes (systemd.syntax(7), Quoting; systemd.unit(5), Specifiers)."""
    escaped = "".join(map(_systemd, text)).replace("%", "%%")
    escaped = _MARK.sub(lambda found: found[0] if found[0] in marks else found[0].replace("@", "\\x40"), escaped)
    return f'"{escaped}"'


def _systemd(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return f"\\x{ord(character):02x}" if character < " " or character == "\x7f" else character
