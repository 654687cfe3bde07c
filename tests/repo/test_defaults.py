"""Every default once: where one has to stand in a second place, both say the same."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import Thresholds
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Gate, Request

ROOT = Path(__file__).resolve().parents[2]
# `name | default(value)` of an input, with a literal; what is empty asks whether there is any value.
WRITTEN = re.compile(
    r"\b((?:fastapi|haproxy|postgres|redis|backup|docker|slipway)_\w+)\s*\|\s*(?:ansible\.builtin\.)?default\("
    r"\s*('[^']*'|\"[^\"]*\"|\d+|true|false)\s*[,)]"
)
ROW = re.compile(r"^\| (?P<names>`[^|]*`) \| (?P<default>[^|]*) \|", re.MULTILINE)
NAME = re.compile(r"`([a-z_]+)`")
# What a table writes in words where a value is empty.
EMPTY = ("none", "empty")
# Without a request for it nothing soaks; a deploy asks for it.
OF_THE_DEPLOY = {"soak"}


@cache
def of_roles() -> Mapping[str, Any]:
    """The default of every input that is no expression."""
    found: dict[str, Any] = {}
    for path in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {name: value for name, value in found.items() if "{{" not in repr(value)}


def written(text: str) -> Iterator[tuple[str, Any]]:
    for name, said in WRITTEN.findall(text):
        if read := yaml.safe_load(said):
            yield name, read


@cache
def everywhere() -> Mapping[str, Mapping[str, Any]]:
    """From an input to its defaults, by where they are written."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for path in [*ROOT.glob("roles/*/*/*"), *ROOT.glob("playbooks/**/*.yml")]:
        if path.is_file() and "argument_specs" not in path.name:
            for name, value in written(path.read_text(encoding="utf-8")):
                found[name][str(path.relative_to(ROOT))] = value
    for name, value in of_roles().items():
        found[name]["its role"] = value
    return found


def test_playbooks_and_other_roles_take_for_unset_what_the_role_does() -> None:
    assert len([name for name, places in everywhere().items() if len(places) > 1]) > 5, "or this would prove nothing"
    differ = {name: places for name, places in everywhere().items() if len(set(map(repr, places.values()))) > 1}
    assert not differ


@pytest.mark.parametrize(("kind", "prefixes"), [(Request, [""]), (Gate, ["gate_", "health_"])])
def test_hosts_take_for_unset_what_the_role_does(kind: type[Any], prefixes: list[str]) -> None:
    inputs = {f"{prefix}{field.name}": field for prefix in prefixes for field in fields(kind)}
    both: dict[str, Any] = {
        name: field.default for name, field in inputs.items() if f"fastapi_app_{name}" in of_roles()
    }
    assert len(both) >= 4, "or this would prove nothing"
    for name in OF_THE_DEPLOY:
        both.pop(name, None)
    if "health_statuses" in both:
        both["health_statuses"] = both["health_statuses"].split(",")
    assert both == {name: of_roles()[f"fastapi_app_{name}"] for name in both}


def told(text: str) -> Iterator[tuple[str, str]]:
    """Inputs and what tables of a page say for their default, one for each where it says as many."""
    for table in re.split(r"\n\n", text):
        if not re.match(r".*\n?\| (variable|threshold) \| default \|", table.strip()):
            continue
        for row in ROW.finditer(table):
            names, said = NAME.findall(row["names"]), row["default"].strip()
            each = re.split(r", (?![^\[{]*[\]}])", said)
            yield from zip(names, each if len(each) == len(names) else [said] * len(names), strict=True)


def value(said: str) -> Any:
    """What a cell of a table means; None for one in words."""
    if said in EMPTY:
        return EMPTY
    number = re.fullmatch(r"(\d+(?:\.\d+)?)(?: (?:s|MiB))?", said)
    if number:
        return float(number[1])
    if said in ("true", "false"):
        return said == "true"
    return yaml.safe_load(said[1:-1]) if re.fullmatch(r"`[^`]*`", said) else None


def test_tables_of_the_docs_say_what_is_so() -> None:
    known: dict[str, Any] = {name: next(iter(places.values())) for name, places in everywhere().items()}
    known |= {field.name: field.default for field in fields(Thresholds)}
    compared, wrong = 0, []
    for path in sorted(ROOT.glob("docs/*.md")):
        for name, said in told(path.read_text(encoding="utf-8")):
            if name not in known or (meant := value(said)) is None:
                continue
            compared += 1
            if known[name] if meant == EMPTY else meant != known[name]:
                wrong.append(f"{path.name}: {name} is said to be {said}, and is {known[name]!r}")
    assert not wrong
    assert compared > 40, "or this would prove nothing"


def test_what_differs_would_be_found() -> None:
    head = "| variable | default | meaning |\n| --- | --- | --- |\n"
    text = f"{head}| `a`, `b_c` | 1 s, `x` | what |\n| `d` | `[1, 2]` | x |\n"
    assert [(name, value(said)) for name, said in told(text)] == [("a", 1), ("b_c", "x"), ("d", [1, 2])]
    cells = {"0.01": 0.01, "true": True, "none": EMPTY, "the first host": None, "4096 MiB": 4096}
    assert {said: value(said) for said in cells} == cells
    found = dict(written("{{ redis_x | default('compose') }} {{ backup_y | default(14) }} {{ redis_z | default('') }}"))
    assert found == {"redis_x": "compose", "backup_y": 14}
