"""`python3 -m bench.app_server` compares numbers and classes of workers under the reference app, in its own image.

Needs Docker on Linux, `wrk`, and the images of `python3 -m lab images`. PostgreSQL, Redis and the app run in containers
on a network of their own. Each round measures every configuration once, so that a noisy moment does not fall on one of
them; the table has medians over the rounds. It is in docs/gunicorn.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench.docker import ROOT, build, docker, environment, first_answer

_PREFIX = "bench-app-server"
_IMAGE = f"{_PREFIX}:latest"
_PASSWORD = "of-this-measurement-only"  # noqa: S105 - opens a container that is removed
_SETTINGS = {
    "DATABASE_URL": f"postgresql+asyncpg://shortlinks@{_PREFIX}-postgres/shortlinks",
    "DATABASE_PASSWORD": _PASSWORD,
    "REDIS_URL": f"redis://{_PREFIX}-redis:6379/0",
    "SECRET_KEY": _PASSWORD,
}
_CONNECTIONS = 32
_HEADER = (
    "| configuration | throughput, small JSON / with a query | CPU per request, small JSON / with a query "
    "| start to first 200 | memory (PSS) |"
)
_REQUESTS = re.compile(r"(\d+) requests in")
_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
_FAULTS = re.compile(r"(Non-2xx.*|Socket errors.*)")
# As the container's user, so that no capability is needed to read it. The shell itself does not count.
_PSS = 'grep -H "^$0:" /proc/[0-9]*/smaps_rollup 2>/dev/null | grep -v "^/proc/$$/"'
_CPU = "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage"


@dataclass(frozen=True)
class Configuration:
    """One row of the table."""

    title: str
    variables: dict[str, str]


@dataclass(frozen=True)
class Sample:
    """What one round found out about a configuration: seconds, MB, requests per second, µs of processor per request."""

    start: float
    memory: float
    small: float
    small_cpu: float
    query: float
    query_cpu: float


def configurations(cpus: int) -> list[Configuration]:
    """The rows; the first one is what the others are compared with."""
    n, more = str(cpus), str(2 * cpus + 1)

    def row(title: str, workers: str, **variables: str) -> Configuration:
        settings = {"GUNICORN_WORKERS": workers, "GUNICORN_ACCESS_LOG": "false", "GUNICORN_PRELOAD": "false"}
        return Configuration(title, settings | {f"GUNICORN_{name}": value for name, value in variables.items()})

    return [
        row("2n + 1 workers with access log, the usual tutorial", more, ACCESS_LOG="true", LOG_FORMAT="text"),
        row("2n + 1 workers", more),
        row("2n + 1 workers, preloaded", more, PRELOAD="true"),
        row("n workers", n),
        row("n workers, preloaded", n, PRELOAD="true"),
        row("n `asgi` workers, preloaded", n, PRELOAD="true", WORKER_CLASS="asgi"),
        row(
            "n workers, preloaded, without uvloop and httptools",
            n,
            PRELOAD="true",
            WORKER_CLASS="uvicorn_worker.UvicornH11Worker",
        ),
    ]


@contextmanager
def container(name: str, *arguments: str) -> Iterator[str]:
    """A container on the measurement's network until the end of the block."""
    name = f"{_PREFIX}-{name}"
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
    try:
        docker("create", "--name", name, "--network", _PREFIX, *arguments)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


@contextmanager
def services(postgres: str, redis: str) -> Iterator[None]:
    """Network, database with schema, and cache."""
    subprocess.run(["docker", "network", "rm", _PREFIX], capture_output=True, check=False)
    docker("network", "create", _PREFIX)
    names = {"POSTGRES_USER": "shortlinks", "POSTGRES_DB": "shortlinks", "POSTGRES_PASSWORD": _PASSWORD}
    try:
        with container("postgres", *environment(names), postgres) as database, container("redis", redis) as cache:
            docker("start", database, cache)
            # Over the network, where it answers only when it is ready for good.
            ready = ["docker", "exec", database, "pg_isready", "--quiet", "--host", database]
            deadline = time.monotonic() + 60
            while subprocess.run(ready, capture_output=True, check=False).returncode:
                if time.monotonic() > deadline:
                    raise SystemExit(f"PostgreSQL did not start:\n{docker('logs', database)}")
                time.sleep(0.2)
            docker("run", "--rm", "--network", _PREFIX, *environment(_SETTINGS), _IMAGE, "alembic", "upgrade", "head")
            yield
    finally:
        docker("network", "rm", _PREFIX)


