"""A command of the operator's on the controller, and what is said of one that fails."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.turn_commands import missing, run_command


def said(*words: str, seconds: float = 30.0, **variables: str) -> str:
    return asyncio.run(run_command(words, seconds, variables))


def test_it_is_told_of_whom_it_is_and_keeps_the_controller_s_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_CONTROLLER", "key")
    told = tmp_path / "told"
    words = ("sh", "-c", f'echo "$0 $SLIPWAY_HOST $OF_THE_CONTROLLER" > {told}', "one $two")
    assert said(*words, SLIPWAY_HOST="web1") == ""
    assert told.read_text() == "one $two web1 key\n"


def test_a_program_that_the_controller_has_not_is_named() -> None:
    assert missing({}) == missing({"before": ["true", "no-such-program"], "after": ["/bin/true"]}) == []
    before, after = missing({"before": ["./no-such-program"], "after": ["/etc"]})
    assert before.startswith("fastapi_app_before_turn begins with ./no-such-program, which is no program on the")
    assert after.startswith("fastapi_app_after_turn begins with /etc, ")


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        (("sh", "-c", "exit 3"), "`sh` ended with 3: exit code 3"),
        (
            ("sh", "-c", "for line in a b c d; do echo $line >&2; done; exit 254"),
            "`sh` ended with 254: b / c / d",
        ),
        (("sh", "-c", "printf %01000d 7; exit 1"), "`sh` ended with 1: " + "0" * 299 + "7"),
        (("./gone",), "`./gone` cannot be run on the controller; look whether it is there and executable"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "did not end within 0.5 s (fastapi_app_turn_timeout)"),
    ],
)
def test_why_it_failed_is_said_in_its_last_words(words: tuple[str, ...], failure: str) -> None:
    assert said(*words, seconds=30.0 if words[0].startswith((".", "sh")) else 0.5).endswith(failure)
