"""One job: in what serves, not beside itself, not while a release is under way, and what is kept of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release import timed
from ansible_collections.slipway.fleet.plugins.module_utils.release.clock import Clock
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import State
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Busy, Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.timed import perform
from ansible_collections.slipway.fleet.plugins.module_utils.release.timers import Timers
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import archive


class Runtime:
    """Says how it went, once it may."""

    def __init__(self, answer: Ran | Exception) -> None:
        self.answer = answer
        self.told: list[Any] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def run(self, *what: Any, **more: Any) -> Ran:
        self.told.append((*what, more))
        self.begun.set()
        assert self.go_on.wait(60)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Waiting(Clock):
    """Its sleep is one turn of what happens meanwhile."""

    def __init__(self, *turns: Any) -> None:
        self.turns = list(turns)

    def sleep(self, seconds: float) -> None:
        self.turns.pop(0)()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    for release in ("one", "two"):
        (tmp_path / "releases" / release).mkdir(parents=True)
        jobs = {"nightly": {"command": ["count", release, 7], "schedule": "daily", "limit": 60}}
        (tmp_path / "releases" / release / "jobs.json").write_text(json.dumps(jobs))
    made.write_state(State("one", "blue", "now"))
    return made


GOOD = Ran((), 0, "".join(f"line {number}\n" for number in range(30)))


def ask(store: Store, runtime: Any, name: str = "nightly", clock: Clock | None = None) -> dict[str, Any]:
    return perform(store, runtime, name, lambda text: None, clock)


def test_it_runs_in_what_serves_and_its_end_is_kept(store: Store) -> None:
    runtime = Runtime(GOOD)
    assert ask(store, runtime)["rc"] == 0
    assert runtime.told == [("one", ["count", "one", "7"], 60.0, "job-nightly", {"together": True})]
    kept = store.job("nightly")
    assert (kept["release"], kept["rc"], kept["cause"]) == ("one", 0, "")
    assert kept["log"].splitlines() == [f"line {number}" for number in range(10, 30)]
    assert kept["began"] <= kept["ended"]
    assert kept["seconds"] >= 0


def test_while_it_runs_the_end_of_the_run_before_is_kept(store: Store) -> None:
    """Whatever became of those in between: the last one that ended counts."""
    ask(store, Runtime(Ran((), 3, "no ledger")))
    seen: list[dict[str, Any]] = []

    class Looking(Runtime):
        def run(self, *what: Any, **more: Any) -> Ran:
            seen.append(store.job("nightly"))
            return super().run(*what, **more)

    first = store.job("nightly")
    ask(store, Looking(GOOD))
    assert seen[-1]["before"] == first
    assert "ended" not in seen[-1]
    assert "before" not in store.job("nightly")
    store.write_job("nightly", {"release": "one", "began": "now", "before": first})  # one that was cut
    ask(store, Looking(GOOD))
    assert seen[-1]["before"] == first


def test_one_that_is_due_in_a_release_waits_and_runs_in_the_new_one(store: Store) -> None:
    held = store.lock("release two by ann")
    said: list[str] = []

    def switched() -> None:
        assert runtime.told == []
        store.write_state(State("two", "green", "now"))

    runtime = Runtime(GOOD)
    held.__enter__()
    clock = Waiting(lambda: None, switched, lambda: held.__exit__(None, None, None))
    assert perform(store, runtime, "nightly", said.append, clock)["release"] == "two"  # type: ignore[arg-type]
    assert (runtime.told[0][1], clock.turns) == (["count", "two", "7"], [])
    assert said == ["waits for the end of release two by ann"]


def test_it_never_runs_beside_itself_and_holds_up_no_release(store: Store) -> None:
    runtime = Runtime(GOOD)
    runtime.go_on.clear()
    first = threading.Thread(target=ask, args=(store, runtime))
    first.start()
    assert runtime.begun.wait(60)
    try:
        with pytest.raises(Busy, match=r"the job nightly runs here already \(since 20"):
            ask(store, runtime)
        assert store.job_runs("nightly")
        assert "ended" not in store.job("nightly")
        with store.lock("a release", 0.0):
            pass
        assert store.removable(0, set()) == [], "what it runs in is not pruned"
    finally:
        runtime.go_on.set()
        first.join()
    assert len(runtime.told) == 1
    assert store.job_runs("nightly") is None
    (store.root / "ledger.jsonl").write_text(
        "".join(json.dumps({"release": one, "result": "good", "start": one}) + "\n" for one in ("one", "two"))
    )
    assert store.removable(1, set()) == ["one"]


class Timed(Timers):
    """Has, or has no longer, the timer of the job."""

    def __init__(self, *there: str) -> None:
        self.there = [*there]

    def names(self) -> list[str]:
        return self.there


def test_one_that_is_due_while_it_runs_begins_when_that_has_ended(store: Store) -> None:
    by_hand, by_timer = Runtime(GOOD), Runtime(GOOD)
    by_hand.go_on.clear()
    first = threading.Thread(target=ask, args=(store, by_hand))
    first.start()
    assert by_hand.begun.wait(60)
    more = {"timers": Timed("nightly")}
    second = threading.Thread(target=perform, args=(store, by_timer, "nightly", print), kwargs=more)
    second.start()
    assert not by_timer.begun.wait(0.5)
    by_hand.go_on.set()
    assert by_timer.begun.wait(60)
    for thread in (first, second):
        thread.join()


def test_one_whose_timer_went_to_another_host_while_it_waited_runs_there(store: Store) -> None:
    held, timers, runtime = store.lock("a move"), Timed("nightly"), Runtime(GOOD)
    held.__enter__()
    clock = Waiting(timers.there.clear, lambda: held.__exit__(None, None, None))
    assert perform(store, runtime, "nightly", print, clock, timers)["skipped"]  # type: ignore[arg-type]
    assert (runtime.told, store.job("nightly")) == ([], {})


def test_what_the_runtime_says_of_it_is_kept_too(store: Store) -> None:
    ran = ask(store, Runtime(Ran((), 1, "half\n", "the image makes a user of its own: leave fastapi_app_user empty\n")))
    assert ran["stdout"] == "half\nthe image makes a user of its own: leave fastapi_app_user empty\n"
    assert store.job("nightly")["log"].endswith("leave fastapi_app_user empty")


def test_one_that_the_release_does_not_have_is_left_out(store: Store) -> None:
    runtime = Runtime(GOOD)
    assert ask(store, runtime, "weekly")["skipped"]
    assert (runtime.told, store.job("weekly")) == ([], {})


@pytest.mark.parametrize(
    ("ran", "code", "cause"),
    [
        (Ran((), 3, "no ledger\n"), 3, "exit code 3"),
        (Ran((), 1, "Traceback (most recent call last):\nValueError: no\n"), 1, "ValueError: no"),
        (Ran((), 137, ""), 137, "out of memory: the kernel killed it at its memory limit"),
        (Ran((), 124, "half\n", "", True), 124, "it did not end within its limit of 60 s and was stopped"),
    ],
)
def test_how_it_failed_is_kept(store: Store, ran: Ran, code: int, cause: str) -> None:
    assert ask(store, Runtime(ran))["rc"] == code
    assert (store.job("nightly")["rc"], store.job("nightly")["cause"]) == (code, cause)


def test_one_that_cannot_be_run_is_kept_and_told(store: Store) -> None:
    with pytest.raises(SlipwayError, match="the job nightly of release one could not be run: no such image"):
        ask(store, Runtime(RuntimeFailed("no such image")))
    assert store.job("nightly")["cause"] == "it could not be run: no such image"


def test_nothing_serves(store: Store) -> None:
    (store.root / "state.json").unlink()
    with pytest.raises(SlipwayError, match="the job nightly needs a release"):
        ask(store, Runtime(GOOD))


def test_no_secret_of_the_app_is_kept(store: Store) -> None:
    (store.releases / "one/secrets").mkdir()
    (store.releases / "one/secrets/KEY").write_text("planted-key")
    ask(store, Runtime(Ran((), 1, "the key is planted-key\n")))
    assert "planted" not in (store.root / "jobs/nightly.json").read_text()


def test_the_program_of_a_timer(store: Store, tmp_path: Path) -> None:
    """As its unit starts it: from the agent's file, by another process; what it is told to end it ends."""
    (tmp_path / "jobs.pyz").write_bytes(archive.build(archive.sources()))
    tools = tmp_path / "bin"
    tools.mkdir()
    (store.releases / "one/compose.yaml").write_text("services:\n  web:\n    image: links:1\n")
    for release in ("one", "two"):
        (store.releases / release / "secrets").mkdir()
    (tools / "docker").write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\ncase "$*" in *" run --rm"*) exec sleep 60;; esac\n'
    )
    (tools / "docker").chmod(0o755)
    start = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'jobs.pyz')!r});"
        "from ansible_collections.slipway.fleet.plugins.module_utils.release import slots, timed;"
        "slots.SlotDirectories.have_oneoff = lambda self: None;"
        "timed.Timers.names = lambda self: ['nightly'];"
        f"timed.main('links', {str(tmp_path)!r}, 'nightly')"
    )
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", start], env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    )
    calls = tmp_path / "calls"
    deadline = time.monotonic() + 60
    while not (calls.exists() and " run --rm" in calls.read_text()) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == timed.ENDED
    ended = calls.read_text().splitlines()
    assert any("run --rm --name links-oneoff-job-nightly" in call for call in ended)
    assert "--filter name=^/links-oneoff-job-nightly$" in ended[-1], "it looks what is left of its container"
    assert store.job("nightly")["cause"] == "it was stopped"
