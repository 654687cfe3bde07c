"""A small HTTP/1.1 client that hides nothing: no retry, no redirect, and an answer that is cut short is an error.

A client for measuring lost requests must not be better than the worst client in the field, with one exception: a kept
connection is looked at before it is used again, as urllib3 and Go's net/http do: a server may close an idle one.

httpx would do but for two things: it takes an answer without a length that ends with its connection for a whole one,
and a request costs it twenty times the processor time, 3.6 ms, which the hosts under test would miss.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

LONGEST_LINE = 1 << 20  # bytes
NO_BODY = frozenset({204, 304})


class LostError(Exception):
    """No complete answer came; the text says what happened instead."""


@dataclass(frozen=True)
class Address:
    """Where an HTTP server is, from a URL without a path."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises ValueError, which names the URL, for anything but http://HOST[:PORT] and https://HOST[:PORT]."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
            raise ValueError(f"{url!r} is not of the form http://HOST:PORT")
        return cls(parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def authority(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 400

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One TCP connection with one request at a time on it."""

    def __init__(self, address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._address = address
        self._reader = reader
        self._writer = writer
        self._closing = False

    @classmethod
    async def open(cls, address: Address, context: ssl.SSLContext | None = None) -> Self:
        """Raises LostError when nobody accepts."""
        try:
            reader, writer = await asyncio.open_connection(
                address.host, address.port, ssl=context if address.scheme == "https" else None, limit=LONGEST_LINE
            )
        except OSError as error:
            raise LostError(describe(error)) from error
        return cls(address, reader, writer)

    @property
    def reusable(self) -> bool:
        """Whether the other side still holds the connection open and has sent nothing unasked."""
        if self._closing or self._reader.at_eof() or self._writer.is_closing():
            return False
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"", *, keep: bool = True
    ) -> Answer:
        """Send a request and read its whole answer. Raises LostError."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._address.authority}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        if not keep:
            lines.append("Connection: close")
        started = False
        self._closing = True  # until the whole answer is here
        try:
            self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await self._writer.drain()
            status, fields = await self._head()
            started = True
            answer = Answer(status, fields, await self._body(method, status, fields))
        except asyncio.IncompleteReadError as error:
            cut = started or error.partial
            raise LostError("the answer was truncated" if cut else "closed without an answer") from error
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            raise LostError(f"{describe(error)}{' inside an answer' if started else ''}") from error
        self._closing = not keep or fields.get("connection", "").lower() == "close"
        return answer

    async def _head(self) -> tuple[int, dict[str, str]]:
        status = 100
        fields: dict[str, str] = {}
        while status < 200:
            first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            status = int(first.split(" ", 2)[1])
            fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
        return status, fields

    async def _body(self, method: str, status: int, fields: Mapping[str, str]) -> bytes:
        if method == "HEAD" or status in NO_BODY:
            return b""
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return await self._chunks()
        if "content-length" in fields:
            return await self._reader.readexactly(int(fields["content-length"]))
        raise ValueError("an answer without a length: nobody can tell whether it is complete")

    async def _chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            line = await self._reader.readuntil(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            content = await self._reader.readexactly(size + 2)
            if not size:
                return b"".join(parts)
            parts.append(content[:-2])

    async def close(self) -> None:
        self._closing = True
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Kept:
    """A client that keeps its connection, and opens another one only between requests."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connection: Connection | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """Raises LostError."""
        if self._connection and not self._connection.reusable:
            await self.close()
        self._connection = self._connection or await Connection.open(self._address)
        return await self._connection.request(method, path, headers, body)

    async def close(self) -> None:
        if self._connection:
            await self._connection.close()
            self._connection = None


async def once(address: Address, method: str, path: str) -> Answer:
    """A request on a connection of its own. Raises LostError."""
    connection = await Connection.open(address)
    try:
        return await connection.request(method, path, keep=False)
    finally:
        await connection.close()


def describe(error: BaseException) -> str:
    """What happened to a request, in a word or two that are the same for the same cause."""
    known = (
        (ConnectionRefusedError, "refused"),
        (ConnectionResetError, "reset"),
        (BrokenPipeError, "reset"),
        (TimeoutError, "timeout"),
    )
    for kind, word in known:
        if isinstance(error, kind):
            return word
    return f"{type(error).__name__}: {error}"
