"""The judge of a canary: it must condemn what is worse and nothing else, and say what it has seen."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import Answers, Counts
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import (
    GOOD,
    UNKNOWN,
    WORSE,
    Canary,
    Slot,
    Thresholds,
    chance,
    judge,
)

from bench.canary import KINDS, verdicts


def slot(requests: int, errors: int = 0, **of_them: int) -> Slot:
    """Requests of 20 ms, but for so many `of_them` that take as many ms as their name says: ms90=5."""
    times = Counter({int(name[2:]): count for name, count in of_them.items()})
    times[20] += requests - sum(times.values())
    return Slot(requests, errors, +times)


OLD = slot(2000, 2)


@pytest.mark.parametrize(
    ("new", "old", "word", "said"),
    [
        (slot(500), OLD, GOOD, "0.0% of 500 requests failed, on the old release 0.1% of 2000; 95 % took up to 20 ms"),
        # too few on one side
        (slot(49), OLD, UNKNOWN, "49 new and 2000 old requests, fewer than 50"),
        (slot(500, 500), Slot(), UNKNOWN, "500 new and 0 old"),
        (Slot(), OLD, UNKNOWN, "0 new"),
        # but not where what there is can be no chance
        (slot(5, 5), OLD, WORSE, "100.0% of 5 requests failed"),
        (slot(20, 20), slot(6), WORSE, "100.0% of 20"),
        (slot(2, 2), OLD, UNKNOWN, "2 new"),
        (slot(3, 3), slot(3), UNKNOWN, "3 new and 3 old"),
        # errors: ratio, difference, more than a few, and no chance
        (slot(500, 10), OLD, WORSE, "2.0% of 500 requests failed"),
        (slot(50, 2), OLD, GOOD, "4.0%"),
        (slot(50, 3), OLD, WORSE, "6.0% of 50"),
        (slot(50, 3), slot(50), GOOD, "6.0% of 50 requests failed, on the old release 0.0% of 50"),
        (slot(50, 10), slot(50), WORSE, "20.0%"),
        (slot(10_000, 90), OLD, GOOD, "0.9%"),
        (slot(1000, 65), slot(1000, 50), GOOD, "6.5%"),
        (slot(1000, 101), slot(1000, 50), WORSE, "10.1%"),
        (slot(50, 6), slot(200, 10), GOOD, "12.0%"),
        # times: the same
        (slot(500, ms300=50), OLD, WORSE, "95 % took up to 300 ms, on the old release 20 ms"),
        (slot(500, ms200=500), OLD, GOOD, "200 ms"),
        (slot(500, ms900=500), slot(500, ms700=500), GOOD, "900 ms"),
        (slot(500, ms300=20), OLD, GOOD, "20 ms"),
        # the first requests of each worker
        (slot(100, ms900=9), OLD, GOOD, "95 % took up to 900 ms"),
        # about every twentieth is slow by nature
        (slot(500, ms9000=26), slot(2000, ms9000=99), GOOD, "took up to 9000 ms, on the old release 20 ms"),
        (slot(500, ms9000=60), slot(2000, ms9000=99), WORSE, "took up to 9000 ms, on the old release 20 ms"),
        # nothing measured is nothing against it
        (Slot(500, 0), OLD, GOOD, "0.1% of 2000"),
        (slot(500, ms9000=500), Slot(500, 0), GOOD, "0.0%"),
    ],
)
def test_judge(new: Slot, old: Slot, word: str, said: str) -> None:
    verdict = judge(new, old)
    assert (verdict.word, said in verdict.sentence) == (word, True), verdict.sentence
    assert (verdict.new, verdict.old) == (new, old)


def test_thresholds_are_the_callers() -> None:
    new = slot(20, 1, ms30=5)
    assert judge(new, OLD, Thresholds(requests=10, errors=1, chance=0.1)).word == WORSE
    assert judge(new, OLD, Thresholds(requests=10, ms_difference=5.0, ms_ratio=1.1, slow=5)).word == WORSE
    assert judge(new, OLD, Thresholds(requests=10)).word == GOOD


@pytest.mark.parametrize(
    "of", [(3, 50, 0, 50), (8, 10, 2, 10), (0, 10, 5, 10), (10, 10, 0, 10), (120, 4000, 100, 9000)]
)
def test_chance_is_the_tail_of_the_hypergeometric_distribution(of: tuple[int, int, int, int]) -> None:
    bad, new, bad_before, old = of
    ways = [math.comb(bad + bad_before, n) * math.comb(new + old - bad - bad_before, new - n) for n in range(new + 1)]
    assert chance(*of) == pytest.approx(sum(ways[bad:]) / math.comb(new + old, new), rel=1e-6)


def test_chance_takes_no_time_with_many_requests() -> None:
    began = time.process_time()
    assert 0.0003 < chance(50_000, 1_000_000, 49_000, 1_000_000) < 0.001
    assert time.process_time() - began < 2


def test_what_it_saw_is_told_in_figures() -> None:
    about = judge(slot(500, 1, ms300=50), OLD).as_dict()
    assert about["new"] == {"requests": 500, "errors": 1, "p50": 20, "p95": 300}
    assert about["old"] == {"requests": 2000, "errors": 2, "p50": 20, "p95": 20}


def counted(worker: str = "7", age: float = 900.0, **slots: Answers) -> Counts:
    """`blue_lately` is what blue did in the last seconds."""
    lately = {name[: -len("_lately")]: answers for name, answers in slots.items() if name.endswith("_lately")}
    ever = {name: answers for name, answers in slots.items() if not name.endswith("_lately")}
    return Counts(worker, age, 300.0, ever, lately)


def edge(*said: Counts | Exception) -> Callable[[], Counts]:
    answers = iter(said)

    def ask() -> Counts:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def verdict(*said: Counts | Exception) -> tuple[str, str]:
    forgotten: list[str] = []
    canary = Canary(edge(*said), forgotten.append, Thresholds())
    canary.begin("green")
    assert forgotten == ["green"]
    found = canary.verdict("green", "blue")
    return found.word, found.sentence


def answers(count: int, failed: int = 0, unanswered: int = 0) -> Answers:
    return Answers(Counter({20: count}), failed, unanswered, unanswered)


AT_THE_SWITCH = counted(blue=answers(90_000, 900), green=answers(70_000, 7000, 5), blue_lately=answers(1000, 2))


def test_only_what_came_after_the_switch_is_the_new_one() -> None:
    after = counted(blue=answers(90_050, 950), green=answers(70_300, 7001, 5), blue_lately=answers(50, 50))
    word, sentence = verdict(AT_THE_SWITCH, after)
    assert (word, sentence[:71]) == (GOOD, "0.3% of 300 requests failed, on the old release 0.2% of 1000; 95 % took")


def test_what_the_edge_answers_for_a_slot_failed() -> None:
    after = counted(green=answers(70_300, 7000, 35))
    assert verdict(AT_THE_SWITCH, after) == (
        WORSE,
        "9.1% of 330 requests failed, on the old release 0.2% of 1000",
    )


def test_what_was_asked_again_and_answered_did_not_fail() -> None:
    after = counted(green=replace(answers(70_300, 7000), broken=35))
    word, sentence = verdict(AT_THE_SWITCH, after)
    assert (word, sentence[:29]) == (GOOD, "0.0% of 300 requests failed, ")


def test_a_reload_begins_anew_and_is_told() -> None:
    word, sentence = verdict(AT_THE_SWITCH, counted("8", 4.2, green=answers(120, 60)))
    assert word == WORSE
    assert sentence.startswith("50.0% of 120 requests failed")
    assert sentence.endswith("; the edge was reloaded 4 s ago, and what came before is not counted")
    assert verdict(AT_THE_SWITCH, counted("8", 4.2))[0] == UNKNOWN


def test_an_edge_that_began_lately_is_told() -> None:
    began = counted(age=12.0, blue_lately=answers(30))
    word, sentence = verdict(began, counted(age=22.0, green=answers(300)))
    assert (word, sentence) == (
        UNKNOWN,
        "300 new and 30 old requests, fewer than 50, tell too little; the edge counted for 12 s before the switch",
    )


def test_an_edge_that_does_not_answer_tells_nothing() -> None:
    dead = EdgeError("HAProxy does not answer")
    assert verdict(dead) == (
        UNKNOWN,
        "what the edge counts could not be read at the switch: HAProxy does not answer",
    )
    assert verdict(AT_THE_SWITCH, dead) == (UNKNOWN, "what the edge counts could not be read: HAProxy does not answer")


@pytest.mark.parametrize(
    ("kind", "rate", "releases", "least", "most"),
    [
        ("the same", 20, 1000, 0.0, 0.002),
        ("the same, and 3 % fail in both", 20, 500, 0.0, 0.004),
        ("5 % fail", 20, 200, 0.97, 1.0),
        ("half of them fail", 1, 200, 0.75, 1.0),
        ("all take twice as long", 100, 200, 0.0, 0.01),
        ("all take four times as long", 100, 200, 0.99, 1.0),
    ],
)
def test_simulated_releases(kind: str, rate: float, releases: int, least: float, most: float) -> None:
    """As docs/canary.md has it, from the same simulation with another seed."""
    words = verdicts(*KINDS[kind], rate, releases, seed=7)
    assert least <= words[WORSE] / releases <= most, words
