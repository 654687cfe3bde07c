"""`python3 -m tests.repo.core_alone` imports every plugin as where nothing but ansible-core is installed.

What is not part of Python, of ansible-core or of what that requires cannot be imported in this process. That is quicker
than an environment of its own, and shows the same: a plugin that Ansible loads must not need more, since an operator
who never builds an image has no Docker SDK.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
# No module: it is sent to a host as text and runs with arguments, on the standard library alone.
PROGRAMS = {ROOT / "plugins/module_utils/agent/bootstrap.py"}


def required(distribution: str) -> set[str]:
    """The names of a distribution and of all that it requires here, extras left out."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        stated = [Requirement(text) for text in metadata.requires(name) or []]
        waiting += [one.name for one in stated if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


class Others:
    """Finds, before anybody else does, what belongs to another distribution, and refuses it."""

    def __init__(self, allowed: set[str]) -> None:
        self._owners = {
            module: {canonicalize_name(name) for name in names}
            for module, names in metadata.packages_distributions().items()
        }
        self._allowed = allowed

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top == "ansible_collections":
            refused = not name.startswith("ansible_collections.slipway") and name != top
        else:
            owners = self._owners.get(top, set())
            refused = bool(owners) and not owners & self._allowed and top not in sys.stdlib_module_names
        if refused:
            raise ModuleNotFoundError(f"No module named {name!r} where ansible-core is alone", name=name)
        return None


def main() -> None:
    sys.meta_path.insert(0, Others(required("ansible-core")))
    init_plugin_loader([str(ROOT / ".collections")])
    files = sorted(set((ROOT / "plugins").rglob("*.py")) - PROGRAMS)
    failed = []
    for path in files:
        name = ".".join(("ansible_collections.slipway.fleet", *path.relative_to(ROOT).with_suffix("").parts))
        try:
            importlib.import_module(name)
        except ImportError as error:
            failed.append(f"{path.relative_to(ROOT)}: {error}")
    print("\n".join(failed))
    sys.exit(bool(failed) or not files)


if __name__ == "__main__":
    main()
