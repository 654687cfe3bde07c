"""A story before and after it is played: what a seed stands for, how it is told, and how a failing one gets short."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.simulation.edge import PATH
from tests.simulation.faults import Fault, drawn_all


@dataclass(frozen=True)
class Run:
    """What somebody does to the fleet. `at` is when, in seconds after the story's begin."""

    operation: str
    release: str
    at: float = 0.0
    soak: float = 0.0
    on_failure: str = "revert"
    migrates: bool = False
    batches: tuple[object, ...] = (1, "100%")


@dataclass(frozen=True)
class Scenario:
    """A story before it is played. A calm one has every delay at its shortest."""

    seed: int
    hosts: int = 1
    fresh: bool = False
    older: bool = False
    runs: tuple[Run, ...] = ()
    faults: tuple[Fault, ...] = ()
    calm: bool = False
    # Each release tells under a path of its own how it is, and what the inventory says is right for none but the one
    # that is deployed.
    moving: bool = False
    # No release may run beside another one: each says so, but for what serves at the begin, which may be from before.
    alone: bool = False


ALONE = '{"overlap": false}'


def path_of(release: str, moving: bool) -> str:
    """Where a release tells how it is; what serves at the begin is of the time when all had the same."""
    return f"/health/{release or 'elsewhere'}" if moving and release != "r0" else PATH


@dataclass
class Said:
    """What a run says of a host: what served before, what serves now ('' nothing, None not known), when it looked
    last (seconds), and its outcome."""

    was: str | None = None
    now: str | None = None
    looked: float = 0.0
    outcome: str = ""
    tried: str | None = None


@dataclass
class Ended:
    """How a run ended, as its coordinator says."""

    run: str
    word: str
    release: str
    message: str = ""
    says: dict[str, Said] = field(default_factory=dict)
    changed: bool = False


def scenario(seed: int) -> Scenario:
    """What a seed stands for."""
    dice = random.Random(f"scenario {seed}")  # noqa: S311 - it shall be the same each time
    hosts = dice.choices((1, 2, 3), (68, 26, 6))[0]
    runs, at = [], 0.0
    for number in range(dice.choices((1, 2, 3), (50, 40, 10))[0]):
        operation = dice.choices(("deploy", "rollback", "restart"), (75, 13, 12))[0]
        runs.append(
            Run(
                operation,
                f"r{number + 1}" if operation == "deploy" else "",
                at,
                dice.choices((0.0, 5.0, 20.0, 150.0), (52, 25, 20, 3))[0],
                dice.choices(("revert", "hold"), (4, 1))[0],
                operation == "deploy" and dice.random() < 0.45,
                dice.choice(((1, "100%"), ("100%",), (1,))),
            )
        )
        at += dice.choice((0.0, 2.0, 15.0, 60.0, 130.0, 200.0))
    names = [f"web{number}" for number in range(1, hosts + 1)]
    count = dice.choices((0, 1, 2, 3, 4), (9, 28, 34, 19, 10))[0]
    faults = drawn_all(dice, count, names, len(runs), at + 30.0 * hosts)
    fresh, older = dice.random() < 0.12, dice.random() < 0.1
    moving, alone = dice.random() < 0.3, dice.random() < 0.2
    return Scenario(seed, hosts, fresh, older, tuple(runs), tuple(faults), moving=moving, alone=alone)


def shorter(story: Scenario) -> Iterator[Scenario]:
    """Stories that are a little less than this one, the boldest first."""
    for number in range(len(story.faults)):
        yield replace(story, faults=story.faults[:number] + story.faults[number + 1 :])
    if story.hosts > 1:
        gone = f"web{story.hosts}"
        faults = tuple(fault for fault in story.faults if gone not in (fault.host, fault.what))
        yield replace(story, hosts=story.hosts - 1, faults=faults)
    if len(story.runs) > 1:
        last = len(story.runs) - 1
        faults = tuple(fault for fault in story.faults if fault.host or fault.run != last)
        yield replace(story, runs=story.runs[:-1], faults=faults)
    plainer = (replace(story, calm=True), replace(story, older=False), replace(story, moving=False),
               replace(story, alone=False))  # fmt: skip
    yield from (other for other in plainer if other != story)
    for number, run in enumerate(story.runs):
        for change in simpler(run):
            yield replace(story, runs=(*story.runs[:number], change, *story.runs[number + 1 :]))
    for number, fault in enumerate(story.faults):
        for less in gentler(fault):
            yield replace(story, faults=(*story.faults[:number], less, *story.faults[number + 1 :]))


def simpler(run: Run) -> Iterator[Run]:
    if run.migrates:
        yield replace(run, migrates=False)
    if run.soak:
        yield replace(run, soak=0.0)
    if run.on_failure != "revert":
        yield replace(run, on_failure="revert")
    if run.operation != "deploy":
        yield replace(run, operation="deploy", release="r1")


def gentler(fault: Fault) -> Iterator[Fault]:
    if fault.effect > 1:
        yield replace(fault, effect=fault.effect // 2)
        yield replace(fault, effect=fault.effect - 1)


def shrunk(story: Scenario, fails: Callable[[Scenario], bool], tries: int = 300) -> Scenario:
    """The shortest story found that still fails in the same way."""
    left, again = tries, True
    while again and left > 0:
        again = False
        for candidate in shorter(story):
            left -= 1
            if left < 0:
                break
            if fails(candidate):
                story, again = candidate, True
                break
    return story


def told(story: Scenario, lines: list[tuple[float, str, str]]) -> str:
    """The story as lines: who does what when, in seconds."""
    head = [f"seed {story.seed}: {story.hosts} hosts, {'nothing released yet' if story.fresh else 'r0 serves'}"]
    head += [f"  {run.at:8.1f}  run {number}: {run.operation} {run.release} (soak {run.soak:.0f} s, {run.on_failure})"
             for number, run in enumerate(story.runs)]  # fmt: skip
    head += [f"  fault: {fault}" for fault in story.faults]
    return "\n".join([*head, *(f"{at:10.2f}  {who:<14} {what}" for at, who, what in lines)])
