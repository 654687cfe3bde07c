# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a host does for a package, by name: for the module slipway.fleet.package_host, and for the agent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from .packages import PackageError, Packages, target_of

# The text of these is for the operator; nothing half made counts as there.
ERRORS = (PackageError, ValueError)

OPERATIONS = ("inspect", "find", "install")
# What an operation may take, as the argument specification of a module says it.
OPTIONS: dict[str, dict[str, Any]] = {
    "root": {"type": "path"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "archive": {"type": "path"},
    "content": {"type": "str"},
}


def perform(operation: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an operation. An archive that came with it is gone afterwards. Raises ERRORS."""
    given = {name: options.get(name, kind.get("default")) for name, kind in OPTIONS.items()}
    if operation == "inspect":
        return {"changed": False, "python": target_of(given["python"]).version}
    packages = Packages(Path(given["root"]))
    if operation == "find":
        target = target_of(given["python"])
        present = packages.has(given["content"], target)
        return {
            "changed": False,
            "present": present,
            "target": target.as_dict(),
            "wheels": [] if present else packages.wheels_here(),
        }
    if operation != "install":
        raise PackageError(f"a host knows no operation {operation!r} of packages; there are {', '.join(OPERATIONS)}")
    archive, before = Path(given["archive"]), os.umask(0o022)
    try:
        packages.install(archive, given["content"], given["python"])
    finally:
        os.umask(before)
        archive.unlink(missing_ok=True)
    return {"changed": True}


def package(arguments: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The verb of the agent: operation and its options. Raises ERRORS."""
    return perform(str(arguments["operation"]), arguments)


VERBS = {"package": package}
