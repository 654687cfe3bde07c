# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What squawk finds in the SQL of migrations: statements that lock or rewrite more than somebody may expect.

It refuses nothing. What a release before does not survive is judged by `schema_changes`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result

NEEDED = "squawk-cli>=2.70"
# Its rules of style, those about transactions and timeouts, which are Slipway's and Alembic's, and what it cannot read.
# Its own option for that would go over a team's .squawk.toml.
LEFT_OUT = (
    *("prefer-bigint-over-int", "prefer-bigint-over-smallint", "prefer-identity", "prefer-robust-stmts"),
    *("prefer-text-field", "prefer-timestamptz", "require-lock-timeout", "require-statement-timeout"),
    *("require-timeout-settings", "transaction-nesting", "ban-uncommitted-transaction", "syntax-error"),
)
# Seconds for one revision.
LIMIT = 30.0


def program() -> Optional[str]:
    """The program: beside the Python that runs this, or on PATH; None where it is not installed."""
    beside = Path(sys.executable).with_name("squawk")
    return str(beside) if beside.exists() else shutil.which("squawk")


def findings(pending: Sequence[Mapping[str, Any]], dialect: str) -> Result:
    """What there is to know of pending revisions, each with `revision` and `sql`.

    `found` are {revision, line, rule, message}, with lines of the SQL as Alembic writes it; `lacks` says why nobody
    looked, empty where somebody did. Of another database than PostgreSQL there is nothing to be found.
    """
    if dialect != "postgresql":
        return {"found": [], "lacks": ""}
    squawk = program()
    if squawk is None:
        return {"found": [], "lacks": f"squawk is not installed here (pip install '{NEEDED}')"}
    found: list[dict[str, Any]] = []
    for one in pending:
        try:
            found += _of_revision(squawk, str(one["revision"]), str(one["sql"]))
        except (OSError, ValueError, TypeError, KeyError, subprocess.TimeoutExpired) as error:
            return {"found": found, "lacks": f"squawk did not read revision {one['revision']}: {error}"}
    return {"found": found, "lacks": ""}


def _of_revision(squawk: str, revision: str, sql: str) -> list[dict[str, Any]]:
    words = [squawk, "--reporter", "Json", "--stdin-filepath", f"{revision}.sql"]
    ran = subprocess.run(  # noqa: S603 - the program alone is named, what it reads is its input
        words, input=sql, capture_output=True, text=True, timeout=LIMIT, check=False
    )
    if ran.returncode and not ran.stdout.strip():
        raise ValueError(ran.stderr.strip().splitlines()[-1] if ran.stderr.strip() else f"exit code {ran.returncode}")
    return [
        {"revision": revision, "line": one["line"] + 1, "rule": one["rule_name"], "message": str(one["message"])}
        for one in json.loads(ran.stdout or "[]")
        if one["rule_name"] not in LEFT_OUT
    ]


def sentences(told: Mapping[str, Any]) -> list[str]:
    """A line for each finding, and why nobody looked."""
    found = [
        f"squawk: revision {one['revision']}, line {one['line']}: {one['rule']}: {one['message']}"
        for one in told["found"]
    ]
    return found + ([f"nothing was looked for beyond what breaks a release: {told['lacks']}"] if told["lacks"] else [])
