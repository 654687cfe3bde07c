"""What the benchmark of an overload counts."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from bench.overload import asked


@pytest.mark.parametrize(
    ("answer", "reset", "status"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", False, 200), (b"", False, 0), (b"", True, 0), (b"HTTP/1.1 200 OK\r\n", True, 0)],
)
def test_no_whole_answer_is_none(answer: bytes, reset: bool, status: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async def once() -> int:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            found, _ = await asked(server.sockets[0].getsockname()[1])
            return found

    assert asyncio.run(once()) == status
