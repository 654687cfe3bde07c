"""One command in a staged release, outside its slots: its check, a migration, what an operator runs."""

from __future__ import annotations

import re
import uuid
from typing import Any

from ..host.errors import Damaged, SlipwayError
from ..host.shown import tail
from .diagnosis import exception_text, last_exception, last_words, no_login
from .missed import Secrets, secrets_missed
from .runtime import Runtime, RuntimeFailed
from .store import Store

KILLED = 137  # 128 + SIGKILL
# Bytes of what it printed that stand in an error, from the end.
SHOWN = 20_000


def run_once(store: Store, runtime: Runtime, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run `command`; with `once` only where the release has no such mark yet, which it gets when the command succeeds.

    Two of one purpose never run beside each other, whatever became of who asked for the first; where `alone` is false
    they may.

    Raises SlipwayError when it failed, could not be run, or was stopped after `timeout` seconds, and Busy when one of
    this purpose still runs after that time.
    """
    purpose = arguments["purpose"]
    release = arguments.get("release") or serving(store, purpose)
    timeout = float(arguments.get("timeout") or 300.0)
    name = re.sub(r"[^a-z0-9]+", "-", purpose.lower())[:40].strip("-")
    if not arguments.get("alone", True):
        name = f"{name}-{uuid.uuid4().hex[:8]}"
        return _run(store, runtime, arguments, release, timeout, name)
    with store.only_one(f"oneoff-{name}", f"{purpose} of release {release}", timeout):
        return _run(store, runtime, arguments, release, timeout, name)


def _run(
    store: Store, runtime: Runtime, arguments: dict[str, Any], release: str, timeout: float, name: str
) -> dict[str, Any]:
    purpose, once = arguments["purpose"], arguments.get("once")
    if once and store.marked(release, once):
        return {"rc": 0, "stdout": "", "stderr": "", "release": release, "skipped": True}
    try:
        ran = runtime.run(release, arguments["command"], timeout, name)
    except RuntimeFailed as error:
        raise SlipwayError(f"{purpose} of release {release} could not be run: {error}") from error
    said = {"rc": ran.returncode, "stdout": ran.stdout, "stderr": ran.stderr, "release": release}
    output = tail(f"{ran.stderr.strip()}\n{ran.stdout.strip()}".strip(), SHOWN)
    if ran.timed_out:
        raise SlipwayError(
            f"{purpose} of release {release} did not end within {timeout:.0f} s and was stopped; give it longer "
            "(fastapi_app_check_timeout, fastapi_app_migrate_timeout), or look why it takes that long. Where it is the "
            'app itself that runs there, the image\'s entry point does not run what it is given (exec "$@")\n' + output,
            said,
        )
    if ran.returncode:
        raise SlipwayError(
            f"{purpose} of release {release} failed: {cause(ran.returncode, output, store.secrets(release))}; "
            f"the release that serves was not touched\n{output}",
            said,
        )
    if once:
        store.mark(release, once)
    return said


def serving(store: Store, purpose: str) -> str:
    """The release that serves, by the records. Raises SlipwayError where none does, or they cannot be read."""
    try:
        state = store.state()
    except Damaged as error:
        raise SlipwayError(f"which release serves is not known here: {error}; name a release") from error
    if state is None:
        raise SlipwayError(f"{purpose} needs a release, and none was deployed to this host yet")
    return state.release


def cause(code: int, output: str, secrets: Secrets) -> str:
    """Why a one-off command failed, in one line; `secrets` are those of its release."""
    if code == KILLED:
        return "out of memory: the kernel killed it at its memory limit"
    why = exception_text(output) or last_words(output)
    return (last_exception(output) or f"exit code {code}") + secrets_missed(why, secrets) + no_login(why)
