#!/usr/bin/env python3
"""Sends a steady, mixed load to the app and counts what fails; afterwards every acknowledged POST is read back.

    python molecule/shared/load.py --url http://127.0.0.1:8081 --for-command ansible-playbook -i inventories/lab ...
    python molecule/shared/load.py --url http://127.0.0.1:8081 --seconds 30 --report load.json

It runs while a command runs, until a file appears, until SIGTERM or SIGINT, or for a time. Failed is whatever a user
would have noticed: refused, reset, closed without an answer, truncated, a wrong answer, a timeout, every 4xx and 5xx.
Nothing is sent twice. The exit code is 1 when a request failed or the ledger does not add up, else that of the command.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from wire import Address, Answer, Kept, LostError, describe, once

ANSWER_LIMIT = 30.0  # seconds until a request without a complete answer counts as failed
FAILURES_LISTED = 200
RESTART = 1012  # the close code with which a server tells its websockets to come again
PAUSE_AFTER_FAILURE = 0.2  # seconds; a client that is refused does not hammer


@dataclass(frozen=True)
class Mix:
    """How many clients of each kind there are, and how fast they are. Times in seconds."""

    keepalive: int = 3
    fresh: int = 3
    post: int = 3
    slow: int = 3
    stream: int = 1
    websocket: int = 2
    rate: float = 20.0  # requests per second of the keepalive, fresh and post clients together
    think: float = 0.02
    slow_seconds: float = 5.0
    stream_pause: float = 2.0
    websocket_seconds: float = 20.0  # then the client leaves and comes again


@dataclass(frozen=True)
class Until:
    """When to stop. `at_least` holds against `stop`, but not against `at_most` and `seconds`."""

    stop: Callable[[], Awaitable[object]]
    at_least: int = 0  # requests
    at_most: int = 1_000_000  # requests
    seconds: float = 900.0


@dataclass
class Ledger:
    """What was posted: the URL of each link is unique, so one read of all links shows what became of every POST."""

    run: str = field(default_factory=lambda: secrets.token_hex(4))
    acknowledged: dict[str, str] = field(default_factory=dict)  # URL -> slug
    unanswered: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, repr=False)

    @property
    def prefix(self) -> str:
        return f"https://example.com/load/{self.run}/"

    def next(self) -> str:
        return f"{self.prefix}{next(self._numbers)}"

    def check(self, stored: Sequence[tuple[str, str]]) -> dict[str, Any]:
        """Compare with all links of the app, as (URL, slug)."""
        mine = [(url, slug) for url, slug in stored if url.startswith(self.prefix)]
        times = Counter(url for url, _ in mine)
        slugs = dict(mine)
        known = self.acknowledged.keys() | set(self.unanswered)
        return {
            "acknowledged": len(self.acknowledged),
            "lost": sorted(url for url in self.acknowledged if url not in times),
            "duplicated": sorted(url for url, count in times.items() if count > 1),
            "changed": sorted(url for url, slug in self.acknowledged.items() if slugs.get(url, slug) != slug),
            "unknown": sorted(times.keys() - known),
            "executed_without_an_answer": sum(url in times for url in self.unanswered),
        }


def ledger_is_right(ledger: dict[str, Any]) -> bool:
    return not any(ledger.get(key) for key in ("lost", "duplicated", "changed", "unknown", "error"))


class Record:
    """What happened, kind by kind."""

    def __init__(self, seen: Path | None = None) -> None:
        """With a file, the id of each release goes there when it first answers."""
        self._seen = seen
        self.started = time.monotonic()
        self.clock = datetime.now(UTC)
        self.failures: list[dict[str, Any]] = []
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self.websocket = {"messages": 0, "told_to_come_again": 0}
        self._latencies: dict[str, list[float]] = {}
        self._failed: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return sum(map(len, self._latencies.values()))

    def done(self, kind: str, began: float) -> None:
        self._latencies.setdefault(kind, []).append(time.monotonic() - began)

    def failed(self, kind: str, began: float, detail: str) -> None:
        self.done(kind, began)
        self._failed[kind] += 1
        self.failures.append({"at": self._at(), "kind": kind, "detail": detail, "sent": round(began - self.started, 3)})

    def version(self, answer: dict[str, Any]) -> None:
        """Note which release answered, and when for the first and the last time."""
        key = (str(answer.get("release")), str(answer.get("slot")))
        if key not in self.versions and self._seen:
            with self._seen.open("a", encoding="utf-8") as stream:
                stream.write(f"{key[0]}\n")
        seen = self.versions.setdefault(key, {"release": key[0], "slot": key[1], "first": self._at(), "answers": 0})
        seen["last"] = self._at()
        seen["answers"] += 1

    def _at(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def report(self) -> dict[str, Any]:
        kinds = {}
        for kind, seconds in sorted(self._latencies.items()):
            ordered = sorted(seconds)
            kinds[kind] = {
                "total": len(ordered),
                "failed": self._failed[kind],
                "p50_ms": milliseconds(ordered, 0.5),
                "p99_ms": milliseconds(ordered, 0.99),
                "max_ms": milliseconds(ordered, 1.0),
            }
        return {
            "started": self.clock.isoformat(timespec="seconds"),
            "seconds": self._at(),
            "total": self.total,
            "failed": len(self.failures),
            "kinds": kinds,
            "failures": self.failures[:FAILURES_LISTED],
            "releases": list(self.versions.values()),
            "websocket": self.websocket,
        }


def milliseconds(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered seconds lie."""
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1)


