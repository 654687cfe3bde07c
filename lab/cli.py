"""The command line: ``python3 -m lab VERB``."""

from __future__ import annotations

import argparse
import fcntl
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lab import engine, images, prepared, scenario
from lab.hosts import MOST, Host, Lab
from lab.report import say
from lab.shell import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SUITES = ("trixie", "bookworm")
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
    verbs.add_parser("prepared", help="make what scenarios begin with if it is out of date: a host, and a disk")
    up = verbs.add_parser("up", help="start hosts and wait until ssh answers; those that run are left as they are")
    up.add_argument("--hosts", type=_count, default=1, metavar="N", help="how many: web1 to webN (default: 1)")
    up.add_argument("--suite", choices=SUITES, default=SUITES[0], help="their Debian (default: %(default)s)")
    verbs.add_parser("down", help="remove all hosts with their disks")
    for verb in ("create", "destroy"):
        verbs.add_parser(verb, help=f"{verb} the hosts of a scenario; reads Molecule's platforms as JSON")
    verbs.add_parser("status", help="show the hosts and their ports")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"a number from 1 to {MOST} is needed, not {text!r}")
    return int(text)


def _run(options: argparse.Namespace) -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    lab = Lab(STATE)
    if options.verb == "status":
        engine.require()
        lab.status()
        return
    with _alone():
        match options.verb:
            case "docker":
                engine.ensure()
            case "images":
                engine.require()
                images.ensure(STATE / "logs", refresh=options.refresh)
            case "prepared":
                engine.require()
                prepared.ensure(STATE / "logs")
                prepared.ensure_disk()
            case "create":
                engine.require()
                scenario.create(scenario.parse(sys.stdin.read()), STATE / "logs")
            case "destroy":
                engine.require()
                scenario.destroy(scenario.parse(sys.stdin.read()))
            case "up":
                engine.require()
                hosts = [Host(number) for number in range(1, options.hosts + 1)]
                lab.up(hosts, f"slipway.lab/host:{options.suite}")
            case "down":
                engine.require()
                lab.down()


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
