"""Plays stories: `python3 -m tests.simulation --seeds 200000 [--first N] [--jobs N]`, or one of them with `--seed N`.

A seed that breaks a promise is shrunk and told. The exit code is 1 when there was one.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader([str(Path(__file__).resolve().parents[2] / ".collections")])

from tests.simulation import shims  # noqa: E402 - the collection has its name now
from tests.simulation.fleet import fleet  # noqa: E402 - the path is set above
from tests.simulation.play import outcome  # noqa: E402 - the path is set above
from tests.simulation.story import scenario, shrunk, told  # noqa: E402 - the path is set above

CHUNK = 100


def play(seeds: range) -> tuple[Counter[str], list[tuple[int, str]]]:
    """The words with which runs ended, and the seeds that broke a promise with the promise."""
    words: Counter[str] = Counter()
    broken = []
    code = shims.install()
    gc.disable()  # a story leaves many circles; they are collected between stories
    try:
        for seed in seeds:
            found, played = outcome(scenario(seed), fleet, installed=True)
            words.update(ended.word for ended in played.ended)
            if found:
                broken.append((seed, str(found)))
            if seed % 25 == 0:
                gc.collect()
    finally:
        gc.enable()
        code.remove()
    return words, broken


def tell(seed: int) -> bool:
    """Print the story of a seed, and the shortest one that breaks the same promise; tells whether it breaks one."""
    story = scenario(seed)
    found, played = outcome(story, fleet)
    if not found:
        print(told(story, played.world.story))
        return False
    promise = found.promise
    short = shrunk(story, lambda candidate: getattr(outcome(candidate, fleet)[0], "promise", "") == promise)
    found, played = outcome(short, fleet)
    print(told(short, played.world.story))
    print(f"seed {seed} breaks the promise {found}")
    return True


def chunks(first: int, count: int) -> Iterator[range]:
    for begin in range(first, first + count, CHUNK):
        yield range(begin, min(begin + CHUNK, first + count))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3000, help="how many stories")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--seed", type=int, help="tell this one alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many side by side")
    options = parser.parse_args()
    if options.seed is not None:
        return int(tell(options.seed))
    began = time.monotonic()
    words: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    gc.freeze()  # what is imported is not looked through with what stories leave
    with ProcessPoolExecutor(options.jobs) as pool:
        for said, found in pool.map(play, chunks(options.first, options.seeds)):
            words += said
            broken += found
            for seed, promise in found:
                print(f"seed {seed}: {promise}", flush=True)
    seconds = time.monotonic() - began
    ends = ", ".join(f"{count} {word}" for word, count in words.most_common())
    print(f"{options.seeds} stories in {seconds:.0f} s with {options.jobs} jobs, {len(broken)} broken; runs: {ends}")
    if broken:
        tell(broken[0][0])
    return int(bool(broken))


if __name__ == "__main__":
    # The order of sets of text comes from the hash; a story is the same in each process.
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.execve(  # noqa: S606 - itself
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