class WrongAnswerError(Exception):
    """A complete answer that is not the right one."""


class Pace:
    """Spreads requests evenly, however many clients wait."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        self._next = max(self._next, now)
        delay = self._next - now
        self._next += self._interval
        await asyncio.sleep(delay)


class Load:
    """One run. `run` sends until it is to stop, then checks the ledger and returns the report."""

    def __init__(self, url: str, mix: Mix | None = None, seen: Path | None = None) -> None:
        self.address = Address.parse(url)
        self.url = url.rstrip("/")
        self.mix = mix or Mix()
        self.ledger = Ledger()
        self.record = Record(seen)
        self._pace = Pace(self.mix.rate)
        self._stop = asyncio.Event()
        self._at_most = 0

    async def run(self, until: Until) -> dict[str, Any]:
        self._at_most = until.at_most
        clients = (
            (self.mix.keepalive, self._keepalive),
            (self.mix.fresh, self._fresh),
            (self.mix.post, self._post),
            (self.mix.slow, self._slow),
            (self.mix.stream, self._stream),
        )
        sockets = [asyncio.create_task(self._websocket()) for _ in range(self.mix.websocket)]
        watcher = asyncio.create_task(self._watch(until))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._stop.wait())
                for count, client in clients:
                    for _ in range(count):
                        group.create_task(self._repeat(client))
        finally:
            self._stop.set()
            for task in (watcher, *sockets):
                task.cancel()
            problems = await asyncio.gather(watcher, *sockets, return_exceptions=True)
        for problem in problems:
            if isinstance(problem, Exception):
                raise problem
        report = {"url": self.url, "mix": asdict(self.mix)} | self.record.report()
        report["ledger"] = await self._check()
        report["enough"] = self.record.total >= until.at_least
        return report

    async def _watch(self, until: Until) -> None:
        """Set the stop mark when the time has come. An error of `stop` ends the run and is raised at its end."""
        try:
            async with asyncio.timeout(until.seconds):
                await until.stop()
                while self.record.total < until.at_least:  # noqa: ASYNC110 - a look at ten numbers, ten times a second
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pass
        finally:
            self._stop.set()

    async def _repeat(self, client: Callable[[Kept], Awaitable[bool]]) -> None:
        """One client: a request, a pause, the next request. A client that fails goes on."""
        kept = Kept(self.address)
        try:
            while not self._stop.is_set():
                right = await client(kept)
                if self.record.total >= self._at_most:
                    self._stop.set()
                await asyncio.sleep(self.mix.think if right else PAUSE_AFTER_FAILURE)
        finally:
            await kept.close()

    async def _send(
        self,
        kind: str,
        request: Callable[[], Awaitable[Answer]],
        check: Callable[[Answer], None] = lambda _: None,
        limit: float = ANSWER_LIMIT,
    ) -> bool:
        """Count one request; true when its answer was right."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit):
                answer = await request()
            expect_success(answer)
            check(answer)
        except (LostError, WrongAnswerError) as error:
            self.record.failed(kind, began, str(error))
        except (ValueError, KeyError, TypeError) as error:
            self.record.failed(kind, began, f"not the expected JSON: {error!r}")
        except TimeoutError:
            self.record.failed(kind, began, f"no complete answer in {limit:.0f} s")
        else:
            self.record.done(kind, began)
            return True
        return False

    def _reading(self) -> tuple[str, Callable[[Answer], None]]:
        """A path to read, with the check of its answer: the version, or one of the links that were acknowledged."""
        urls = list(self.ledger.acknowledged)
        if secrets.randbelow(2) or not urls:
            return "/version", lambda answer: self.record.version(answer.json())
        url = secrets.choice(urls)
        slug = self.ledger.acknowledged[url]
        if secrets.randbelow(2):
            return f"/{slug}", lambda answer: expect("Location", answer.headers.get("location"), url)
        return f"/links/{slug}", lambda answer: expect("url", answer.json()["url"], url)

    async def _keepalive(self, kept: Kept) -> bool:
        await self._pace.wait()
        path, check = self._reading()
        return await self._send("keepalive", lambda: kept.request("GET", path), check)

    async def _fresh(self, _: Kept) -> bool:
        await self._pace.wait()
        path, check = self._reading()
        return await self._send("fresh", lambda: once(self.address, "GET", path), check)

    async def _post(self, kept: Kept) -> bool:
        """Create a link with an id of its own; none is sent twice."""
        await self._pace.wait()
        url = self.ledger.next()
        headers = {"Content-Type": "application/json", "Idempotency-Key": url.rpartition("load/")[2]}
        body = json.dumps({"url": url}).encode()

        def acknowledge(answer: Answer) -> None:
            expect("url", answer.json()["url"], url)
            self.ledger.acknowledged[url] = answer.json()["slug"]

        if await self._send("post", lambda: kept.request("POST", "/links", headers, body), acknowledge):
            return True
        self.ledger.unanswered.append(url)
        return False

    async def _slow(self, _: Kept) -> bool:
        seconds = self.mix.slow_seconds
        path = f"/slow?seconds={seconds:g}"
        return await self._send("slow", lambda: once(self.address, "GET", path), limit=seconds + ANSWER_LIMIT)

    async def _stream(self, _: Kept) -> bool:
        """Read all links; those that were acknowledged before must all be among them."""
        before = dict(self.ledger.acknowledged)

        def complete(answer: Answer) -> None:
            there = {slug for _, slug in links(answer.body)}
            missing = [url for url, slug in before.items() if slug not in there]
            expect("an acknowledged link in the export", missing[:1], [])

        result = await self._send("stream", lambda: once(self.address, "GET", "/links/export"), complete)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), self.mix.stream_pause)
        return result

    async def _websocket(self) -> None:
        """Listen, leave after a while and come again; at once when the server says so."""
        address = self.url.replace("http", "ws", 1) + "/live"
        while not self._stop.is_set():
            began, opened = time.monotonic(), False
            try:
                async with (
                    asyncio.timeout(None) as stay,
                    connect(address, open_timeout=ANSWER_LIMIT, close_timeout=5, proxy=None) as connection,
                ):
                    opened = True
                    stay.reschedule(asyncio.get_running_loop().time() + self.mix.websocket_seconds)
                    while True:
                        await connection.recv()
                        self.record.websocket["messages"] += 1
            except TimeoutError:
                if opened:
                    self.record.done("websocket", began)
                else:
                    self.record.failed("websocket", began, f"no handshake in {ANSWER_LIMIT:.0f} s")
            except ConnectionClosed as error:
                code = error.rcvd.code if error.rcvd else 1006
                if code == RESTART:
                    self.record.websocket["told_to_come_again"] += 1
                    self.record.done("websocket", began)
                else:
                    self.record.failed("websocket", began, f"closed with {code}")
                    await asyncio.sleep(PAUSE_AFTER_FAILURE)
            except (OSError, EOFError, InvalidHandshake, InvalidMessage) as error:
                self.record.failed("websocket", began, f"no handshake: {describe(error)}")
                await asyncio.sleep(PAUSE_AFTER_FAILURE)
            except asyncio.CancelledError:
                self.record.done("websocket", began)
                raise

    async def _check(self) -> dict[str, Any]:
        """Read every link back: once from the list of all, and once by its own address."""
        try:
            async with asyncio.timeout(300):
                result = self.ledger.check(links((await once(self.address, "GET", "/links/export")).body))
                result["unreadable"] = await self._unreadable()
        except (LostError, ValueError, KeyError, TypeError, TimeoutError) as error:
            return {"acknowledged": len(self.ledger.acknowledged), "error": f"could not be read back: {error!r}"}
        result["lost"] = sorted({*result["lost"], *result.pop("unreadable")})
        return result

    async def _unreadable(self) -> list[str]:
        """Links whose own address does not give them back, eight looks at a time."""
        gate = asyncio.Semaphore(8)

        async def readable(url: str, slug: str) -> bool:
            async with gate:
                answer = await once(self.address, "GET", f"/links/{slug}")
            return answer.status == 200 and answer.json()["url"] == url

        items = list(self.ledger.acknowledged.items())
        found = await asyncio.gather(*(readable(*item) for item in items))
        return [url for (url, _), there in zip(items, found, strict=True) if not there]


