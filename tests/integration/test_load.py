"""The load generator must be able to fail: each fault of a small server is one that it has to notice."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

SCRIPT = Path(__file__).resolve().parents[2] / "molecule" / "shared" / "load.py"
NO_CLIENTS = [
    part for kind in ("keepalive", "fresh", "post", "slow", "stream", "websocket") for part in (f"--{kind}", "0")
]

ENDLESS = ("--rate", "100", "--at-most", "1000000")


@dataclass
class Shortener:
    """As much of the app as the load needs, with one fault that comes with every third request of a kind."""

    fault: str = ""
    path: str = "/"
    links: list[tuple[str, str]] = field(default_factory=list)
    lengths: bool = True
    close_after_each: bool = False
    _hits: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(length[1])) if length else b""
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                if not await self._serve(writer, method, path, body) or self.close_after_each:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(self, writer: asyncio.StreamWriter, method: str, path: str, body: bytes) -> bool:
        faulty = False
        if self.fault and path.startswith(self.path) and method == ("POST" if self.path == "/links" else "GET"):
            self._hits += 1
            faulty = self._hits % 3 == 0
        status, fields, content = self._answer(method, path, body, self.fault if faulty else "")
        if faulty and self.fault == "503":
            status, content = "503 Service Unavailable", b"nobody is there"
        if faulty and self.fault == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if faulty and self.fault == "close":
            return False
        cut = 1 if faulty and self.fault == "truncate" else len(content)
        head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        if path == "/links/export":
            writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for start in range(0, cut, 1000):
                part = content[start : start + 1000]
                writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            writer.write(b"0\r\n\r\n" if cut == len(content) else b"")
        else:
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:cut])
        await writer.drain()
        return cut == len(content)

    def _answer(self, method: str, path: str, body: bytes, fault: str) -> tuple[str, dict[str, str], bytes]:
        if method == "POST":
            return "201 Created", {}, json.dumps(self._create(json.loads(body)["url"], fault)).encode()
        if path == "/version":
            return "200 OK", {}, b'{"release": "r1", "slot": "blue"}'
        if path == "/links/export":
            rows = [json.dumps({"url": url, "slug": slug}) for url, slug in self.links]
            return "200 OK", {}, "\n".join(rows[1:] if fault == "forget" else rows).encode()
        slug = path.rpartition("/")[2]
        url = next((url for url, known in self.links if known == slug), "")
        if path.startswith("/links/"):
            return "200 OK" if url else "404 Not Found", {}, json.dumps({"url": url, "slug": slug}).encode()
        return "307 Temporary Redirect", {"Location": f"{url}{'x' if fault == 'elsewhere' else ''}"}, b""

    def _create(self, url: str, fault: str) -> dict[str, str]:
        slug = f"s{url.rpartition('/')[2]}"
        if fault != "lose":
            self.links.append((url, slug))
        if fault == "twice":
            self.links.append((url, f"{slug}b"))
        return {"url": url, "slug": slug}


async def run_load(port: int, directory: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, report and output of the command, which runs as a user runs it."""
    report = directory / "report.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), "--url", f"http://127.0.0.1:{port}", "--report", str(report), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 600)
    assert process.returncode is not None
    assert report.exists(), output.decode()
    return process.returncode, json.loads(report.read_text()), output.decode()


