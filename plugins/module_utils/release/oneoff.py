"""One command in a staged release, outside its slots: its check, a migration, what an operator runs."""

from __future__ import annotations

import subprocess
from typing import Any

from ..host.errors import SlipwayError
from .diagnosis import last_exception
from .runtime import RuntimeFailed
from .runtimes import Runtimes
from .store import Store


def run_once(app: str, store: Store, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run `command`; with `once` only where the release has no such mark yet, which it gets when the command succeeds.

    Raises SlipwayError when it failed, could not be run, or took longer than `timeout` seconds.
    """
    purpose = arguments["purpose"]
    state = store.state()
    release = arguments.get("release") or (state.release if state else "")
    if not release:
        raise SlipwayError(f"{purpose} needs a release, and none was deployed to this host yet")
    mark = store.releases / release / f".{arguments.get('once')}"
    if arguments.get("once") and mark.exists():
        return {"rc": 0, "stdout": "", "stderr": "", "release": release, "skipped": True}
    timeout = float(arguments.get("timeout") or 300.0)
    try:
        result = Runtimes(app, store.releases).run(release, arguments["command"], timeout)
    except subprocess.TimeoutExpired:
        raise SlipwayError(f"{purpose} did not end within {timeout:.0f} s and was stopped") from None
    except RuntimeFailed as error:
        raise SlipwayError(f"{purpose} of release {release} could not be run: {error}") from error
    said = {"rc": result.returncode, "stdout": result.stdout, "stderr": result.stderr, "release": release}
    output = f"{result.stderr.strip()}\n{result.stdout.strip()}".strip()
    if result.returncode:
        raise SlipwayError(
            f"{purpose} of release {release} failed: {cause(result.returncode, output)}; "
            f"the release that serves was not touched\n{output}",
            said,
        )
    if arguments.get("once"):
        mark.touch()
    return said


def cause(code: int, output: str) -> str:
    """Why a one-off command failed, in one line."""
    if code == 137:
        return "out of memory: the kernel killed it at its memory limit"
    return last_exception(output) or f"exit code {code}"
