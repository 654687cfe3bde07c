"""What a host is asked about packages: the operations of the module `package`, as the verb `package` has them, too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable

from .packages import Packages, target_of

Options = dict[str, Any]
Result = dict[str, Any]

# What the operations read, and what they get where nothing is said.
DEFAULTS: Options = {"python": "/usr/bin/python3", "archive": None, "content": None}


def inspect(packages: Packages, options: Options) -> Result:
    """Whether the host's Python suits."""
    return {"changed": False, "python": target_of(options["python"]).version}


def find(packages: Packages, options: Options) -> Result:
    """Whether the package is there, and what a transfer has to know."""
    target = target_of(options["python"])
    present = packages.has(options["content"], target)
    wheels = [] if present else packages.wheels_here()
    return {"changed": False, "present": present, "target": target.as_dict(), "wheels": wheels}


def install(packages: Packages, options: Options) -> Result:
    """Make the package of what was sent, of which nothing stays."""
    archive = Path(options["archive"])
    os.umask(0o022)  # the app, which is another user, reads what the venv and pip write
    try:
        packages.install(archive, options["content"], options["python"])
    finally:
        archive.unlink(missing_ok=True)
    return {"changed": True}


OPERATIONS: dict[str, Callable[[Packages, Options], Result]] = {"inspect": inspect, "find": find, "install": install}


def perform(options: Options) -> Result:
    """The result of an operation. Raises PackageError, and ValueError that names a damaged record."""
    return OPERATIONS[options["operation"]](Packages(Path(options["root"])), options)


def package(arguments: dict[str, Any], tell: Callable[[Result], None]) -> Result:
    """The verb: operation and options as the module has them."""
    return perform({**DEFAULTS, **arguments})


VERBS = {"package": package}