async def against(server: Shortener, directory: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        # Ended by requests and not by time, in which a busy machine sends fewer. Enough for some faults of each kind.
        usual = ["--websocket", "0", "--slow-seconds", "0.1", "--stream-pause", "0.02"]
        usual += ["--rate", "400", "--at-most", "300", "--seconds", "300"]
        return await run_load(port, directory, *usual, *arguments)


async def test_nothing_fails_against_a_right_server(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    arguments = ("--at-least", "100", "--rate", "100", "--seen", str(seen))
    code, report, output = await against(Shortener(), tmp_path, *arguments)
    assert code == 0, output
    assert report["failed"] == 0
    assert set(report["kinds"]) == {"keepalive", "fresh", "post", "slow", "stream"}
    assert report["ledger"]["acknowledged"] == report["kinds"]["post"]["total"] > 10
    assert [answered["release"] for answered in report["releases"]] == ["r1"]
    assert seen.read_text() == "r1\n", "once, however often it answers"
    paced = sum(report["kinds"][kind]["total"] for kind in ("keepalive", "fresh", "post"))
    assert paced <= 100 * report["seconds"] + 10, "the rate is an upper bound"
    assert "0 failed of" in output


async def test_a_connection_closed_between_requests_is_not_a_failure(tmp_path: Path) -> None:
    # Time enough to see that it was closed, on a machine with other work as well.
    code, report, output = await against(Shortener(close_after_each=True), tmp_path, "--think", "0.2")
    assert code == 0, output
    assert report["kinds"]["keepalive"]["total"] > 10


@pytest.mark.parametrize(
    ("fault", "path", "kind", "detail"),
    [
        ("reset", "/version", "keepalive", "reset"),
        ("reset", "/links", "post", "reset"),
        ("close", "/version", "fresh", "closed without an answer"),
        ("close", "/slow", "slow", "closed without an answer"),
        ("truncate", "/version", "keepalive", "truncated"),
        ("truncate", "/links/export", "stream", "truncated"),
        ("503", "/version", "fresh", "503 'nobody is there'"),
        ("503", "/links/", "keepalive", "503"),
        ("elsewhere", "/s", "keepalive", "Location is"),
        ("forget", "/links/export", "stream", "acknowledged link"),
    ],
)
async def test_a_fault_is_noticed(fault: str, path: str, kind: str, detail: str, tmp_path: Path) -> None:
    code, report, _ = await against(Shortener(fault=fault, path=path), tmp_path)
    assert code == 1
    assert any(detail in failure["detail"] for failure in report["failures"] if failure["kind"] == kind), report


@pytest.mark.parametrize(("fault", "key"), [("lose", "lost"), ("twice", "duplicated")])
async def test_an_acknowledged_post_that_is_not_there_once_is_noticed(fault: str, key: str, tmp_path: Path) -> None:
    arguments = ("--stream", "0", "--keepalive", "0", "--fresh", "0")
    code, report, _ = await against(Shortener(fault=fault, path="/links"), tmp_path, *arguments)
    assert code == 1
    assert report["failed"] == 0, "only reading back can tell"
    assert report["ledger"][key]


async def test_a_post_executed_without_an_answer_is_told_apart(tmp_path: Path) -> None:
    code, report, _ = await against(Shortener(fault="close", path="/links"), tmp_path)
    assert code == 1
    posts = report["kinds"]["post"]
    assert report["ledger"]["executed_without_an_answer"] == posts["failed"] > 0
    assert report["ledger"]["acknowledged"] == posts["total"] - posts["failed"]
    assert report["ledger"]["lost"] == []


async def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, report, output = await run_load(unused.getsockname()[1], tmp_path, "--seconds", "1")
    assert code == 1
    assert {failure["detail"] for failure in report["failures"]} >= {"refused", "no handshake: refused"}
    assert "could not be read back" in output


async def test_it_runs_as_long_as_a_command_and_ends_with_its_exit_code(tmp_path: Path) -> None:
    code, report, _ = await against(
        Shortener(),
        tmp_path,
        *ENDLESS,
        "--for-command",
        sys.executable,
        "-c",
        "import time; time.sleep(1); exit(7)",
    )
    assert code == 7
    assert 1 <= report["seconds"] < 30


async def test_too_few_requests_are_not_a_pass(tmp_path: Path) -> None:
    code, report, _ = await against(Shortener(), tmp_path, "--at-least", "100000")
    assert code == 1
    assert report["enough"] is False


async def test_a_stop_file_ends_it(tmp_path: Path) -> None:
    mark = tmp_path / "stop"
    mark.touch()
    _, report, _ = await against(Shortener(), tmp_path, *ENDLESS, "--stop-file", str(mark), "--at-least", "20")
    assert report["total"] >= 20
    assert report["seconds"] < 30


def closing(code: int) -> Callable[[ServerConnection], Awaitable[None]]:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("{}")
        await asyncio.sleep(0.2)
        await connection.close(code)

    return handler


@pytest.mark.parametrize(("close_code", "failed"), [(1012, False), (1011, True), (1001, True), (1000, True)])
async def test_a_websocket_may_only_be_told_to_come_again(close_code: int, failed: bool, tmp_path: Path) -> None:
    async with serve(closing(close_code), "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        _, report, _ = await run_load(port, tmp_path, *NO_CLIENTS, "--websocket", "1", "--seconds", "6")
    assert report["websocket"]["messages"] > 0
    assert bool(report["failed"]) is failed
    if failed:
        assert report["failures"][0]["detail"] == f"closed with {close_code}"
    else:
        assert report["websocket"]["told_to_come_again"] > 0
