"""Code of plugins is compiled once, also where Ansible's own loader would do so in every run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader(["{root}/.collections"])
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict
from ansible_collections.slipway.fleet.plugins.module_utils.release import model
from ansible_collections.slipway import fleet
for module in (verdict, model, fleet):
    print(type(module.__spec__.loader).__name__, module.__spec__.cached or "")
"""


def looked(kept_in: Path, **more: str) -> list[tuple[str, str]]:
    """The loader of each module, and where its code is kept, whether it is or not."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    said = subprocess.run(
        [sys.executable, "-c", LOOK.format(root=ROOT)],
        env={**environment, "PYTHONPYCACHEPREFIX": str(kept_in), **more},
        capture_output=True,
        text=True,
        check=True,
        cwd=kept_in,
    ).stdout.splitlines()
    return [(loader, kept) for loader, _, kept in (line.partition(" ") for line in said)]


def test_modules_keep_their_code_and_packages_are_found_as_ansible_does(tmp_path: Path) -> None:
    *modules, collection = looked(tmp_path)
    assert len(modules) == 2
    for loader, kept in modules:
        assert loader == "SourceFileLoader"
        assert Path(kept).is_file()
        assert Path(kept).is_relative_to(tmp_path)
    assert collection[0] == "_AnsibleCollectionPkgLoader"


def test_nothing_is_kept_where_the_environment_says_so(tmp_path: Path) -> None:
    """As docs/hosts.md has it for those who verify an installed collection."""
    assert looked(tmp_path, PYTHONDONTWRITEBYTECODE="1")
    assert not list(tmp_path.rglob("*.pyc"))
