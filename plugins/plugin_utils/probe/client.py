# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Steady requests to the edges while a release rolls, each one written down; then their figures.

As a program it reads its settings as JSON from stdin and sends until SIGTERM, its limit, or the end of the processes
that it watches. It needs nothing but Python, so that starting it costs little. Nothing is sent twice and no redirect
is followed: a failure is whatever a user would have noticed.

Good is an answer of the app with 2xx. An app that does not know the path (3xx, 4xx) is asked for those that the
releases before it knew, where there are any: while a release that changes its path rolls, both are right. Whose an
answer is, the edge says in a header of the answer where the request has one that asks for it (role haproxy):
`app SLOT`, `edge`, or `edge maintenance`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import select
import signal
import ssl
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional
from urllib.parse import SplitResult, urlsplit

LONGEST_HEAD = 1 << 16  # bytes
LONGEST_BODY = 1 << 23  # bytes
MOST_SAMPLES = 200_000
MOST_RATE = 200.0  # requests a second; this is a measurement, not a load test
FAILURES_TOLD = 20
NO_BODY = frozenset({204, 304})
# The header that asks an edge to say whose an answer is, and the one that says it.
ASK, SAID = "X-Slipway-Probe", "X-Slipway-Answer"
GIVERS = APP, EDGE, NOBODY = "app", "edge", "nobody"
MAINTENANCE = "the maintenance page"

BLANKS = frozenset(" \r\n")

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Settings:
    """What to send where. Times in seconds, rate in requests a second over all URLs.

    `names` has for a URL the name to ask for instead of `host_header` or its own, `trusted` certificates (PEM) that are
    believed beside those of `ca_file` or the controller, whether or not they are authorities. `earlier` are paths that
    releases know which do not know `path`.
    """

    urls: Sequence[str]
    samples: str
    path: str = "/version"
    earlier: Sequence[str] = ()
    host_header: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    ca_file: str = ""
    trusted: Mapping[str, str] = field(default_factory=dict)
    verify: bool = True
    rate: float = 10.0
    timeout: float = 5.0
    limit: float = 3600.0
    watch: Sequence[tuple[int, str]] = ()  # processes by id and start; the probe ends when one of them has

    def targets(self) -> list[Target]:
        """Raises ValueError or OSError, with what to mend."""
        if not 0 < self.rate <= MOST_RATE:
            raise ValueError(f"rate must be above 0 and at most {MOST_RATE:g} requests a second, not {self.rate:g}")
        if not self.urls:
            raise ValueError("urls names no edge to ask")
        words = "".join([self.path, *self.earlier, self.host_header, *self.names.values()])
        if not all(path.startswith("/") for path in (self.path, *self.earlier)) or set(words) & BLANKS:
            raise ValueError(f"path {self.path!r} must begin with / and, like host_header, have no spaces")
        return [Target.parse(url, self) for url in self.urls]


