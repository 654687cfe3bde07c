"""The command line: ``python3 -m lab VERB``."""

from __future__ import annotations

import argparse
import fcntl
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab import engine, images
from lab.report import say
from lab.shell import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STATE = Path(__file__).parent.parent / ".lab"


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit status: 0, 1 for a fault that was explained, 130 for an interruption."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except LabError as error:
        print(f"\nlab {options.verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nlab {options.verb}: interrupted; run it again to go on where it stopped.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m lab", description="Hosts to deploy to, on this machine.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("docker", help="make sure that Docker answers (installs and starts it when root on Debian)")
    make = verbs.add_parser("images", help="pull or build the images that are missing or out of date")
    make.add_argument("--refresh", action="store_true", help="ask the registry again and make all of them anew")
    return parser


def _run(options: argparse.Namespace) -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    with _alone():
        if options.verb == "docker":
            engine.ensure()
            return
        engine.require()
        if options.verb == "images":
            images.ensure(STATE / "logs", refresh=options.refresh)


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other command of the lab changes something in this checkout."""
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lab", "waiting for another command of the lab to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
