"""`python3 -m bench.backup` asks an app all the while, and compares its latency during a backup with that without.

One host has everything: edge, app (runtime systemd, one worker), database with as many MB of rows as are wanted, and a
repository on the same disk, which is the worst place for it. In each round the app is asked for a while, and then for
as long as the unit of the nightly backup runs, which makes a first set each time, so nothing is saved by what is in the
repository. Points in time are off, so that nothing else writes. Needs Docker and the images of `python3 -m lab images`.
docs/backup.md has the figures.
"""

from __future__ import annotations

import argparse
import http.client
import shlex
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.app_server import new_link
from bench.docker import docker
from bench.fleet import DATA, Bench, network, say

HOST, EDGE = "bench-data", f"http://{DATA}"
VARIABLES = {
    "backup_repository": "/srv/repository",
    "backup_password": "only-for-measurements",
    "backup_wal": False,
    # The timers come when nobody measures.
    "backup_schedule": "*-01-01 00:00:00",
    "backup_drill_schedule": "*-01-01 00:00:00",
}
# About 130 bytes a row, which compress to less than half.
ROWS_PER_MB = 8000
BALLAST = (
    "CREATE TABLE ballast AS SELECT g AS id, md5(g::text) || md5((g + 1)::text) AS words FROM generate_series(1, {}) g"
)
FORGET = "rm -rf /srv/repository /var/lib/slipway/backup/state.json"


@dataclass(frozen=True)
class Sample:
    """Milliseconds of the answers of one stretch of time, and how many seconds it took."""

    p50: float
    p95: float
    answers: int
    seconds: float


def on_host(*words: str) -> str:
    return docker("exec", HOST, *words)


def asked(url: str, rate: float, over: Callable[[], bool]) -> Sample:
    """Ask a page so many times a second until it is over. Raises SystemExit where an answer is none."""
    place, began = urlsplit(url), time.monotonic()
    took: list[float] = []
    connection = http.client.HTTPConnection(place.hostname or "", timeout=60)
    while not over():
        due = began + len(took) / rate
        time.sleep(max(0.0, due - time.monotonic()))
        at = time.monotonic()
        connection.request("GET", place.path)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{url} answered {answer.status}")
        took.append((time.monotonic() - at) * 1000)
    connection.close()
    parts = statistics.quantiles(took, n=20)
    return Sample(statistics.median(took), parts[18], len(took), time.monotonic() - began)


def backed_up(url: str, rate: float) -> Sample:
    """Asked for as long as the nightly backup takes. Raises SystemExit where that fails."""
    on_host("sh", "-c", FORGET)
    ran: list[int] = []
    unit = ["docker", "exec", HOST, "systemctl", "start", "slipway-backup.service"]
    backup = threading.Thread(target=lambda: ran.append(subprocess.run(unit, check=False).returncode))
    backup.start()
    sample = asked(url, rate, lambda: not backup.is_alive())
    if ran != [0]:
        raise SystemExit(on_host("journalctl", "--no-pager", "--lines", "20", "--unit", "slipway-backup"))
    return sample


def spread(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.backup", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--megabytes", type=int, default=2000, help="of rows in the database")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60, help="for which the app is asked without a backup")
    parser.add_argument("--rate", type=float, default=20, help="requests a second")
    options = parser.parse_args(arguments)
    rounds: list[tuple[Sample, Sample]] = []
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        bench = Bench(Path(directory))
        with network(bench):
            say("a host with everything is provisioned and deployed")
            inventory = bench.inventory({HOST: DATA})
            bench.measured(bench.playbook(inventory, "slipway.fleet.site", **VARIABLES))
            say(f"{options.megabytes} MB of rows")
            statement = BALLAST.format(options.megabytes * ROWS_PER_MB)
            on_host(
                "su", "postgres", "-c", f"psql -q shortlinks -c {shlex.quote(statement)} -c 'VACUUM ANALYZE ballast'"
            )
            size = on_host("su", "postgres", "-c", "psql -Atc \"SELECT pg_database_size('shortlinks')\"").strip()
            url = new_link(EDGE)
            on_host("sh", "-c", "su postgres -c 'psql -qc CHECKPOINT' && sync")
            for number in range(1, options.rounds + 1):
                until = time.monotonic() + options.seconds
                without = asked(url, options.rate, lambda until=until: time.monotonic() >= until)  # type: ignore[misc]
                rounds.append((without, backed_up(url, options.rate)))
                say(f"  round {number}: {rounds[-1]}")
    print(f"{int(size) / 1e9:.1f} GB in the database, {options.rate:.0f} requests a second, {len(rounds)} rounds")
    print("| | without | during a backup | ratio of each round, median (least to most) |\n| --- | ---: | ---: | ---: |")
    for name in ("p50", "p95"):
        plain, meanwhile = ([getattr(one, name) for one in some] for some in zip(*rounds, strict=True))
        ratios = [b / a for a, b in zip(plain, meanwhile, strict=True)]
        print(
            f"| {name}, ms | {statistics.median(plain):.1f} | {statistics.median(meanwhile):.1f} | {spread(ratios)} |"
        )
    print(f"a backup took {statistics.median(during.seconds for _, during in rounds):.0f} s")


if __name__ == "__main__":
    main()