def processor(name: str) -> float:
    """Seconds that all processes of a container have computed, from its control group (version 1 or 2)."""
    text = docker("exec", name, "sh", "-c", _CPU)
    if match := re.search(r"usage_usec (\d+)", text):
        return int(match[1]) / 1e6
    return int(text) / 1e9


def memory(name: str) -> float:
    """MB of all processes of a container, pages that several share counted once (PSS); RSS where that is refused."""
    for field in ("Pss", "Rss"):
        found = docker("exec", name, "sh", "-c", f"{_PSS} || true", field)
        if sizes := re.findall(r":\s*(\d+) kB", found):
            return sum(map(int, sizes)) * 1024 / 1e6
    raise SystemExit("the memory of the processes cannot be read: the kernel has no smaps_rollup")


def wrk(url: str, seconds: int) -> str:
    """What wrk says after a load."""
    command = ["wrk", "--threads", "1", "--connections", str(_CONNECTIONS), "--duration", f"{seconds}s"]
    command += ["--latency", "--timeout", "30s", url]  # an answer that is late on a busy machine is still one
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def load(name: str, url: str, seconds: int) -> tuple[float, float]:
    """Requests per second, and µs of the container's processor time for each.

    Raises SystemExit with what wrk says when a request failed or none was answered.
    """
    before = processor(name)
    output = wrk(url, seconds)
    used = processor(name) - before
    requests, rate = _REQUESTS.search(output), _RATE.search(output)
    if not requests or not rate or _FAULTS.search(output) or not int(requests[1]):
        raise SystemExit(f"the load on {url} failed:\n{output}")
    return float(rate[1]), used / int(requests[1]) * 1e6


def new_link(base: str) -> str:
    """URL of the statistics of a new link, one query in the database."""
    request = urllib.request.Request(  # noqa: S310 - http, on this machine
        f"{base}/links", b'{"url": "https://example.org/"}', {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        return f"{base}/links/{json.load(answer)['slug']}"


def measure(configuration: Configuration, seconds: int) -> Sample:
    with container("app", *environment(_SETTINGS | configuration.variables), _IMAGE) as name:
        begin = time.monotonic()
        docker("start", name)
        found = json.loads(docker("inspect", name))[0]["NetworkSettings"]["Networks"][_PREFIX]
        base = f"http://{found['IPAddress']}:8000"
        start = first_answer(f"{base}/livez", name, begin)
        link = new_link(base)
        for url in (f"{base}/livez", link):  # so that every worker has its connections and caches
            wrk(url, 1)
        small, small_cpu = load(name, f"{base}/livez", seconds)
        query, query_cpu = load(name, link, seconds)
        return Sample(start, memory(name), small, small_cpu, query, query_cpu)


def table(samples: dict[str, list[Sample]]) -> str:
    """Medians in Markdown; throughput as a ratio to the first row of the same round."""
    first = next(iter(samples.values()))
    lines = [_HEADER, "| --- " * 5 + "|"]
    for title, rounds in samples.items():
        small = statistics.median(ours.small / theirs.small for ours, theirs in zip(rounds, first, strict=True))
        query = statistics.median(ours.query / theirs.query for ours, theirs in zip(rounds, first, strict=True))
        cpu = [statistics.median(getattr(sample, name) for sample in rounds) for name in ("small_cpu", "query_cpu")]
        start = statistics.median(sample.start for sample in rounds)
        size = statistics.median(sample.memory for sample in rounds)
        lines.append(
            f"| {title} | {small:.2f} / {query:.2f} | {cpu[0]:.0f} / {cpu[1]:.0f} µs | {start:.2f} s | {size:.0f} MB |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m bench.app_server", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--base-image", default="slipway.lab/python:3.13")
    parser.add_argument("--postgres-image", default="slipway.lab/postgres:17")
    parser.add_argument("--redis-image", default="slipway.lab/redis:8")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1, help="n of the table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of each of the two loads")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        raise SystemExit("wrk makes the load and is not installed: apt-get install wrk")
    build(ROOT, options.base_image, _IMAGE)
    rows = configurations(options.cpus)
    samples: dict[str, list[Sample]] = {row.title: [] for row in rows}
    with services(options.postgres_image, options.redis_image):
        for number in range(1, options.rounds + 1):
            for row in rows:
                samples[row.title].append(measure(row, options.seconds))
                print(f"round {number}, {row.title}: {samples[row.title][-1]}", file=sys.stderr, flush=True)
    print(table(samples))


if __name__ == "__main__":
    main()
