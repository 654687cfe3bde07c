"""A drill of three hosts, as `drill.yml` would report it: two are proven, and the set of one is damaged.

    PYTHONPATH=.collections python3 -m tests.browser.drills > docs/drill.svg

draws it for the documentation; a test holds the two equal.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.report import drills as report

AT = 1_760_245_800.0
DAY = 86400
# Days since sets that the retention has kept: those of a week, four weeks and six months.
KEPT = (183, 152, 121, 91, 60, 29, 22, 15, 8, 6, 5, 4, 3, 2, 1, 0)
PHASES = {"find": 2.1, "fetch": 38.4, "files": 6.2, "server": 4.9, "fill": 71.0, "rows": 19.3, "release": 11.8}


def at(days: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(AT - days * DAY))


def name(host: str, days: float) -> str:
    return f"{abs(hash_of(f'{host} {days}')):08x}"[:8]


def hash_of(text: str) -> int:
    found = 2166136261
    for letter in text.encode():
        found = (found ^ letter) * 16777619 & 0xFFFFFFFF
    return found


def sets(host: str, size: float, extra: tuple[float, ...] = ()) -> list[dict[str, Any]]:
    """Sets of a database that has grown."""
    found = [
        {
            "set": name(host, days + 0.083),
            "time": at(days + 0.083),
            "bytes": int(size * (1 - days / 400)),
            "reason": "timer",
        }
        for days in KEPT
    ]
    found += [
        {"set": name(host, days), "time": at(days), "bytes": int(size), "reason": "before-a-migration"}
        for days in extra
    ]
    return sorted(found, key=lambda one: str(one["time"]))


def drill(host: str, days: float, of: float, fault: str = "", message: str = "", scale: float = 1.0) -> dict[str, Any]:
    done = {"find": 2.1, "fetch": 31.0} if fault else PHASES
    return {
        "time": at(days),
        "set": name(host, of),
        "fault": fault,
        "message": message,
        "seconds": round(sum(done.values()) * scale, 1),
        "phases": [{"phase": phase, "seconds": round(seconds * scale, 1)} for phase, seconds in done.items()],
    }


def host(name_: str, size: float, told: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    last = next(one for one in reversed(told) if not one["fault"])
    days = next(of for of in KEPT if name(name_, of + 0.083) == last["set"])
    proven = {
        "set": last["set"],
        "time": at(days + 0.083),
        "proven": last["time"],
        "seconds": last["seconds"],
        "bytes": int(size * (1 - days / 400)),
        "rows": 4_210_334,
        "tables": 23,
        "files": 1204,
        "releases": [{"app": "shortlinks", "release": "77aa01bc9d10", "unproven": ""}],
        "unproven": "",
    }
    return {
        "set_up": True,
        "told": {
            "repository": "sftp:backup@backups.example.com:/srv/slipway",
            "proven": {**proven, **more},
            "sets": sets(name_, size, (2.4, 0.9)),
            "drills": told,
            "problems": [],
            "next_drill": "Sun 2025-10-19 04:30:00 UTC",
        },
    }


DAMAGED = (
    "set 5d1c8a20 of 2025-10-12T02:57 is not proven: the repository sftp:backup@backups.example.com:/srv/slipway is "
    "damaged: ciphertext verification failed"
)


# How the drill ended on each host.
DRILLS: dict[str, Any] = {"db1": {}, "db2": {"failed": True, "fault": "damaged", "msg": DAMAGED}, "files1": {}}


def fleet() -> dict[str, Any]:
    """What three hosts told after a drill."""
    weeks = (29, 22, 15, 8)
    of = {
        one: [drill(one, days - 0.917, days + 0.083, scale=scale) for days in weeks]
        for one, scale in (("db1", 1.0), ("db2", 0.62), ("files1", 0.3))
    }
    wrong = [*of["db2"][:-1], drill("db2", 7.1, 8.083), drill("db2", 0.0, 0.083, "damaged", DAMAGED)]
    unproven = {"releases": [], "unproven": "no app runs on this host", "rows": 0}
    made = {
        "db1": host("db1", 2.4e9, [*of["db1"], drill("db1", 0, 0.083)]),
        "db2": host("db2", 1.5e9, wrong),
        "files1": host("files1", 0.7e9, [*of["files1"], drill("files1", 0, 0.083, scale=0.3)], **unproven),
    }
    made["db1"]["told"]["points"] = {"reach": [[at(7.083), at(3.2)], [at(3.083), at(0.001)]]}
    made["db2"]["told"]["points"] = {"reach": [[at(7.083), at(0.001)]]}
    made["db2"]["told"]["problems"] = [f"the last drill failed (damaged): {DAMAGED}"]
    return made


def drawing() -> str:
    """The head of the report, as a picture for the documentation."""
    page = report.render(report.build("fleet", AT, fleet(), DRILLS))
    start, end = page.index("<header>"), page.index("<section>\n<h2>Hosts")
    style = page[page.index("<style>") : page.index("</style>")].replace(
        "main { max-width: 1080px", "main { max-width: 1000px"
    )
    return (
        (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 1130" width="1000" height="1130" role="img">'
            "<title>A drill: two hosts of three are proven</title>"
            '<foreignObject width="1000" height="1130"><body xmlns="http://www.w3.org/1999/xhtml">'
            f"{style}</style><main>{page[start:end]}</main></body></foreignObject></svg>\n"
        )
        .replace("<svg role", '<svg xmlns="http://www.w3.org/2000/svg" role')
        .replace('<svg class="cross"', '<svg xmlns="http://www.w3.org/2000/svg" class="cross"')
    )


if __name__ == "__main__":
    sys.stdout.write(drawing())
