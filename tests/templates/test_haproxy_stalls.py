"""A slot whose health path is slow, one whose health path says no, and one that is gone, behind a real HAProxy."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.templates.rendering import Role
from tests.templates.test_haproxy import PATIENCE, Edge, Slot, answering, app, configuration, runtime, slots, wait_for

__all__ = ["slots"]  # fixtures
HEALTH = "/readyz"


class Stalls(answering("blue")):  # type: ignore[misc]
    """Answers users, and who asks for its health when it may; each such question is counted."""

    well = threading.Event()
    asked = 0

    def do_GET(self) -> None:  # noqa: N802 - the name of the base class
        if self.path == HEALTH:
            type(self).asked += 1
            self.well.wait(PATIENCE)
        super().do_GET()


class Unready(answering("blue", 503)):  # type: ignore[misc]
    """Says that it is not well."""


@pytest.fixture
def edge(slots: dict[str, Slot], tmp_path: Path) -> Iterator[Edge]:
    """With the role's checks, made faster; green is drained, as beside a slot that serves.

    Between the last of the questions that a test waits for and the one for which a slot is out lie some seconds, which
    the machine may need for something else.
    """
    found = Edge(tmp_path)
    Stalls.well.set()
    piece = tmp_path / "haproxy.cfg"
    text = piece.read_text()
    for slow, fast in (
        ("timeout check 3s", "timeout check 1s"),
        ("inter 1s fastinter 300ms", "inter 100ms fastinter 30ms"),
    ):
        assert slow in text
        text = text.replace(slow, fast)
    piece.write_text(text)
    found.start()
    runtime(found).set_state("green", "drain")
    yield found
    Stalls.well.set()
    found.stop()


def stall(slot: Slot) -> None:
    Stalls.well.clear()
    Stalls.asked = 0
    slot.server.RequestHandlerClass = Stalls


def asked_more_than(number: int) -> bool:
    return Stalls.asked > number


def status(edge: Edge, path: str = "/x") -> int:
    return edge.get(path)[0].status


def up(edge: Edge) -> bool:
    return runtime(edge).servers()["blue"].answers


def test_a_slot_whose_health_is_slow_is_asked_since_nobody_else_could_be(edge: Edge, slots: dict[str, Slot]) -> None:
    stall(slots["blue"])
    for number in range(1, 9):  # twice as many as one that says no may miss
        wait_for(partial(asked_more_than, number))
        assert status(edge) == 200
    Stalls.well.set()
    wait_for(lambda: up(edge))
    assert status(edge) == 200


def test_one_that_never_says_how_it_is_is_no_slot_in_the_end(edge: Edge, slots: dict[str, Slot]) -> None:
    stall(slots["blue"])
    wait_for(lambda: status(edge) == 503)
    assert runtime(edge).servers()["green"].enabled is False, "what is drained gets nothing for that"
    Stalls.well.set()
    wait_for(lambda: status(edge) == 200)


@pytest.mark.parametrize("gone", [False, True])
def test_one_that_says_no_or_is_gone_is_out_as_soon_as_it_was_ever(
    edge: Edge, slots: dict[str, Slot], gone: bool
) -> None:
    if gone:
        slots["blue"].stop()
    else:
        slots["blue"].server.RequestHandlerClass = Unready
    wait_for(lambda: "DOWN" in edge.ask("show stat").partition("app_links,blue,")[2].partition("\n")[0])
    assert status(edge) == 503


def test_what_has_no_answer_is_waited_for_longer_than_what_says_no(tmp_path: Path) -> None:
    role = Role("haproxy", haproxy_apps=[app(tmp_path)])
    (said,) = re.findall(
        r"timeout check (\d)s\n.*?inter 1s fastinter 300ms fall (\d+) rise 1",
        configuration(role)["haproxy.cfg"],
        re.DOTALL,
    )
    timeout, misses = map(int, said)
    assert 1 + (misses - 1) * 0.3 < 5, "seconds until one that says no is out"
    assert misses * (timeout + 0.3) > 30, "and one that says nothing"
