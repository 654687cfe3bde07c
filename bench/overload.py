"""`python3 -m bench.overload` asks an app for four times what it can do, and counts who is answered well in time.

HAProxy runs with the role's own configuration, before Gunicorn on a socket. Each request of the app needs one of a few
connections for a fixed time, as of a pool to a database, so what it can do a second is known. Requests come by a clock,
whether earlier ones were answered or not, each by a connection of its own; a client that has waited for `PATIENCE`
leaves. In the middle of it the edge is looked at as status.yml does. The table is in docs/protection.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - it has the collection found

# isort: split
from ansible_collections.slipway.fleet.plugins.module_utils.edge.overload import overload

from tests.templates.test_haproxy import Edge, app, wait_for

POOL, SERVICE = 5, 0.1  # connections that the app has, and seconds for which a request needs one
CAPACITY = POOL / SERVICE  # requests a second
PATIENCE = 5.0  # seconds
APP = f"""
import asyncio
from fastapi import FastAPI, Request
app, pool = FastAPI(), asyncio.Semaphore({POOL})

@app.get("/readyz")
async def ready():
    return {{}}

@app.get("/busy")
async def busy():
    async with pool:
        await asyncio.sleep({SERVICE})
    return {{"text": "x" * 2000}}
"""


@dataclass(frozen=True)
class Found:
    """Of one load: answers a second that were good and in time, their times in ms, and the shares of the others."""

    good: float
    median: float
    late: float
    refused: float
    gave_up: float


@contextmanager
def serving(directory: Path, **of_the_app: Any) -> Iterator[Edge]:
    """An edge before the app in its blue slot."""
    (directory / "overloaded.py").write_text(APP)
    entry = app(directory, **of_the_app)
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker", "--workers", "1",
         "--bind", f"unix:{entry['slots']['blue']}", "--backlog", "2048",
         # What waits in it is nobody's when the load has ended.
         "--graceful-timeout", "1", "--log-level", "error", "overloaded:app"],
        cwd=directory, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    edge = Edge(directory, haproxy_apps=[entry])
    try:
        edge.start()
        wait_for(lambda: edge.get("/busy")[0].status == 200, 30)
        yield edge
    finally:
        edge.stop()
        server.terminate()
        server.wait(30)


async def asked(port: int, path: str = "/busy") -> tuple[int, float]:
    """Status and seconds of one request; 0 where the client has left before, or got no whole answer."""
    began = time.monotonic()
    status = 0
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(
                    f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n".encode()
                )
                first = (await reader.readline()).split()
                await reader.read()
                status = int(first[1]) if first else 0
            finally:
                writer.close()
    except (TimeoutError, ConnectionError):
        pass
    return status, time.monotonic() - began


async def load(port: int, rate: float, seconds: float) -> Found:
    """Requests by the clock; the first three seconds, in which queues fill, do not count."""
    warm, began = 3.0, time.monotonic()
    asking: list[tuple[float, asyncio.Task[tuple[int, float]]]] = []
    for number in range(int(rate * (seconds + warm))):
        due = number / rate
        if (early := began + due - time.monotonic()) > 0:
            await asyncio.sleep(early)
        asking.append((due, asyncio.create_task(asked(port))))
    answers = [(due, await task) for due, task in asking]
    counted = [answer for due, answer in answers if due >= warm]
    good = sorted(took for status, took in counted if status == 200) or [float("nan")]
    return Found(
        good=sum(status == 200 for status, _ in counted) / seconds,
        median=statistics.median(good) * 1000,
        late=good[int(len(good) * 0.99)] * 1000,
        refused=sum(status == 503 for status, _ in counted) / len(counted),
        gave_up=sum(status == 0 for status, _ in counted) / len(counted),
    )


def told(edge: Edge, after: float) -> int:
    """The number that status names then; 0 where it tells of no overload."""
    time.sleep(after)
    return int(overload(edge.ask, "app_links").get("number", 0))


def measured(rate: float, seconds: float, **of_the_app: Any) -> tuple[Found, int]:
    with (
        tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory,
        serving(Path(directory), **of_the_app) as edge,
        ThreadPoolExecutor(1) as pool,
    ):
        # What was before, so that there is something usual.
        asyncio.run(load(edge.port, CAPACITY / 2, 3))
        number = pool.submit(told, edge, seconds * 0.7)
        return asyncio.run(load(edge.port, rate, seconds)), number.result()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.overload", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="of each load that count")
    parser.add_argument("--times", type=float, nargs="+", default=[0.95, 4], help="what is asked for, of the capacity")
    options = parser.parse_args(arguments)
    rows: dict[str, dict[str, Any]] = {
        "no limit": {},
        f"`fastapi_app_max_connections: {POOL}`": {"max_connections": POOL},
        f"`fastapi_app_max_connections: {2 * POOL}`": {"max_connections": 2 * POOL},
        f"`fastapi_app_max_connections: {POOL}`, `fastapi_app_max_wait: 10`": {"max_connections": POOL, "max_wait": 10},
    }
    print("| the edge has | asked for | answered well | p50 | p99 | 503 | client left | told |", flush=True)
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name, of_the_app in rows.items():
        for times in options.times:
            found, number = measured(times * CAPACITY, options.seconds, **of_the_app)
            print(
                f"| {name} | {times * CAPACITY:.0f}/s | {found.good:.0f}/s | {found.median:.0f} ms "
                f"| {found.late:.0f} ms | {found.refused:.0%} | {found.gave_up:.0%} | {number or '-'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
