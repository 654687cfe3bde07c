# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Variables that look like one of ours and are none: Ansible ignores them, and the default is used without a word."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import LOADER

COLLECTION = Path(__file__).resolve().parents[3]
# How alike two names must be, as difflib counts; users may have variables of their own that begin like ours.
ALIKE = 0.88
# Of a name that begins with slipway_ and is none of ours it is clear that one of ours was meant.
OURS, FAIRLY_ALIKE = "slipway_", 0.75
_OF_PLAYBOOKS = re.compile(r"\bslipway_[a-z_]+\b")


@functools.lru_cache(maxsize=1)
def inputs_of_roles(collection: Path = COLLECTION) -> dict[str, dict[str, Any]]:
    """What the argument specs of all roles say of each input."""
    known: dict[str, dict[str, Any]] = {}
    for spec in sorted(collection.glob("roles/*/meta/argument_specs.yml")):
        points = yaml.load(spec.read_text(encoding="utf-8"), LOADER)  # noqa: S506 - either of the two is safe
        for point in points["argument_specs"].values():
            known |= point.get("options") or {}
    return known


def known_variables(collection: Path = COLLECTION) -> set[str]:
    """Names of all inputs: of the roles by their argument specs, of the playbooks by what stands in them."""
    known = set(inputs_of_roles(collection))
    for playbook in collection.glob("playbooks/**/*.yml"):
        known |= set(_OF_PLAYBOOKS.findall(playbook.read_text(encoding="utf-8")))
    return known


def misspelled(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """For each name that is almost a known one, that one. Results of tasks are left out."""
    wanted = set(known)
    prefixes = tuple({name.partition("_")[0] + "_" for name in wanted})
    found = {}
    for name in sorted(set(names) - wanted):
        if name.startswith(prefixes) and not name.endswith("_result"):
            found[name] = next(iter(difflib.get_close_matches(name, wanted, 1, ALIKE)), "")
    return {name: meant for name, meant in found.items() if meant}


def unknown(names: Iterable[str], known: Collection[str], collection: Path = COLLECTION) -> dict[str, str]:
    """For each name that begins like one of a playbook and is read nowhere, the one that is meant; empty without.

    Roles and plugins are looked through only where there is such a name. Results of tasks are left out.
    """
    found = {name for name in set(names) - set(known) if name.startswith(OURS) and not name.endswith("_result")}
    if not found:
        return {}
    code = names_in_code(collection)
    return {name: nearest(name, {*known, *code}) for name in sorted(found - code)}


def names_in_code(collection: Path = COLLECTION) -> set[str]:
    """What in roles and plugins may be a name of a variable that begins with slipway_."""
    files = (file for place in ("roles", "plugins") for file in (collection / place).rglob("*"))
    return {
        name
        for file in files
        if file.suffix in {".py", ".yml", ".j2"} and file.is_file()
        for name in _OF_PLAYBOOKS.findall(file.read_text(encoding="utf-8", errors="replace"))
    }


def nearest(name: str, known: Iterable[str]) -> str:
    """The variable that is meant by one that begins with slipway_: spelled alike, or with the prefix of its role."""
    wanted, rest = sorted(known), name.removeprefix(OURS)
    if f"fastapi_app_{rest}" in wanted:
        return f"fastapi_app_{rest}"
    ours = [one.removeprefix(OURS) for one in wanted if one.startswith(OURS)]
    if alike := difflib.get_close_matches(rest, ours, 1, FAIRLY_ALIKE):
        return OURS + alike[0]
    longer = [one for one in wanted if one.endswith(f"_{rest}")]
    of_playbooks = [one for one in longer if one.startswith(OURS)]
    return next((found[0] for found in (of_playbooks, longer) if len(found) == 1), "")
