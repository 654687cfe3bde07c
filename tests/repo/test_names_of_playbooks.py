"""What is said names a playbook as `ansible-playbook` takes it in a checkout and where the collection is installed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = "|".join(sorted((path.stem for path in ROOT.glob("playbooks/*.yml")), key=len, reverse=True))
OTHERWISE = re.compile(
    rf"playbooks/(?:{PLAYBOOKS})\b|(?<![\w/.])(?:{PLAYBOOKS})\.yml\b|\b(?:{PLAYBOOKS}) playbooks?\b"
    rf"|\bplaybooks? (?:{PLAYBOOKS})\b|ansible-playbook slipway"
)
DOCUMENTED = {"DOCUMENTATION", "EXAMPLES", "RETURN"}
# What stands in a file of the host, by which it is known again.
KEPT = {"plugins/module_utils/upgrade/closing.py", "plugins/module_utils/edge/maintenance.py"}


def said(source: str) -> Iterator[tuple[int, str]]:
    """The texts of a module with their lines, those apart that document it."""
    tree = ast.parse(source)
    apart: set[int] = set()
    for node in ast.walk(tree):
        named = isinstance(node, ast.Assign) and {getattr(one, "id", "") for one in node.targets} & DOCUMENTED
        if named or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            apart |= {id(one) for one in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.lineno, node.value


def in_tasks(text: str) -> Iterator[tuple[int, str]]:
    """The lines of tasks, variables and templates that may be shown."""
    for number, line in enumerate(text.splitlines(), 1):
        if not re.match(r"\s*#|.*(?:import|include)_(?:playbook|tasks):", line):
            yield number, line


def wrong(texts: Iterator[tuple[int, str]]) -> list[str]:
    return [
        f"{number}: {found[0]}; name it slipway.fleet.NAME, and what is given with -e behind that"
        for number, text in texts
        if (found := OTHERWISE.search(text))
    ]


def test_playbooks_are_named_alike_in_what_is_said() -> None:
    modules = {path: said(path.read_text()) for path in ROOT.glob("plugins/**/*.py")}
    tasks = {
        path: in_tasks(path.read_text())
        for pattern in ("playbooks/**/*.yml", "roles/*/tasks/*.yml", "roles/*/vars/*.yml", "roles/*/handlers/*.yml")
        for path in ROOT.glob(pattern)
    }
    names = {path: str(path.relative_to(ROOT)) for path in modules | tasks}
    found = [f"{names[path]}:{one}" for path, texts in (modules | tasks).items() for one in wrong(texts)]
    assert [one for one in found if one.partition(":")[0] not in KEPT] == []
    assert {one.partition(":")[0] for one in found} == KEPT


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("run the provision playbook", False),
        ("run playbooks/site.yml", False),
        ("drain.yml -e haproxy_server=web1 takes it out", False),
        ("the playbook status tells why", False),
        ("say ansible-playbook slipway.fleet.restart", False),
        ("run slipway.fleet.provision, and deploy again", True),
        ("group_vars/all/backup.yml of the inventory; this playbook takes it away next", True),
        ("where ansible-playbook runs", True),
    ],
)
def test_other_names_are_found(text: str, right: bool) -> None:
    assert (wrong(said(f"WORDS = f{text!r}\n")) == []) == right
    assert (wrong(in_tasks(f"    msg: {text}\n    # drain.yml\n")) == []) == right
    assert wrong(said(f'"""{text}"""\n')) == []
