"""Two rolls over four hosts, as the playbooks would report them: one that went well, one that was taken back.

    PYTHONPATH=.collections python3 -m tests.browser.examples > docs/report.svg

draws the second one for the documentation; a test holds the two equal.
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.report import document as report

BEGAN = 1_760_000_000.0
WAS, TRIED = "3f1c09d2a7be", "77aa01bc9d10"
# Seconds of the phases of one host, in their order.
GOOD = {"start": 0.6, "gate": 3.8, "edge": 1.1, "switch": 0.04, "drain": 2.1, "soak": 2.0, "stop": 1.7}
BACK = {"start": 0.5, "gate": 3.1, "edge": 0.9, "switch": 0.03, "drain": 1.4, "stop": 1.2}
LOG = """\
[2025-10-09 08:53:59 +0000] [1] [INFO] Starting gunicorn 25.1.0
[2025-10-09 08:53:59 +0000] [1] [INFO] Listening at: unix:/run/slipway/shortlinks/green/app.sock (1)
[2025-10-09 08:54:00 +0000] [9] [ERROR] Exception in worker process
Traceback (most recent call last):
  File "/app/app/settings.py", line 41, in load
    return Settings()
pydantic_core._pydantic_core.ValidationError: 1 validation error for Settings
cache_url
  URL scheme should be 'redis' or 'rediss' [type=url_scheme, input_value='http://cache:6379/0']
[2025-10-09 08:54:00 +0000] [9] [INFO] Worker exiting (pid: 9)
[2025-10-09 08:54:01 +0000] [1] [ERROR] Worker (pid:9) exited with code 3
[2025-10-09 08:54:01 +0000] [1] [ERROR] Shutting down: Master
[2025-10-09 08:54:01 +0000] [1] [ERROR] Reason: Worker failed to boot."""


def steps(at: float, phases: dict[str, float], revert: bool = False) -> list[dict[str, Any]]:
    """The phases one after the other, from `at` seconds after the run began."""
    found = []
    for phase, seconds in phases.items():
        found.append({"phase": phase, "start": BEGAN + at, "seconds": seconds, "revert": revert})
        at += seconds
    return found


def host(name: str, batch: int, outcome: str, done: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    now = TRIED if outcome == "good" else WAS
    tried = None if outcome == "untouched" else TRIED
    found = {"host": name, "batch": batch, "was": WAS, "tried": tried, "now": now, "outcome": outcome, "steps": done}
    return {**found, "cause": "", "diagnosis": "", **more}


def run(verdict: str, message: str, seconds: float, hosts: list[dict[str, Any]]) -> dict[str, Any]:
    plays = [
        ("Preflight, changes nothing", 0.4, 3.9),
        ("Hold the fleet", 3.9, 5.2),
        ("Image and release files", 5.2, 17.8),
        ("Migrate, once for all hosts", 17.8, 20.6),
        ("Roll, host by host", 20.6, seconds - 4.5),
        ("Settle the fleet", seconds - 4.5, seconds - 0.8),
    ]
    return {
        "app": "shortlinks",
        "inventory": "fleet",
        "operation": "deploy",
        "release": TRIED,
        "who": "ops",
        "from": "controller-1",
        "started": BEGAN,
        "ended": BEGAN + seconds,
        "verdict": verdict,
        "message": message,
        "plays": [{"name": name, "start": BEGAN + start, "end": BEGAN + end} for name, start, end in plays],
        "hosts": hosts,
    }


def samples(
    begin: float, end: float, new: list[tuple[float, float]], failed: tuple[float, ...] = ()
) -> list[dict[str, Any]]:
    """Twenty requests a second. `new`: from when to when how large a share of them the new release answers."""
    chance = random.Random(7)  # noqa: S311 - an example, the same every time
    found = []
    for number in range(int((end - begin) * 20)):
        at = begin + number / 20
        share = next((part for since, part in reversed(new) if at >= since), 0.0)
        rolling = 0 < share < 1
        ms = math.exp(chance.gauss(1.5 if not rolling else 1.75, 0.32)) + (chance.random() > 0.985) * chance.uniform(
            20, 160
        )
        sample = {
            "start": round(BEGAN + at, 3),
            "ms": round(ms, 2),
            "kept": number % 2 == 0,
            "url": 0,
            "status": 200,
            "release": TRIED if chance.random() < share else WAS,
            "slot": "blue",
        }
        if any(abs(at - moment) < 0.025 for moment in failed):
            sample |= {"status": 503, "error": "answered 503", "ms": 1.1}
        found.append(sample)
    return found


def good() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    hosts = [
        host("web1", 1, "good", steps(21.0, GOOD)),
        host("web2", 2, "good", steps(34.4, {**GOOD, "gate": 4.6, "drain": 3.4})),
        host("web3", 3, "good", steps(49.6, GOOD)),
        host("web4", 3, "good", steps(49.7, {**GOOD, "start": 0.9, "drain": 1.2})),
    ]
    for found in hosts:
        gone = (f"GET /links/{{slug}}: field {name} of the 200 answer is gone" for name in ("hits", "owner"))
        found |= {"breaks": list(gone), "breaks_left_out": 3}
        failed = "0.2% of 1840 requests failed, on the old release 0.1% of 10212"
        took = "95 % took up to 41 ms, on the old release 39 ms"
        found |= {"canary": {"word": "good", "sentence": f"{failed}; {took}"}}
    message = f"every host serves release {TRIED}"
    new = [(26.5, 0.25), (40.5, 0.5), (55.2, 1.0)]
    return run("good", message, 66.0, hosts), samples(18.0, 65.5, new)


def reverted() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    cause = "its process ended with exit code 3 (not ready within 60 s)"
    hosts = [
        host("web1", 1, "reverted", steps(21.0, GOOD) + steps(50.4, BACK, revert=True)),
        host("web2", 2, "reverted", steps(34.4, GOOD) + steps(50.5, {**BACK, "drain": 2.6}, revert=True)),
        host("web3", 3, "failed", steps(48.0, {"start": 0.7, "gate": 1.3}), cause=cause, diagnosis=LOG),
        host("web4", 3, "untouched", []),
    ]
    message = f"release {TRIED} was refused (web3: {cause}); every host serves what it served before"
    new = [(26.5, 0.25), (40.0, 0.5), (55.0, 0.0)]
    failed = (40.2, 40.45, 40.5, 55.35)
    return run("reverted", message, 66.0, hosts), samples(18.0, 65.5, new, failed)


def drawing() -> str:
    """The head of the report of a roll that was taken back, as a picture for the documentation."""
    made = report.build(*reverted())
    page = report.render(made)
    start, end = page.index("<header>"), page.index("</section>", page.index("<h2>Timeline")) + len("</section>")
    style = page[page.index("<style>") : page.index("</style>")].replace(
        "main { max-width: 1080px", "main { max-width: 1000px"
    )
    return (
        (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 1050" width="1000" height="1050" role="img">'
            f"<title>{made['app']} {made['release']}: {made['verdict']}</title>"
            '<foreignObject width="1000" height="1050"><body xmlns="http://www.w3.org/1999/xhtml">'
            f"{style}</style><main>{page[start:end]}</main></body></foreignObject></svg>\n"
        )
        .replace("<svg role", '<svg xmlns="http://www.w3.org/2000/svg" role')
        .replace('<svg class="cross"', '<svg xmlns="http://www.w3.org/2000/svg" class="cross"')
    )


if __name__ == "__main__":
    sys.stdout.write(drawing())
