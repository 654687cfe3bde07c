"""Writes into each role's README what its argument spec says: `python3 -m docs.generate` (or `make docs`).

Prose belongs above the markers and is left alone; what stands between them is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BEGIN = "<!-- from meta/argument_specs.yml by `make docs`: begin -->"
END = "<!-- from meta/argument_specs.yml by `make docs`: end -->"


def entry_points(role: Path) -> dict[str, Any]:
    """The entry points of a role's argument spec, by name."""
    points: dict[str, Any] = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return points


def section(points: dict[str, Any]) -> str:
    """The Markdown between the markers: the entry points, then one table of all their inputs."""
    inputs: dict[str, Any] = {}
    for point in points.values():
        for name, option in (point.get("options") or {}).items():
            inputs.setdefault(name, option)
    lines = ["## Entry points", "", "| `tasks_from` | what it does |", "| --- | --- |"]
    lines += [f"| `{name}` | {_prose(point.get('short_description', ''))} |" for name, point in points.items()]
    if inputs:
        lines += ["", "## Inputs", "", "| name | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{name}` | {_type(option)} | {_default(option)} | {_meaning(option)} |"
            for name, option in inputs.items()
        ]
    return "\n".join(lines)


def _type(option: dict[str, Any]) -> str:
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if option.get("default") is None:
        return ""
    default = option["default"]
    return _cell(f"`{default if isinstance(default, str) and default else json.dumps(default)}`")


def _meaning(option: dict[str, Any]) -> str:
    text = option.get("description", "")
    parts = [_prose(" ".join(text) if isinstance(text, list) else text)]
    if option.get("choices"):
        parts.append("One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + ".")
    if option.get("no_log"):
        parts.append("Secret.")
    return " ".join(part for part in parts if part)


def _prose(text: str) -> str:
    """Ansible's markup (C(code), V(value), O(option), M(module), B(bold), I(italic)) as Markdown."""
    text = re.sub(r"\b[CVOM]\((.*?)\)", r"`\1`", " ".join(text.split()))
    return _cell(re.sub(r"\bI\((.*?)\)", r"*\1*", re.sub(r"\bB\((.*?)\)", r"**\1**", text)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def readme(role: Path) -> str:
    """What the role's README must be: its prose, with the section of today."""
    points = entry_points(role)
    path = role / "README.md"
    if path.exists():
        text = path.read_text()
    else:
        first = next(iter(points.values()))
        text = f"# {role.name}\n\n{_prose(first.get('short_description', ''))}.\n"
    generated = f"{BEGIN}\n\n{section(points)}\n\n{END}\n"
    before, begun, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if begun else ""
    return f"{before.rstrip()}\n\n{generated}" + (f"\n{after}" if after else "")


def roles() -> list[Path]:
    """All roles that have a spec."""
    return sorted(path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))


def main() -> int:
    """Write every README that is not as it must be, and name it."""
    for role in roles():
        path, text = role / "README.md", readme(role)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"written: {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
