"""Feeds the readers with hostile input for as long as you like: `python3 -m tests.fuzz [--minutes N] [NAME ...]`.

Rounds with new inputs follow each other until the time is over: one of Hypothesis, and where Atheris is installed then
one that is guided by what the code does. One that finds something is the last one: it shows what it found, and its
seed. NAME is that of a file here, such as `registry`; without any, all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.guided import KEPT, SECONDS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long at least (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=500, help="inputs of each reader in a round")
    parser.add_argument("--seconds", type=int, default=10, help="how long each reader is guided in a round")
    parser.add_argument("name", nargs="*", help=", ".join(sorted(path.stem[5:] for path in HERE.glob("test_*.py"))))
    options = parser.parse_args(arguments)
    files = [str(HERE / f"test_{name}.py") for name in options.name] or [str(HERE)]
    until, rounds = time.monotonic() + 60 * options.minutes, 0
    guidable = importlib.util.find_spec("atheris") is not None
    with tempfile.TemporaryDirectory(prefix="fuzz-kept-") as kept:
        asked = os.environ | {"FUZZ_EXAMPLES": str(options.examples)}
        guided = asked | {SECONDS: str(options.seconds), KEPT: kept}
        while time.monotonic() < until:
            environment = guided if guidable and rounds % 2 else asked
            rounds += 1
            seed = secrets.randbelow(1 << 32)
            print(f"round {rounds}, seed {seed}{', guided' * (environment is guided)}", flush=True)
            words = [sys.executable, "-m", "pytest", "--quiet", "--maxfail=1", f"--hypothesis-seed={seed}", *files]
            code = subprocess.run(words, check=False, cwd=ROOT, env=environment).returncode
            if code:
                return code
    each = f"{options.examples} inputs" + f" or {options.seconds} s" * guidable
    print(f"{rounds} rounds of {each} for each reader, and nothing was found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
