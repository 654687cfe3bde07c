# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What Ansible says of variables that it cannot take, in words that name the variable and the mend."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# How alike two names must be, as difflib counts.
ALIKE = 0.8
_UNDEFINED = re.compile(r"'(\w+)' is undefined")
_TYPE = re.compile(
    r"(?P<of>argument|Elements value for option) '(?P<name>[^']+)'(?P<before> found in '(?P<in>[^']+)')?"
    r" is of type (?P<is>\w+)(?: found in '(?P<after>[^']+)'\.)? and we were unable to convert to (?P<wanted>\w+): "
)
_CHOICE = re.compile(
    r"value of (?P<name>\w+) must be one (?:or more )?of: (?P<choices>.*?)(?:, got: |\. Got no match for: )(?P<is>.*?)"
    r"(?: found in (?P<in>[\w> -]+))?\.?$",
    re.DOTALL,
)
IS = {"list": "a list", "dict": "a mapping", "str": "text", "NoneType": "nothing", "bool": "true or false"}
IS |= {"int": "a number", "float": "a number"}
# How a value of each type is written.
WANTED: dict[str, tuple[str, Any]] = {
    "list": ("a list", ["value"]),
    "dict": ("a mapping", {"name": "value"}),
    "str": ("text", "value"),
    "path": ("a path", "/path"),
    "bool": ("true or false", True),
    "int": ("a whole number", 3),
    "float": ("a number", 1.5),
}
PORT = 8000
VAULT = "vault_"
NO_VAULT = "; no variable of this inventory begins with vault_: its group_vars/all/vault.yml is not there, or is empty"
EDIT = "ansible-vault edit INVENTORY/group_vars/all/vault.yml"
# In which Ansible has all variables once more, and renders them where they are looked at.
OF_ALL = ("hostvars", "vars")


def of_types(said: Iterable[str], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The messages of a validation by an argument specification, those about types and choices in plain words."""
    return [_of_type(one, options) for one in said]


def of_values(said: Iterable[str]) -> list[str]:
    """Those messages of a validation that are about the type of a value, or about what it may be."""
    return [one for one in said if _TYPE.match(one) or _CHOICE.match(one)]


def of_containers(
    given: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]], inside: str = ""
) -> Iterator[str]:
    """A sentence for each text where a list or a mapping is wanted.

    A validation takes `a,b` for a list and `a=b` for a mapping, but roles have the variable as it was given.
    """
    for name, value in given.items():
        yield from _of_container(name, value, options.get(name, {}), inside)


def _of_container(name: str, value: Any, option: Mapping[str, Any], inside: str) -> Iterator[str]:
    wanted, within = str(option.get("type", "")), option.get("options") or {}
    if wanted not in ("list", "dict"):
        return
    if isinstance(value, str):
        yield _told(name, "text", wanted, {} if inside else option, inside)
    elif isinstance(value, Mapping):
        yield from of_containers(value, within, name)
    elif isinstance(value, (list, tuple)):
        for one in (one for one in value if isinstance(one, Mapping)):
            yield from of_containers(one, within, name)


def _of_type(said: str, options: Mapping[str, Mapping[str, Any]]) -> str:
    if choice := _CHOICE.match(said):
        inside = f" in {choice['in']}" if choice["in"] else ""
        return f"{choice['name']}{inside} is {json.dumps(choice['is'])}; it can be {choice['choices']}"
    found = _TYPE.match(said)
    if not found or found["wanted"] not in WANTED:
        return said
    name, inside = found["name"], found["in"] or found["after"]
    element = found["of"] != "argument"
    usual = {} if element or inside else options.get(name, {})
    return _told(name, IS.get(found["is"], found["is"]), found["wanted"], usual, inside, element)


def _told(name: str, kind: str, wanted: str, usual: Mapping[str, Any], inside: str = "", element: bool = False) -> str:
    words, example = WANTED[wanted]
    # A port that is no port reads like a mistake.
    shown = usual.get("default") or (PORT if wanted == "int" and name.endswith("_port") else example)
    if "{{" in str(shown):
        shown = example
    what = f"{'an entry of ' if element else ''}{name}{f' in {inside}' if inside else ''}"
    form = json.dumps([shown] if element else shown, ensure_ascii=False)
    form = form if shown != example else form.replace('"', "")
    return f"{what} is {kind} and must be {words}, such as `{name}: {form}`"


def of_undefined(said: str, variables: Mapping[str, Any], inputs: Iterable[str] = ()) -> str:
    """What Ansible says of a variable that is undefined, with those that are made of it and what may be meant.

    One of `inputs` is meant as it is named.
    """
    found = _UNDEFINED.search(said)
    if not found:
        return said
    name = found[1]
    own = [one for one in variables if not one.startswith("__") and one not in OF_ALL]
    users = [place for one in own for place in _places(one, variables[one], name)]
    asked = name in inputs
    near = [] if asked else difflib.get_close_matches(name, own, 3, ALIKE)
    made_of_it = _made_of(name, {one: variables[one] for one in own}) if near else set()
    meant = [one for one in near if one not in made_of_it]
    where = f", which {' and '.join(sorted(users))} {'use' if users[1:] else 'uses'}" if users else ""
    return (
        (f"{name} is not set" if asked else f"'{name}' is undefined")
        + where
        + (f"; did you mean {meant[0]}?" if meant else "")
        + (_into_vault(name, own, bool(meant)) if name.startswith(VAULT) else "")
    )


def _made_of(name: str, variables: Mapping[str, Any]) -> set[str]:
    """The variables that use this one, and whatever uses those: none of them is meant by it."""
    found, new = {name}, {name}
    while new:
        new = {one for one in variables if one not in found and any(_uses(variables[one], of) for of in new)}
        found |= new
    return found


def _into_vault(name: str, own: Iterable[str], meant: bool) -> str:
    if not any(one.startswith(VAULT) for one in own):
        return NO_VAULT
    return f"{' If not, add it' if meant else f'; add {name}'} to the vault: {EDIT}"


def _places(variable: str, value: Any, name: str) -> list[str]:
    """Where a variable has a template with this name in it: of a mapping its keys."""
    if isinstance(value, Mapping):
        return [f"{variable}.{key}" for key, one in value.items() if _uses(one, name)]
    return [variable] if _uses(value, name) else []


def _uses(value: Any, name: str) -> bool:
    """Whether a variable, not rendered yet, has a template with this name in it."""
    if isinstance(value, str):
        return name in value and any(
            re.search(rf"(?<![\w.'\"]){name}\b", part) for part in re.findall(r"\{[{%].*?[}%]\}", value, re.DOTALL)
        )
    if isinstance(value, Mapping):
        return any(_uses(one, name) for one in value.values())
    return isinstance(value, (list, tuple)) and any(_uses(one, name) for one in value)
