# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a host does for a package, by name: for the module slipway.fleet.package_host, and for the agent."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from .packages import PackageError, Packages, interpreter, keep_python, target_of

# The text of these is for the operator; nothing half made counts as there.
ERRORS = (PackageError, ValueError)

OPERATIONS = ("inspect", "find", "install", "machine", "python")
# What an operation may take, as the argument specification of a module says it.
OPTIONS: dict[str, dict[str, Any]] = {
    "root": {"type": "path"},
    "python": {"type": "str", "default": "/usr/bin/python3"},
    "archive": {"type": "path"},
    "content": {"type": "str"},
}


def perform(operation: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The result of an operation. An archive that came with it is gone afterwards. Raises ERRORS."""
    given = {name: options.get(name, kind.get("default")) for name, kind in OPTIONS.items()}
    if operation == "inspect":
        return {"changed": False, "python": target_of(given["python"]).version}
    if operation == "machine":
        return {"changed": False, "machine": platform.machine(), "there": os.path.exists(interpreter(given["python"]))}
    if operation == "python":
        with _archive(given) as archive:
            return {"changed": True, "python": keep_python(archive, given["python"])}
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
    with _archive(given) as archive:
        packages.install(archive, given["content"], given["python"])
    return {"changed": True}


@contextmanager
def _archive(given: Mapping[str, Any]) -> Iterator[Path]:
    """What the controller sent, to be unpacked for all users of the host; it is gone afterwards."""
    archive, before = Path(given["archive"]), os.umask(0o022)
    try:
        yield archive
    finally:
        os.umask(before)
        archive.unlink(missing_ok=True)


def package(arguments: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The verb of the agent: operation and its options. Raises ERRORS."""
    return perform(str(arguments["operation"]), arguments)


VERBS = {"package": package}
