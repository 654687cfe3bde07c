"""One job, as its timer or an operator starts it: in the release that serves, never beside itself.

It holds the app for no moment, so no release waits for a job. One that is due while a transaction is under way waits
for its end, and runs in what serves then. What became of it stands in `jobs/<name>.json` of the app's directory.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, NoReturn, Optional

from ..host.errors import SlipwayError
from ..host.shown import staged
from .clock import Clock
from .jobs import Job, jobs_of
from .oneoff import cause, serving
from .runtime import Runtime, RuntimeFailed
from .store import MOMENT, Busy, Store
from .timers import Timers
from .wiring import runtime_of

# Seconds between two looks whether a transaction has ended, and lines of what it printed that are kept.
EVERY, LINES = 1.0, 20
# The exit code of a program that was told to end: 128 + SIGTERM.
ENDED = 143

Say = Callable[[str], object]


def perform(
    store: Store,
    runtime: Runtime,
    name: str,
    say: Say,
    clock: Optional[Clock] = None,
    timers: Optional[Timers] = None,
) -> dict[str, Any]:
    """Run a job of the release that serves to its end; returns rc, stdout, stderr and release, and its record.

    One that the release does not have is `skipped`. Asked by its timer (`timers`) it begins when one that runs has
    ended, and is skipped where it has no timer here any more. Raises Busy where the job runs already, and SlipwayError
    where nothing serves or its command cannot be run.
    """
    clock = clock or Clock()
    try:
        with store.only_one(store.job_lock(name), f"since {clock.now()}", inf if timers else MOMENT):
            waits = False
            while holder := store.holder():
                if not waits:
                    say(f"waits for the end of {holder}")
                waits = True
                clock.sleep(EVERY)
            if timers and name not in timers.names():
                say(f"the job {name} runs on another host now")
                return {"rc": 0, "stdout": "", "stderr": "", "release": "", "skipped": True}
            release = serving(store, f"the job {name}")
            job = jobs_of(store.releases, release).get(name)
            if job is None:
                say(f"release {release}, which serves, has no job {name}")
                return {"rc": 0, "stdout": "", "stderr": "", "release": release, "skipped": True}
            with store.in_use(release):
                return _run(store, runtime, name, release, job, clock)
    except Busy:
        raise Busy(f"the job {name} runs here already ({store.job_runs(name)}); wait until it has ended") from None


def _run(store: Store, runtime: Runtime, name: str, release: str, job: Job, clock: Clock) -> dict[str, Any]:
    begin = clock.monotonic()
    record: dict[str, Any] = {"release": release, "began": clock.now()}
    store.write_job(name, {**record, **_before(store.job(name))})
    ended: dict[str, Any] = {"rc": ENDED, "cause": "it was stopped"}
    try:
        words = [str(word) for word in job.command]
        ran = runtime.run(release, words, float(job.limit), f"job-{name}", together=True)
        # Beside what the job printed, what the runtime says of it.
        output = "\n".join(filter(None, (ran.stdout.strip(), ran.stderr.strip())))
        ended = {"rc": ran.returncode, "cause": "", "log": "\n".join(output.splitlines()[-LINES:])}
        if ran.timed_out:
            ended["cause"] = f"it did not end within its limit of {job.limit:g} s and was stopped"
        elif ran.returncode:
            ended["cause"] = cause(ran.returncode, output, store.secrets(release))
        said = {"rc": ran.returncode, "stdout": f"{output}\n" if output else "", "stderr": "", "release": release}
    except (RuntimeFailed, OSError) as error:
        ended = {"rc": 1, "cause": f"it could not be run: {staged(store.releases).text(error)}"}
        raise SlipwayError(f"the job {name} of release {release} could not be run: {error}") from error
    finally:
        seconds = round(clock.monotonic() - begin, 1)
        store.write_job(name, {**record, "ended": clock.now(), "seconds": seconds, **ended})
    return {**said, "cause": ended["cause"]}


def _before(found: dict[str, Any]) -> dict[str, Any]:
    """What a record has of the run before it: a job that always runs has a result, too."""
    over = found if "ended" in found else found.get("before")
    return {"before": over} if over else {}


def main(app: str, root: str, name: str) -> NoReturn:
    """What a timer starts; its exit code is the job's, and what it printed is in the journal."""

    def end(*_: Any) -> NoReturn:
        sys.exit(ENDED)

    signal.signal(signal.SIGTERM, end)
    store = Store(Path(root))
    runtime, timers = runtime_of({"place": {"app": app, "root": root}}), Timers(app, store)
    try:
        ran = perform(store, runtime, name, lambda text: print(text, flush=True), timers=timers)
    except (SlipwayError, OSError) as error:
        sys.exit(str(error))
    print(ran["stdout"].rstrip())
    if ran["rc"]:
        print(f"the job {name} failed: {ran['cause']}", file=sys.stderr)
    sys.exit(ran["rc"])
