# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a variable of a role can be asked for beyond its type. Pure.

A rule is a function from `Values`, which gives a variable of the host as Ansible renders it, to a sentence for each
thing that is wrong: which variable, what it is, what to put there instead. A secret is named and never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Values = Callable[[str], Any]

_PLACEHOLDERS = {"", "changeme", "change-me", "placeholder", "secret", "password", "todo", "none"}
_SHORTEST_PASSWORD = 16


class Rule(Protocol):
    """What one value must be."""

    def broken(self, value_of: Values) -> Iterator[str]:
        """A sentence for each item that breaks it."""
        ...


@dataclass(frozen=True)
class Least:
    """The least that a number may be."""

    name: str
    least: float

    def broken(self, value_of: Values) -> Iterator[str]:
        value = value_of(self.name)
        if float(value) < self.least:
            yield f"{self.name} is {json.dumps(value)}; use at least {self.least}."


@dataclass(frozen=True)
class Between:
    """The least and the most that a whole number may be; `use` says more of them, or nothing."""

    name: str
    least: int
    most: int
    use: str = ""

    def broken(self, value_of: Values) -> Iterator[str]:
        value = value_of(self.name)
        if not self.least <= int(value) <= self.most:
            yield f"{self.name} is {json.dumps(value)}; use {self.least} to {self.most}{self.use}."


@dataclass(frozen=True)
class Like:
    """What a text must be, as a regular expression for all of it, a newline at its end included.

    Each item of a list counts by itself, and each key of a dictionary. `use` says what to put there instead.
    """

    name: str
    pattern: str
    use: str

    def broken(self, value_of: Values) -> Iterator[str]:
        value = value_of(self.name)
        what = f"a key of {self.name}" if isinstance(value, Mapping) else self.name
        items = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
        for item in items:
            if not re.fullmatch(self.pattern, str(item)):
                yield f"{what} is {json.dumps(item)}; use {self.use}."


@dataclass(frozen=True)
class NotEmpty:
    """A list that must have an item; `use` says what to put there."""

    name: str
    use: str

    def broken(self, value_of: Values) -> Iterator[str]:
        value = value_of(self.name)
        if not value:
            yield f"{self.name} is {json.dumps(value)}; use {self.use}."


def broken(rules: Iterable[Rule], value_of: Values) -> Iterator[str]:
    for rule in rules:
        yield from rule.broken(value_of)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, also one that was written as text."""
    return not isinstance(value, bool) and bool(re.fullmatch("[0-9]+", str(value)))


def placeholders(secrets: Mapping[str, Any]) -> list[str]:
    """Names of the secrets that are empty or were never replaced after copying an example."""
    return sorted(str(name) for name, value in secrets.items() if str(value or "").strip().lower() in _PLACEHOLDERS)


def password(name: str, value_of: Values, vault: str = "") -> Iterator[str]:
    """A password that goes into configuration files and connection strings as it is; `vault` is where it comes from."""
    value = str(value_of(name))
    if placeholders({name: value}) or len(value) < _SHORTEST_PASSWORD or not re.fullmatch("[!-~]+", value):
        yield (
            f"{name} is a placeholder, shorter than {_SHORTEST_PASSWORD} characters, or has spaces, a newline at its "
            f"end or other than printable ASCII characters; set {vault or f'vault_{name}'} with `ansible-vault edit` "
            "in vault.yml of this inventory. A good one: openssl rand -hex 24"
        )


def published(name: str, example: str, value_of: Values) -> Iterator[str]:
    """One address of the host with a port on which a service is reached from elsewhere; empty for none."""
    value = str(value_of(name))
    one = re.fullmatch(r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:]+\]):\d+", value)
    if value and (not one or value.startswith(("0.0.0.0:", "[::]:"))):
        yield (
            f"{name} is {value}; name one address of the host and a port, such as {example}. All addresses (0.0.0.0) "
            "are refused, because Docker opens them past the host's firewall."
        )
