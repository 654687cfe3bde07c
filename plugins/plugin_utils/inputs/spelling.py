# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Variables that look like one of ours and are none: Ansible ignores them, and the default is used without a word."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import LOADER

COLLECTION = Path(__file__).resolve().parents[3]
# How alike two names must be, as difflib counts; users may have variables of their own that begin like ours.
ALIKE = 0.88
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
