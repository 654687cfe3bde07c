"""Work that outlives who asked for it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.detach import Lost, Tell, run_detached


def until(path: Path) -> None:
    """Wait for a file that must come; the limit only ends a test that has failed."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


def test_events_and_the_answer_come_back(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def work(tell: Tell) -> dict[str, Any]:
        tell({"phase": "start"})
        print("to the log")
        return {"session": os.getsid(0), "large": "x" * 200_000}

    result = run_detached(work, tmp_path / "log", told.append)
    assert told == [{"phase": "start"}]
    assert result["session"] != os.getsid(0)
    assert len(result["large"]) == 200_000
    assert '"session"' in (tmp_path / "log").read_text()


def test_an_error_comes_back_as_what_it_was(tmp_path: Path) -> None:
    def work(tell: Tell) -> dict[str, Any]:
        raise SlipwayError("no room", {"seconds": 3}, "held")

    with pytest.raises(SlipwayError, match="no room") as caught:
        run_detached(work, tmp_path / "log", lambda event: None)
    assert (caught.value.kind, caught.value.details) == ("held", {"seconds": 3})


def test_one_that_breaks_says_where_its_output_is(tmp_path: Path) -> None:
    def work(tell: Tell) -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(Lost, match="without an answer"):
        run_detached(work, tmp_path / "log", lambda event: None)
    assert "ZeroDivisionError" in (tmp_path / "log").read_text()


def test_it_goes_on_when_who_asked_is_gone(tmp_path: Path) -> None:
    begun, left, done = (tmp_path / name for name in ("begun", "left", "done"))

    def work(tell: Tell) -> dict[str, Any]:
        begun.touch()
        until(left)
        tell({"phase": "into a pipe that nobody has"})
        done.touch()
        return {}

    asking = os.fork()
    if asking == 0:
        run_detached(work, tmp_path / "log", lambda event: None)
        os._exit(0)
    until(begun)
    os.kill(asking, 9)
    os.waitpid(asking, 0)
    left.touch()
    until(done)


def test_what_comes_after_the_answer_is_waited_for_by_nobody(tmp_path: Path) -> None:
    asked, done = tmp_path / "asked", tmp_path / "done"

    def after() -> None:
        until(asked)
        done.touch()

    assert run_detached(lambda tell: {"a": 1}, tmp_path / "log", lambda event: None, after) == {"a": 1}
    asked.touch()
    until(done)


def test_nothing_of_who_asked_stays_open(tmp_path: Path) -> None:
    """A channel of SSH ends only when nobody has its pipes any more."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)

    def work(tell: Tell) -> dict[str, Any]:
        try:
            os.fstat(writing)
        except OSError:
            return {"open": False}
        return {"open": True}

    assert run_detached(work, tmp_path / "log", lambda event: None) == {"open": False}
    os.close(reading)
    os.close(writing)
