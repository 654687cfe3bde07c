# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The parser of SQL, which nobody needs who deploys no app with Alembic: whether it is here, and new enough.

An older sqlglot lacks names, or cannot read the BEGIN after an autocommit block.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

NEEDED = "sqlglot>=30.30"
INSTALL = f"{sys.executable} -m pip install --upgrade '{NEEDED}'"


def lacking() -> str:
    """What is wrong with the sqlglot that is installed; empty where it can be used."""
    needed = Requirement(NEEDED)
    try:
        found = version(needed.name)
    except PackageNotFoundError:
        return f"no {needed.name} is installed"
    return "" if needed.specifier.contains(found, prereleases=True) else f"{needed.name} {found} is too old"
