"""Values of inventories: of the type that the argument specification asks for, and otherwise anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import RULES, wrong_values
from hypothesis import strategies as st

from tests.fuzz.hostile import JSON, TEXTS, given, quick
from tests.unit.inputs.rules import (
    test_acme,
    test_backup,
    test_docker_engine,
    test_fastapi_app,
    test_fastapi_image,
    test_haproxy,
    test_postgres,
    test_redis,
)

ROOT = Path(__file__).resolve().parents[2]
# Values with which nothing is wrong, by the role.
RIGHT: dict[str, dict[str, Any]] = {
    "backup": test_backup.RIGHT,
    "docker_engine": test_docker_engine.RIGHT,
    "fastapi_app": test_fastapi_app.RIGHT,
    "fastapi_image": test_fastapi_image.RIGHT,
    "haproxy": {**test_acme.ACME, **test_haproxy.RIGHT},
    "postgres": test_postgres.RIGHT,
    "redis": test_redis.RIGHT,
}
# What Ansible itself lets pass for a type: a template gives text where a number was meant.
OF_TYPE: dict[str, st.SearchStrategy[Any]] = {
    "str": TEXTS,
    "path": TEXTS,
    "raw": JSON,
    "bool": st.booleans(),
    "int": st.integers() | st.integers().map(str),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers().map(str),
}


def values(option: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values that an argument specification lets pass for one option."""
    if "choices" in option and option.get("type", "str") != "list":
        return st.sampled_from(option["choices"])
    kind = option.get("type", "str")
    inner = option.get("options") or {}
    within = st.fixed_dictionaries(
        {name: values(one) for name, one in inner.items() if one.get("required")},
        optional={name: values(one) for name, one in inner.items() if not one.get("required")},
    )
    if kind == "list":
        element = option.get("elements")
        return st.lists(
            within if element == "dict" and option.get("options") else of_kind(element or "raw"), max_size=4
        )
    if kind == "dict":
        return within if option.get("options") else of_kind("dict")
    return of_kind(kind)


def of_kind(kind: str) -> st.SearchStrategy[Any]:
    if kind == "dict":
        return st.dictionaries(TEXTS, JSON, max_size=4)
    if kind == "list":
        return st.lists(JSON, max_size=4)
    return OF_TYPE[kind]


def options(role: str) -> dict[str, Mapping[str, Any]]:
    """The variables of a role with what its argument specification says of them."""
    said = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    found: dict[str, Mapping[str, Any]] = {}
    for entry in said["argument_specs"].values():
        found |= entry.get("options") or {}
    return found


@pytest.mark.parametrize("use", RULES)
def test_values_of_the_right_type(use: str) -> None:
    role = use.partition(".")[0]
    right, known = RIGHT[role], options(role)
    changed = {name: values(known[name]) for name in sorted(right.keys() & known.keys())}

    def some(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: changed[name] for name in sorted(names)})

    @given(st.sets(st.sampled_from(sorted(changed)), min_size=1, max_size=3).flatmap(some))
    def judges(drawn: dict[str, Any]) -> None:
        with quick():
            said = wrong_values(use, {**right, **drawn}.__getitem__)
        assert all(isinstance(sentence, str) for sentence in said)

    judges()
