"""`python3 -m bench.canary` releases by the thousand: how often a canary condemns what is worse, and what is not.

Nothing is deployed: requests come and fail by chance, times are lognormal, and the judge is the product's. The table is
that of docs/canary.md.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from ansible.plugins.loader import init_plugin_loader

if "ansible_collections" not in sys.modules:  # a test has them already
    init_plugin_loader([str(Path(__file__).resolve().parents[1] / ".collections")])

from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import (
    UNKNOWN,
    WORSE,
    Slot,
    judge,
)

SOAK, BEFORE = 10.0, 300.0  # seconds that the new release and the old one are seen
# Median in ms, and spread of the logarithm: p95 is 100 ms.
MEDIAN, SPREAD = 20.0, 0.978
# Times in ms at which one class of them ends and the next one begins; below the first one nothing is decided.
EDGES = [40, *(round(40 * 1.15**step) for step in range(1, 45))]
RATES = (1, 5, 20, 100, 1000)  # requests a second


@dataclass(frozen=True)
class Behaviour:
    """Of a release: the share of its requests that fails, how much longer all take, and what of them a second more."""

    errors: float = 0.001
    slower: float = 1.0
    stuck: float = 0.0

    def classes(self) -> list[tuple[int, float]]:
        """Each class of times, named as the edge does by its beginning, with the share of requests that is in it."""
        normal = NormalDist(math.log(MEDIAN * self.slower), SPREAD)
        below = [0.0, *(normal.cdf(math.log(edge)) for edge in EDGES), 1.0]
        begin = [20, *EDGES]
        shares = [
            (ms, (high - low) * (1 - self.stuck)) for ms, low, high in zip(begin, below[:-1], below[1:], strict=True)
        ]
        return [*shares, (1100, self.stuck)]


USUAL = Behaviour()
KINDS: dict[str, tuple[Behaviour, Behaviour]] = {
    "the same": (USUAL, USUAL),
    "the same, and 3 % fail in both": (Behaviour(0.03), Behaviour(0.03)),
    "1 % fail": (USUAL, Behaviour(0.01)),
    "2 % fail": (USUAL, Behaviour(0.02)),
    "5 % fail": (USUAL, Behaviour(0.05)),
    "half of them fail": (USUAL, Behaviour(0.5)),
    "all take twice as long": (USUAL, Behaviour(slower=2.0)),
    "all take four times as long": (USUAL, Behaviour(slower=4.0)),
    "a tenth takes a second more": (USUAL, Behaviour(stuck=0.1)),
}


def binomial(count: int, share: float, chance: random.Random) -> int:
    """How many of so many do what each does with that likelihood; of many it is drawn from a normal distribution."""
    if share > 0.5:
        return count - binomial(count, 1 - share, chance)
    if count * share > 500:
        drawn = chance.gauss(count * share, math.sqrt(count * share * (1 - share)))
        return min(max(round(drawn), 0), count)
    if share <= 0:
        return 0
    # From one that does to the next one.
    found, at, gaps = 0, 0, math.log1p(-share)
    while (at := at + int(math.log(1 - chance.random()) / gaps) + 1) <= count:
        found += 1
    return found


def drawn(behaviour: Behaviour, count: int, chance: random.Random) -> Slot:
    """What a slot does with so many requests."""
    times: Counter[int] = Counter()
    left, share_left = count, 1.0
    for ms, share in behaviour.classes():
        times[ms] = binomial(left, min(share / share_left, 1.0) if share_left > 1e-12 else 0.0, chance)
        left, share_left = left - times[ms], share_left - share
    return Slot(count, binomial(count, behaviour.errors, chance), +times)


def verdicts(old: Behaviour, new: Behaviour, rate: float, releases: int, seed: int = 1) -> Counter[str]:
    """The words of so many releases at so many requests a second."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    words: Counter[str] = Counter()
    for _ in range(releases):
        before, since = (max(round(chance.gauss(rate * s, math.sqrt(rate * s))), 0) for s in (BEFORE, SOAK))
        words[judge(drawn(new, since, chance), drawn(old, before, chance)).word] += 1
    return words


def rows(releases: int, seed: int) -> Iterator[str]:
    """Lines of Markdown, as they come."""
    yield f"| the new release | {' | '.join(f'{rate}/s' for rate in RATES)} |"
    yield f"| --- |{' --- |' * len(RATES)}"
    for name, (old, new) in KINDS.items():
        found = [verdicts(old, new, rate, releases, seed) for rate in RATES]
        yield f"| {name} | {' | '.join(cell(words, releases) for words in found)} |"


def cell(words: Counter[str], releases: int) -> str:
    """The share that was found worse; in brackets that of which nothing was known."""
    unknown = f" ({words[UNKNOWN] / releases:.0%} unknown)" if words[UNKNOWN] else ""
    return f"{words[WORSE] / releases:.1%}{unknown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", type=int, default=1000, help="of each kind at each rate")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for line in rows(given.releases, given.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
