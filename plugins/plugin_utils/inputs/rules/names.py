# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a host name of an app must be, and what is wrong with one that is none. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

USE = "plain names such as www.example.org, or *.example.org for all below it, without scheme and port"
_CHARACTERS = "A-Za-z0-9.-"
# By what is found in a name, the first one counts.
_FAULTS = {
    r"^\Z": "is empty",
    r"\s": "has a space or a newline in it",
    "://": "begins with a scheme",
    ":[0-9]*$": "ends with a port",
    "/": "has a path",
    r"\*": "has a star elsewhere than in *. at its beginning",
}


@dataclass(frozen=True)
class HostNames:
    """A list of host names."""

    name: str

    def broken(self, value_of: Values) -> Iterator[str]:
        yield from wrong(self.name, value_of(self.name))


def wrong(where: str, names: Iterable[object]) -> Iterator[str]:
    """A sentence for each name that is none; `where` is the variable."""
    for name in names:
        if found := fault(str(name)):
            yield f"{where} has {json.dumps(str(name), ensure_ascii=False)}, which {found}; use {USE}."


def fault(name: str) -> str:
    """What is wrong with a host name, or with *. and one; empty for a right one."""
    if re.fullmatch(rf"(\*\.)?[{_CHARACTERS}]+", name):
        return ""
    if known := next((words for pattern, words in _FAULTS.items() if re.search(pattern, name)), ""):
        return known
    strange = next(character for character in name if not re.fullmatch(f"[{_CHARACTERS}]", character))
    return f"has {json.dumps(strange, ensure_ascii=False)}, and {_instead(name)}"


def _instead(name: str) -> str:
    try:
        ascii_name = name.encode("idna").decode()
    except UnicodeError:
        ascii_name = name
    if ascii_name != name:
        return f"is {ascii_name} in ASCII, as browsers ask for it"
    return "a host name has ASCII letters, digits, dots and dashes alone"