@dataclass(frozen=True)
class Target:
    """One edge."""

    host: str
    port: int
    host_header: str
    context: Optional[ssl.SSLContext] = None

    @classmethod
    def parse(cls, url: str, settings: Settings) -> Target:
        """Raises ValueError, which names the URL, and OSError for a CA file that cannot be read."""
        parts = _split(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or parts.username:
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT or https://HOST:PORT")
        context = _context(settings, settings.trusted.get(url, "")) if parts.scheme == "https" else None
        port = parts.port or (443 if context else 80)
        # A zone (fe80::1%eth0) means something on this machine alone (RFC 6874).
        own = re.sub(r"%[^\]]*", "", parts.netloc)
        return cls(parts.hostname, port, settings.names.get(url) or settings.host_header or own, context)

    @property
    def name(self) -> str:
        """The name that a certificate must have."""
        return urlsplit(f"//{self.host_header}").hostname or self.host


def _split(url: str) -> SplitResult:
    """The parts of a URL, none for what has the form of none."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else SplitResult("", "", "", "", "")
    except ValueError:
        return SplitResult("", "", "", "", "")


def _context(settings: Settings, trusted: str) -> ssl.SSLContext:
    """Raises OSError for a CA file that cannot be read, and ValueError for certificates that are none."""
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if trusted:
        # What the inventory gives the edge is right as it is: the authority above it may be a private one.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(cadata=trusted)
        except ssl.SSLError as error:
            raise ValueError(f"the certificate that the inventory gives the edge cannot be read: {error}") from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Lost(Exception):
    """No complete answer came; the text says what happened instead."""


class Connection:
    """One connection with one request at a time on it."""

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer
        self._busy = False

    @classmethod
    async def open(cls, target: Target) -> Connection:
        name = target.name if target.context else None
        streams = await asyncio.open_connection(
            target.host, target.port, ssl=target.context, server_hostname=name, limit=LONGEST_HEAD
        )
        return cls(target, *streams)

    @property
    def reusable(self) -> bool:
        """Whether the other side still holds the connection open and has sent nothing unasked."""
        if self._busy or self._reader.at_eof() or self._writer.is_closing():
            return False
        if self._target.context:
            return True  # what waits on the socket may be a session ticket; its end is seen by at_eof
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def get(self, path: str, keep: bool) -> tuple[int, Mapping[str, str], bytes]:
        """Status, header fields by their names in lower case, and body. Raises Lost, OSError and ValueError."""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {self._target.host_header}",
            "User-Agent: slipway-probe",
            "Accept: */*",
            f"{ASK}: 1",
        ]
        lines += [] if keep else ["Connection: close"]
        self._busy = True  # until the whole answer is here
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        await self._writer.drain()
        started = False
        try:
            status, fields = await self._head()
            started = True
            body, whole = await self._body(status, fields)
        except asyncio.IncompleteReadError as error:
            raise Lost(
                "the answer was truncated" if started or error.partial else "closed without an answer"
            ) from error
        except asyncio.LimitOverrunError as error:
            raise Lost("the head of the answer is too long") from error
        self._busy = not keep or not whole or fields.get("connection", "").lower() == "close"
        return status, fields, body

    async def _head(self) -> tuple[int, dict[str, str]]:
        status = 100
        fields: dict[str, str] = {}
        while status < 200:
            first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            status = _status(first)
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return status, fields

    async def _body(self, status: int, fields: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether its end was told by something else than the end of the connection."""
        if status in NO_BODY:
            return b"", True
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks(), True
        if "content-length" in fields:
            return await self._reader.readexactly(_within(int(fields["content-length"]))), True
        body = await self._reader.read(LONGEST_BODY + 1)
        while more := await self._reader.read(_within(LONGEST_BODY - len(body)) + 1):
            body += more
        return body, False

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16)
            content = await self._reader.readexactly(_within(size + len(body)) - len(body) + 2)
            if not size:
                return body
            body += content[:-2]

    def close(self) -> None:
        self._busy = True
        self._writer.close()

    def abort(self) -> None:
        """Close it without a last word of TLS, which nobody waits for."""
        self._busy = True
        self._writer.transport.abort()


def _status(line: str) -> int:
    words = line.split(" ", 2)
    if not words[0].startswith("HTTP/") or len(words) < 2 or not words[1].isdigit():
        raise Lost("the answer is not HTTP")
    return int(words[1])


def _within(size: int) -> int:
    if not 0 <= size <= LONGEST_BODY:
        raise Lost("the answer is too large for a probe; choose a smaller path")
    return size


def describe(error: BaseException) -> str:
    """What happened to a request, in a word or two that are the same for the same cause."""
    known: tuple[tuple[type[BaseException], str], ...] = (
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (asyncio.TimeoutError, "timeout"),
        (TimeoutError, "timeout"),
    )
    if isinstance(error, Lost):
        return str(error)
    return next((word for kind, word in known if isinstance(error, kind)), f"{type(error).__name__}: {error}"[:200])


