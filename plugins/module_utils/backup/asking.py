"""How the program that backs a host up is asked, by a module and by the agent.

What works runs as a unit of its own, which goes on where the connection is lost; what only looks is run as it is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from ..host import command
from ..host.errors import SlipwayError

PROGRAM = Path("/usr/local/sbin/slipway-backup")
LOOKS = ("status", "plan")
# How the program is told whose operation it is: one that was put there by an earlier version knows no option for it.
RECORD = "SLIPWAY_RECORD"
# Seconds for one that looks, which reads the repository, and for one that works: a restore of much data takes hours.
LOOK, WORK = 900.0, 2 * 86400.0
# What somebody waits for is not as patient as what the timers start; a restore is what everybody waits for.
NICE = {"backup": "Nice=10", "drill": "Nice=10", "rehearse": "Nice=10", "restore": "Nice=0"}
# What is to be rehearsed, which is too long for an argument: the options with these names.
ORDER = ("app", "release", "command", "timeout", "set", "of")
NOT_SET_UP = (
    "nothing was done: backups are not set up on this host; set backup_repository and backup_password, and run "
    "slipway.fleet.provision"
)


def words(options: Mapping[str, Any]) -> list[str]:
    """The program's arguments."""
    verb = options["verb"]
    asked = [verb]
    if verb == "backup":
        asked.append(f"--reason={options['reason']}")
    if verb in ("drill", "plan", "restore"):
        asked.append(f"--set={options['set']}")
    if verb in ("drill", "plan", "restore"):
        asked += [f"--of={options['of']}"] if options.get("of") else []
    if verb in ("plan", "restore"):
        asked += [f"--time={options['time']}"] if options.get("time") else []
        asked += [f"--part={part}" for part in options["parts"]]
    if verb == "restore":
        asked.append(f"--confirm={options['confirm']}")
        asked += [
            f"--{word}"
            for word, said in (("any-schema", options["any_schema"]), ("no-safety", not options["safety"]))
            if said
        ]
    return asked


def ask(options: Mapping[str, Any], program: Path = PROGRAM) -> dict[str, Any]:
    """The program's answer. Raises SlipwayError with its reason, and in `details` the `fault`."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer"
        order = Path(directory) / "order"
        asked = [str(program), f"--answer={answer}", *words(options)]
        if options["verb"] == "rehearse":
            order.write_text(json.dumps({name: options[name] for name in ORDER if name in options}), encoding="utf-8")
            asked.append(f"--order={order}")
        looks = options["verb"] in LOOKS
        unit = ["systemd-run", "--quiet", "--wait", "--collect", "--property=SyslogIdentifier=slipway-backup"]
        by = f"--setenv={RECORD}={json.dumps(options.get('record') or {})}"
        started = asked if looks else [*unit, by, f"--property={NICE[options['verb']]}", "--", *asked]
        ran = command.run(started, LOOK if looks else WORK)
        try:
            told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise SlipwayError(
                f"slipway-backup {options['verb']} ended without an answer ({ran.said}); look into its journal "
                "(journalctl -t slipway-backup), and where an earlier version put it there run slipway.fleet.provision"
            ) from None
    if "error" in told:
        raise SlipwayError(told["error"]["message"], {"fault": told["error"]["fault"]})
    result: dict[str, Any] = told["result"]
    return result


def backup(arguments: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The agent's verb. Raises SlipwayError, also where backups are not set up on the host."""
    if not PROGRAM.exists():
        raise SlipwayError(NOT_SET_UP)
    return ask(arguments)


VERBS = {"backup": backup}
