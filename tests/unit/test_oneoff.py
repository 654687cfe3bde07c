"""One command at a time for each purpose, in a release, with a limit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import State
from ansible_collections.slipway.fleet.plugins.module_utils.release.oneoff import run_once
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Busy, Store


class Runtime:
    """Runs nothing: says how it went, and remembers what it was told."""

    def __init__(self, *answers: Ran) -> None:
        self.answers = list(answers)
        self.told: list[tuple[str, list[str], float, str]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()

    def run(self, release: str, words: list[str], timeout: float, name: str) -> Ran:
        self.told.append((release, words, timeout, name))
        self.begun.set()
        assert self.go_on.wait(60)
        return self.answers.pop(0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "releases/one").mkdir(parents=True)
    return Store(tmp_path)


def ask(store: Store, runtime: Any, **arguments: Any) -> dict[str, Any]:
    given = {"release": "one", "command": ["migrate"], "purpose": "the migration", "timeout": 30.0, **arguments}
    return run_once(store, runtime, given)


GOOD = Ran(("migrate",), 0, "done\n", "")


def test_it_runs_under_the_name_of_its_purpose(store: Store) -> None:
    runtime = Runtime(GOOD)
    assert ask(store, runtime) == {"rc": 0, "stdout": "done\n", "stderr": "", "release": "one"}
    assert runtime.told == [("one", ["migrate"], 30.0, "the-migration")]


def test_once_is_once(store: Store) -> None:
    runtime = Runtime(Ran((), 1, "", "no"), GOOD)
    with pytest.raises(SlipwayError, match="failed: exit code 1"):
        ask(store, runtime, once="checked")
    assert not ask(store, runtime, once="checked").get("skipped")
    assert ask(store, runtime, once="checked")["skipped"]
    assert len(runtime.told) == 2


@pytest.mark.parametrize(
    ("ran", "words"),
    [
        (Ran((), 1, "", "ValueError: no\n"), "failed: ValueError: no; the release that serves was not touched"),
        (Ran((), 137, "", ""), "failed: out of memory"),
        (Ran((), 124, "", "half\n", True), "did not end within 30 s and was stopped; give it longer"),
    ],
)
def test_a_failure_says_why(store: Store, ran: Ran, words: str) -> None:
    with pytest.raises(SlipwayError, match=words) as caught:
        ask(store, Runtime(ran))
    assert caught.value.details["rc"] == ran.returncode


def test_endless_output_is_not_in_the_error(store: Store) -> None:
    with pytest.raises(SlipwayError) as caught:
        ask(store, Runtime(Ran((), 1, "x" * 1_000_000, "")))
    assert len(str(caught.value)) < 30_000


def test_the_release_that_serves_is_meant_where_none_is_named(store: Store) -> None:
    with pytest.raises(SlipwayError, match="needs a release, and none was deployed"):
        ask(store, Runtime(), release="")
    (store.root / "state.json").write_text("{")
    with pytest.raises(SlipwayError, match=r"not known here: .*state\.json is damaged.*; name a release"):
        ask(store, Runtime(), release="")
    store.write_state(State("one", "blue", "now"))
    assert ask(store, Runtime(GOOD), release="")["release"] == "one"


def test_two_migrations_never_run_beside_each_other(store: Store) -> None:
    runtime = Runtime(GOOD, GOOD)
    runtime.go_on.clear()
    first = threading.Thread(target=ask, args=(store, runtime))
    first.start()
    assert runtime.begun.wait(60)
    with pytest.raises(Busy, match="the migration of release one"):
        ask(store, runtime, timeout=0.3)
    second = threading.Thread(target=ask, args=(store, runtime))
    second.start()
    assert len(runtime.told) == 1
    runtime.go_on.set()
    first.join()
    second.join()
    assert len(runtime.told) == 2


def test_commands_of_operators_may(store: Store) -> None:
    runtime = Runtime(GOOD, GOOD)
    ask(store, runtime, alone=False)
    ask(store, runtime, alone=False)
    assert len({name for *_, name in runtime.told}) == 2