def answered(status: int, fields: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What an answer adds to a sample: `by` whom it is, `error` where it is no good one, and who says to have given it.

    An edge that says nothing is one from before it could, or somebody else's. What an edge answers by itself is hardly
    ever 2xx, so that is the app's then, and all else is not.
    """
    said = fields.get(SAID.lower(), "").split()
    by = (APP if 200 <= status < 300 else EDGE) if not said else APP if said[0] == APP else EDGE
    found: dict[str, Any] = {"status": status, "by": by}
    if said == [EDGE, "maintenance"]:
        found["error"] = f"answered {status}, {MAINTENANCE}"
    elif by == EDGE and said:
        found["error"] = f"answered {status} by the edge"
    elif not 200 <= status < 300:
        found["error"] = f"answered {status}"
    if by == APP and said[1:]:
        found["slot"] = said[1][:80]
    return {**found, **told(body)}


def told(body: bytes) -> dict[str, str]:
    """`release` and `slot`, where the body is JSON and names them."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {key: str(content[key])[:80] for key in ("release", "slot") if isinstance(content.get(key), (str, int))}


@dataclass
class Run:
    """One probe at work. `serve` returns why it ended."""

    settings: Settings
    targets: Sequence[Target]
    _idle: dict[Target, list[Connection]] = field(default_factory=dict)
    _lines: list[str] = field(default_factory=list)
    _count: int = 0
    _ended: str = ""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, why: str) -> None:
        self._ended = self._ended or why
        self._wake.set()

    async def serve(self) -> str:
        loop = asyncio.get_running_loop()
        for wanted in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(wanted, self.end, "stopped")
        tasks: set[asyncio.Task[None]] = set()
        keeper = asyncio.ensure_future(self._keep())
        number = 0
        async for _ in self._ticks():
            task = asyncio.ensure_future(self._ask(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks)
        keeper.cancel()
        self._flush(json.dumps({"ended": self._ended}))
        self._hang_up()
        return self._ended

    def _hang_up(self) -> None:
        for connection in (one for idle in self._idle.values() for one in idle):
            connection.abort()

    async def _ticks(self) -> AsyncIterator[None]:
        """Even times, whatever the answers take: a slow edge must not be asked less often."""
        began = time.monotonic()
        number = 0
        while not self._ended:
            yield
            number += 1
            due = began + number / self.settings.rate
            if time.monotonic() > due + 1:  # this machine slept; what was missed is not sent all at once
                began += time.monotonic() - due
                due = time.monotonic()
            if due - began > self.settings.limit or number >= MOST_SAMPLES:
                self.end("limit")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(due - time.monotonic(), 0))

    async def _keep(self) -> None:
        """Once a second: write what there is, and look whether anybody still wants it."""
        while True:
            await asyncio.sleep(1)
            self._flush()
            if not all(alive(pid, since) for pid, since in self.settings.watch):
                self.end("the run is gone")

    def _flush(self, *more: str) -> None:
        lines, self._lines = [*self._lines, *more], []
        if lines:
            with open(self.settings.samples, "a", encoding="utf-8") as file:
                file.write("".join(f"{line}\n" for line in lines))

    async def once(self) -> list[Sample]:
        """What one request to each edge comes to, written down nowhere."""
        samples = await asyncio.gather(*(self._sample(number) for number in range(len(self.targets))))
        self._hang_up()
        return list(samples)

    async def _ask(self, number: int) -> None:
        """Send one request and write down what became of it."""
        sample = await self._sample(number)
        self._lines.append(json.dumps(sample))

    async def _sample(self, number: int) -> Sample:
        """What a request comes to; every URL is asked in both ways."""
        which = number % len(self.targets)
        keep = number // len(self.targets) % 2 == 0
        sample: dict[str, Any] = {"start": round(time.time(), 3), "url": which, "kept": keep}
        began = time.monotonic()
        try:
            sample |= await asyncio.wait_for(self._answer(self.targets[which], keep), self.settings.timeout)
        except (OSError, ValueError, Lost, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            sample |= {"by": NOBODY, "error": describe(error)}
        sample["ms"] = round((time.monotonic() - began) * 1000, 2)
        return sample

    async def _answer(self, target: Target, keep: bool) -> dict[str, Any]:
        """What `answered` says of the first path that the app knows, and where it knows none, of the first."""
        first = found = answered(*await self._get(target, self.settings.path, keep))
        for path in self.settings.earlier:
            if found["by"] != APP or not 300 <= found["status"] < 500:
                break
            found = answered(*await self._get(target, path, keep))
        return first if found["by"] == APP and 300 <= found["status"] < 500 else found

    async def _get(self, target: Target, path: str, keep: bool) -> tuple[int, Mapping[str, str], bytes]:
        connection = self._taken(target) if keep else None
        connection = connection or await Connection.open(target)
        try:
            return await connection.get(path, keep)
        finally:
            if connection.reusable:
                self._idle.setdefault(target, []).append(connection)
            else:
                connection.close()

    def _taken(self, target: Target) -> Optional[Connection]:
        """A kept connection; one that the server has closed while it was idle is no failure, as in any client."""
        idle = self._idle.get(target, [])
        while idle:
            connection = idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None


def started(pid: int) -> str:
    """When a process started, in clock ticks since boot: with the id it names a process for good.

    Empty for one that has ended, and where there is no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]


def alive(pid: int, since: str) -> bool:
    """Whether the process with this id and start is still there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return started(pid) == since


def read_samples(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The samples of a probe in the order in which they were sent, and why it ended; a cut line is left out."""
    samples: list[dict[str, Any]] = []
    ended = ""
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and "ended" in entry:
                ended = str(entry["ended"])
            elif isinstance(entry, dict) and isinstance(entry.get("start"), (int, float)):
                samples.append(entry)
    return sorted(samples, key=lambda sample: float(sample["start"])), ended


def counted(samples: Sequence[Sample], served: Collection[int] = ()) -> tuple[list[Sample], list[Sample]]:
    """Samples before anything was served that could fail, and those that count.

    The first are those of an edge before its first good answer. There are none of an edge that served before (`served`:
    by its place among the URLs), and none of one that gave no good answer at all.
    """
    first: dict[Any, float] = {}
    for sample in samples:
        if not sample.get("error"):
            first.setdefault(sample.get("url"), sample["start"])
    before: list[Sample] = []
    counting: list[Sample] = []
    for sample in samples:
        url = sample.get("url")
        early = url not in served and sample.get("error") and sample["start"] < first.get(url, sample["start"])
        (before if early else counting).append(sample)
    return before, counting


def giver(sample: Sample) -> str:
    """Whose answer a sample is, also where the probe did not write it down."""
    if (said := sample.get("by")) in GIVERS:
        return str(said)
    return APP if not sample.get("error") else EDGE if sample.get("status") else NOBODY


def percentile(ordered: Sequence[float], share: float) -> Optional[float]:
    """The smallest value that at least `share` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        return None
    return round(ordered[max(math.ceil(len(ordered) * share) - 1, 0)], 1)


def latency(samples: Iterable[Sample]) -> dict[str, Optional[float]]:
    """Percentiles in milliseconds over the requests that were answered well."""
    ordered = sorted(float(sample.get("ms") or 0) for sample in samples if not sample.get("error"))
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
    return {name: percentile(ordered, share) for name, share in shares.items()}


def summarize(samples: Sequence[Sample], served: Collection[int] = ()) -> dict[str, Any]:
    """The figures of samples in the order of their start; `served` as `counted` has it."""
    before, counting = counted(samples, served)
    givers = Counter(giver(sample) for sample in counting)
    failures = [sample for sample in counting if sample.get("error")]
    return {
        "requests": len(counting),
        "failed": len(failures),
        "availability": 1 - len(failures) / len(counting) if counting else None,
        "before_first_answer": len(before),
        "answered_by": {by: givers[by] for by in GIVERS},
        **latency(counting),
        "failures": [
            {"time": sample["start"], "error": str(sample["error"]), "ms": sample.get("ms"), "url": sample.get("url")}
            for sample in failures[:FAILURES_TOLD]
        ],
    }


def silent(samples: Sequence[Sample]) -> bool:
    """Whether the app gave no answer at all, though nobody had the edge show a page instead."""
    others = [sample for sample in samples if giver(sample) != APP]
    return len(others) == len(samples) > 0 and not all(MAINTENANCE in str(sample.get("error")) for sample in others)


def main() -> int:
    """Run the probe that stdin describes."""
    settings = Settings(**json.load(sys.stdin))

    async def serve() -> None:
        await Run(settings, settings.targets()).serve()

    asyncio.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
