"""One way to run a program."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import TIMED_OUT, CommandError, run


def test_what_a_program_says() -> None:
    ran = run(["sh", "-c", "echo out; echo err >&2; exit 3"], 30)
    assert (ran.returncode, ran.stdout, ran.stderr, ran.said) == (3, "out\n", "err\n", "err")
    assert run(["sh", "-c", "echo err >&2; echo out"], 30, merge=True).stdout == "err\nout\n"
    assert run(["sh", "-c", "echo $A$HOME"], 30, environment={"A": "b"}).stdout == "b\n"


def test_it_runs_where_it_is_told(tmp_path: Path) -> None:
    assert run(["pwd"], 30, cwd=str(tmp_path)).stdout == f"{tmp_path}\n"
    assert run(["pwd"], 30).stdout == f"{Path.cwd()}\n"


def test_only_the_end_of_endless_output_is_kept() -> None:
    ran = run(["sh", "-c", "yes | head -c 30000000; echo last"], 60, limit=1000)
    assert len(ran.stdout) == 1001
    assert ran.stdout[0] == "\N{HORIZONTAL ELLIPSIS}", "what follows may be half of something"
    assert ran.stdout.endswith("y\nlast\n")


def test_one_that_hangs_is_killed_with_its_children() -> None:
    begin = time.monotonic()
    ran = run(["sh", "-c", "echo before; sleep 100 & sleep 100"], 5)
    assert ran.timed_out
    assert ran.returncode == TIMED_OUT
    assert ran.stdout == "before\n"
    assert "did not end within" in ran.said
    assert time.monotonic() - begin < 50


@pytest.mark.parametrize(
    ("program", "stuck"),
    [
        ("sleep 60", True),
        ("sleep 60 & wait", True),
        ("exec >/dev/null 2>&1; sleep 60", True),
        ("(while :; do :; done) & wait", False),
    ],
)
def test_one_that_has_nothing_of_the_processor_is_stuck(program: str, stuck: bool) -> None:
    # What is not stuck goes on to the limit.
    limit = 300 if stuck else 12
    ran = run(["sh", "-c", program], timeout=limit, stuck=6)
    assert (ran.returncode, ran.stuck, ran.timed_out) == (TIMED_OUT, stuck, not stuck)
    assert ran.stderr.endswith(
        "`sh -c " + program + ("` did nothing for 6 s" if stuck else "` did not end within 12 s")
    )


def test_a_child_that_keeps_the_pipe_keeps_nobody_waiting() -> None:
    begin = time.monotonic()
    ran = run(["sh", "-c", "echo done; setsid sleep 90 &"], 60)
    assert (ran.returncode, ran.stdout) == (0, "done\n")
    assert time.monotonic() - begin < 50


@pytest.mark.parametrize(
    ("program", "words"), [("no-such-program", "there is no"), ("/etc/hosts", "cannot be started")]
)
def test_one_that_cannot_be_started_is_named(program: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run([program], 5)


def test_input_and_output_can_be_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\0words")
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        ran = run(["sh", "-c", "cat; echo err >&2; exit 3"], 30, source=source, target=target)
    assert (tmp_path / "out").read_bytes() == b"\0words"
    assert (ran.returncode, ran.stdout, ran.stderr) == (3, "", "err\n")
