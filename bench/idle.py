"""`python3 -m bench.idle INVENTORY...` compares a deploy with nothing to do with an empty play, over fleets of yours.

Everything must be deployed already, or this deploys it. Both run in turn, several times, with new SSH connections:
seconds are those of the whole command, processor time that of the controller with its ssh processes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.fleet import EMPTY, EMPTY_PLAY, NOTHING, Bench, Figures, say


def measure(bench: Bench, inventory: Path, variables: dict[str, str], rounds: int) -> dict[str, Figures]:
    """The two commands in turn, after a deploy that has it all there."""
    commands = {
        EMPTY: bench.playbook(inventory, str(EMPTY_PLAY), **variables),
        NOTHING: bench.playbook(inventory, "slipway.fleet.deploy", **variables),
    }
    bench.measured(commands[NOTHING])
    found = {name: Figures() for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds, processor = bench.measured(command)
            say(f"  {name}: {seconds:.1f} s, {processor:.2f} s of the processor")
            found[name].seconds.append(seconds)
            found[name].processor.append(processor)
    return found


def row(inventory: Path, found: dict[str, Figures]) -> str:
    empty, nothing = found[EMPTY], found[NOTHING]
    figures = (empty.time, nothing.time, nothing.time / empty.time, empty.cpu, nothing.cpu, nothing.cpu / empty.cpu)
    return f"| {inventory.stem} | {' | '.join(f'{figure:.2f}' for figure in figures)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.idle", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("inventory", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured; the median counts")
    parser.add_argument("-e", dest="variables", type=json.loads, default={}, help="more variables, as JSON")
    options = parser.parse_args(arguments)
    lines = [
        "| inventory | empty play, s | nothing to do, s | ratio | empty play, processor s | nothing to do | ratio |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        bench = Bench(Path(directory))
        for inventory in options.inventory:
            say(str(inventory))
            lines.append(row(inventory, measure(bench, inventory.resolve(), options.variables, options.rounds)))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