def expect_success(answer: Answer) -> None:
    if not answer.ok:
        raise WrongAnswerError(f"{answer.status} {answer.body[:120].decode(errors='replace')!r}")


def expect(name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise WrongAnswerError(f"{name} is {found!r}, not {wanted!r}")


def links(body: bytes) -> list[tuple[str, str]]:
    """(URL, slug) of each line of the export. Raises ValueError, KeyError or TypeError for what is not one."""
    rows = [json.loads(line) for line in body.splitlines() if line]
    return [(row["url"], row["slug"]) for row in rows]


def passed(report: dict[str, Any]) -> bool:
    return not report["failed"] and bool(report["enough"]) and ledger_is_right(report["ledger"])


def table(report: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{'kind':<10} {'total':>7} {'failed':>7} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}"]
    for kind, row in report["kinds"].items():
        figures = " ".join(f"{row[key]:>8.0f}" for key in ("p50_ms", "p99_ms", "max_ms"))
        lines.append(f"{kind:<10} {row['total']:>7} {row['failed']:>7} {figures}")
    lines += [f"  at {f['at']:.1f} s, {f['kind']}: {f['detail']}" for f in report["failures"][:20]]
    ledger = report["ledger"]
    problems = {key: value for key, value in ledger.items() if value and key != "acknowledged"}
    lines.append(f"releases seen: {', '.join(seen['release'] for seen in report['releases']) or 'none'}")
    lines.append(f"{ledger['acknowledged']} acknowledged POSTs read back: {problems or 'all there, each once'}")
    lines.append(f"{report['failed']} failed of {report['total']} requests in {report['seconds']:.0f} s")
    return "\n".join(lines)


async def file_appears(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it, and the look takes microseconds
        await asyncio.sleep(0.1)


async def main(arguments: argparse.Namespace) -> int:
    """Run the load for the command line's arguments and return the exit code."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    command_code = 0

    async def stop() -> None:
        nonlocal command_code
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(ended.wait())]
        if arguments.stop_file:
            waits.append(asyncio.create_task(file_appears(arguments.stop_file)))
        process = None
        if arguments.for_command:
            process = await asyncio.create_subprocess_exec(*arguments.for_command)
            waits.append(asyncio.create_task(process.wait()))
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if process:
            command_code = process.returncode if process.returncode is not None else 128 + signal.SIGTERM
        for task in waits:
            task.cancel()

    names = [name for name in asdict(Mix()) if getattr(arguments, name) is not None]
    load = Load(arguments.url, Mix(**{name: getattr(arguments, name) for name in names}), arguments.seen)
    report = await load.run(Until(stop, arguments.at_least, arguments.at_most, arguments.seconds))
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report), flush=True)
    return command_code if passed(report) else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="http://HOST:PORT of the edge or of the app")
    parser.add_argument("--report", type=Path, help="write the figures there as JSON")
    parser.add_argument("--seen", type=Path, help="write the id of each release there when it first answers")
    parser.add_argument("--stop-file", type=Path, help="stop when this file appears")
    parser.add_argument("--seconds", type=float, default=Until.seconds, help="stop after this time, whatever happens")
    parser.add_argument("--at-least", type=int, default=0, help="go on until so many requests were sent")
    parser.add_argument("--at-most", type=int, default=Until.at_most, help="stop after so many requests")
    for name, default in asdict(Mix()).items():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), metavar="N", help=f"default {default}")
    parser.add_argument("--for-command", nargs=argparse.REMAINDER, help="run while this command runs; must come last")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parse())))
