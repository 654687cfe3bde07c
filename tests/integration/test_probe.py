"""The probe against a small server that can fail in every way: it must count each failure, once, and invent none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client as probe

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Edge:
    """Answers like an edge. `faults` says what happens to which request, counted from 0."""

    faults: dict[int, str] = field(default_factory=dict)
    body: bytes = b'{"release": "r1", "slot": "blue", "more": [1]}'
    head: str = ""
    # The paths that it knows; all where there are none.
    paths: tuple[str, ...] = ()
    idle_limit: float = 60.0  # seconds until an idle connection is closed
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        await self.start(tls)
        try:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        finally:
            await self.stop()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server
        self._server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.idle_limit)
                self.requests.append(head.decode())
                known = not self.paths or self.requests[-1].split()[1] in self.paths
                if not await self._answer(writer, self.faults.get(len(self.requests) - 1, "" if known else "404")):
                    break
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, fault: str) -> bool:
        """Whether the connection is kept."""
        status = fault if fault.isdigit() else "200"
        length = f"Content-Length: {len(self.body)}\r\n"
        if fault == "slow":
            await asyncio.sleep(60)
        elif fault == "close":
            return False
        elif fault == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        elif fault == "nonsense":
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        elif fault == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode() + self.body[:5])
        elif fault == "half a head":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-")
        elif fault == "until the end":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + self.body)
        elif fault == "huge":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        elif fault == "chunked":
            parts = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (self.body[:7], self.body[7:], b""))
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + parts)
        else:
            writer.write(f"HTTP/1.1 {status} X\r\n{length}{self.head}\r\n".encode() + self.body)
        await writer.drain()
        return fault in {"", "chunked", "slow"} or fault.isdigit()


async def ask(directory: Path, count: int, *urls: str, rate: float = 100.0, **more: Any) -> list[dict[str, Any]]:
    """Send so many requests and give back what was written down."""
    path = directory / "samples.jsonl"
    path.unlink(missing_ok=True)
    settings = probe.Settings(urls=urls, samples=str(path), rate=rate, limit=(count - 0.5) / rate, **more)
    assert await probe.Run(settings, settings.targets()).serve() == "limit"
    samples, ended = probe.read_samples(path)
    assert ended == "limit"
    assert len(samples) == count
    return samples


async def test_all_is_well(tmp_path: Path) -> None:
    edge = Edge()
    async with edge.listening() as url:
        began = time.monotonic()
        samples = await ask(tmp_path, 20, url, host_header="links.example.com")
        took = time.monotonic() - began
    assert len(edge.requests) == 20
    assert {sample["status"] for sample in samples} == {200}
    assert not [sample for sample in samples if "error" in sample]
    assert {(sample["release"], sample["slot"]) for sample in samples} == {("r1", "blue")}
    assert samples[0]["start"] == pytest.approx(time.time(), abs=30)
    assert 0 < samples[0]["ms"] <= took * 1000
    assert {sample["kept"] for sample in samples} == {True, False}
    # every second request has a connection of its own; the others share one, or a few where answers are slow
    fresh = sum(not sample["kept"] for sample in samples)
    assert fresh == 10
    assert fresh < edge.connections <= fresh + at_once([sample for sample in samples if sample["kept"]])
    assert all("\r\nHost: links.example.com\r\n" in head for head in edge.requests)
    assert sum("Connection: close" in head for head in edge.requests) == fresh


def at_once(samples: list[dict[str, Any]]) -> int:
    """The most requests of which none was answered yet, to the thousandth of a second by which they are told."""
    spans = [(sample["start"] - 0.002, sample["start"] + sample["ms"] / 1000 + 0.002) for sample in samples]
    return max(len([1 for begins, ends in spans if begins <= moment <= ends]) for moment, _ in spans)


async def test_urls_take_turns_in_both_ways(tmp_path: Path) -> None:
    one, two = Edge(), Edge()
    async with one.listening() as first, two.listening() as second:
        samples = await ask(tmp_path, 24, first, second)
    seen = [(sample["url"], sample["kept"]) for sample in samples]
    assert abs(len(one.requests) - len(two.requests)) <= 1
    assert all(abs(seen.count(pair) - len(seen) / 4) <= 1 for pair in ((0, True), (0, False), (1, True), (1, False)))


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("503", "answered 503"),
        ("404", "answered 404"),
        ("close", "closed without an answer"),
        ("reset", "reset"),
        ("cut", "the answer was truncated"),
        ("half a head", "the answer was truncated"),
        ("nonsense", "the answer is not HTTP"),
        ("huge", "the answer is too large for a probe; choose a smaller path"),
        ("slow", "timeout"),
        ("302", "answered 302"),
        ("chunked", None),
        ("until the end", None),
    ],
)
async def test_each_fault_is_counted_once(tmp_path: Path, fault: str, error: str | None) -> None:
    edge = Edge(faults={5: fault, 8: fault})
    async with edge.listening() as url:
        # On a busy machine others take a while, too.
        samples = await ask(tmp_path, 16, url, timeout=8.0 if fault == "slow" else 30.0)
    assert len(edge.requests) == 16
    assert [sample["error"] for sample in samples if "error" in sample] == ([error, error] if error else [])
    assert probe.summarize(samples)["failed"] == (2 if error else 0)
    if not error:
        assert {sample["release"] for sample in samples} == {"r1"}


APP = "X-Slipway-Answer: app blue\r\n"


@pytest.mark.parametrize(
    ("said", "knows", "errors"),
    [
        (APP, "/healthz", {None}),
        (APP, "/health", {None}),
        (APP, "/neither", {"answered 404"}),
        ("X-Slipway-Answer: edge\r\n", "/healthz", {"answered 404 by the edge"}),
    ],
)
async def test_a_release_that_has_another_path_is_asked_for_its_own(
    tmp_path: Path, said: str, knows: str, errors: set[str | None]
) -> None:
    edge = Edge(head=said, paths=(knows,))
    async with edge.listening() as url:
        samples = await ask(tmp_path, 12, url, path="/health", earlier=["/healthz"])
    assert {sample.get("error") for sample in samples} == errors


async def test_an_app_that_is_sick_is_not_asked_twice(tmp_path: Path) -> None:
    edge = Edge(head=APP, faults={3: "503"})
    async with edge.listening() as url:
        samples = await ask(tmp_path, 6, url, path="/health", earlier=["/healthz"])
    assert len(edge.requests) == 6
    assert [sample.get("error") for sample in samples].count("answered 503") == 1


async def test_an_idle_connection_that_the_server_closed_is_no_failure(tmp_path: Path) -> None:
    edge = Edge(idle_limit=0.04)
    async with edge.listening() as url:
        # Two seconds lie between two that could share one: time enough to see that it was closed.
        samples = await ask(tmp_path, 6, url, rate=1.0)
    assert not [sample for sample in samples if "error" in sample]
    assert edge.connections == len(samples)


async def test_a_server_that_announces_the_end_is_believed(tmp_path: Path) -> None:
    edge = Edge(head="Connection: close\r\n")
    async with edge.listening() as url:
        samples = await ask(tmp_path, 8, url)
    assert edge.connections == len(samples)


async def test_an_edge_that_dies_and_comes_back(tmp_path: Path) -> None:
    edge = Edge()
    async with edge.listening() as url:
        asking = asyncio.ensure_future(ask(tmp_path, 450, url))
        await asyncio.sleep(0.4)
        await edge.stop()
        died = time.time()
        await asyncio.sleep(3.0)
        back = time.time()
        await edge.start()
        samples = await asking
    failed = [sample for sample in samples if "error" in sample]
    # The connection that is kept lives on, as with a proxy that is being reloaded. New ones are refused, and one that
    # the edge had not taken up yet when it went is reset.
    assert {"refused"} <= {sample["error"] for sample in failed} <= {"refused", "reset"}
    assert all(died - 0.1 <= sample["start"] <= back + 0.1 for sample in failed)
    summary = probe.summarize(samples)
    assert summary["requests"] == len(samples) == len(edge.requests) + len(failed)
    assert summary["failed"] == len(failed) > 15
    assert summary["availability"] == 1 - len(failed) / len(samples)
    assert summary["failures"][0] == {
        "time": failed[0]["start"],
        "error": failed[0]["error"],
        "ms": failed[0]["ms"],
        "url": 0,
    }
    assert len(summary["failures"]) == min(len(failed), 20)


async def test_a_slow_edge_is_asked_as_often(tmp_path: Path) -> None:
    edge = Edge(faults=dict.fromkeys(range(100), "slow"))
    async with edge.listening() as url:
        samples = await ask(tmp_path, 30, url, rate=50.0, timeout=0.5)
    assert {sample["error"] for sample in samples} == {"timeout"}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for links.example.com, with its key in the same file."""
    path = tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=edge"
    command += f" -addext subjectAltName=DNS:links.example.com -out {path} -keyout {tmp_path / 'key.pem'}"
    subprocess.run(command.split(), check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "key.pem").read_text())
    return path


async def test_certificates(tmp_path: Path, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    edge = Edge()
    async with edge.listening(context) as url:
        right = await ask(tmp_path, 8, url, ca_file=str(certificate), host_header="links.example.com:8443")
        unknown = await ask(tmp_path, 4, url, host_header="links.example.com")
        another = await ask(tmp_path, 4, url, ca_file=str(certificate))
        unchecked = await ask(tmp_path, 4, url, verify=False)
    assert not [sample for sample in right + unchecked if "error" in sample]
    assert all("certificate" in sample["error"].lower() for sample in unknown + another)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"urls": []}, "urls names no edge"),
        ({"urls": ["ftp://edge"]}, "'ftp://edge' is not of the form"),
        ({"urls": ["http://edge/path"]}, "is not of the form"),
        ({"urls": ["edge:80"]}, "is not of the form"),
        ({"urls": ["http://[edge"]}, "is not of the form"),
        ({"urls": ["http://edge:99999"]}, "is not of the form"),
        ({"names": {"http://edge": "a b"}}, "no spaces"),
        ({"urls": ["https://edge"], "trusted": {"https://edge": "-----BEGIN CERTIFICATE-----"}}, "cannot be read"),
        ({"path": "version"}, "must begin with /"),
        ({"path": "/a b"}, "no spaces"),
        ({"host_header": "a\r\nX: 1"}, "no spaces"),
        ({"rate": -1.0}, "rate must be"),
        ({"rate": 1000.0}, "rate must be"),
        ({"urls": ["https://edge"], "ca_file": "/nowhere/ca.pem"}, "No such file"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        probe.Settings(**{"urls": ["http://edge"], "samples": "", **settings}).targets()


def test_addresses() -> None:
    urls = ["http://[::1]:81", "http://edge.example.com/", "http://edge", "http://[fe80::1%eth0]:81"]
    settings = probe.Settings(urls=urls, names={"http://edge": "links.example.com"}, samples="")
    assert [(target.host, target.port, target.host_header, target.name) for target in settings.targets()] == [
        ("::1", 81, "[::1]:81", "::1"),
        ("edge.example.com", 80, "edge.example.com", "edge.example.com"),
        ("edge", 80, "links.example.com", "links.example.com"),
        ("fe80::1%eth0", 81, "[fe80::1]:81", "fe80::1"),
    ]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"release": "r1", "slot": "blue"}', {"release": "r1", "slot": "blue"}),
        (b'{"release": 7, "slot": null}', {"release": "7"}),
        (b'{"release": {"x": 1}}', {}),
        (b"[1]", {}),
        (b"\xff\xfe", {}),
        (b"", {}),
        (b'{"release": "' + b"x" * 500 + b'"}', {"release": "x" * 80}),
    ],
)
def test_who_answered(body: bytes, found: dict[str, str]) -> None:
    assert probe.told(body) == found


def samples_of(*errors: str | None, ms: float = 2.0) -> list[dict[str, Any]]:
    found = [{"start": 100.0 + number, "ms": ms + number, "url": 0} for number in range(len(errors))]
    return [sample | ({"error": error} if error else {}) for sample, error in zip(found, errors, strict=True)]


@pytest.mark.parametrize(
    ("errors", "requests", "failed", "before", "availability"),
    [
        ([], 0, 0, 0, None),
        ([None, None], 2, 0, 0, 1.0),
        ([None, "reset", None, None], 4, 1, 0, 0.75),
        # nothing was deployed yet
        (["refused", "refused", None, None], 2, 0, 2, 1.0),
        (["refused", None, "reset"], 2, 1, 1, 0.5),
        # nor is it now
        (["refused", "refused"], 2, 2, 0, 0.0),
    ],
)
def test_summary(errors: list[str | None], requests: int, failed: int, before: int, availability: float | None) -> None:
    summary = probe.summarize(samples_of(*errors))
    assert (summary["requests"], summary["failed"]) == (requests, failed)
    assert (summary["before_first_answer"], summary["availability"]) == (before, availability)


def at(url: int, *samples: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**sample, "url": url} for sample in samples]


@pytest.mark.parametrize(
    ("served", "requests", "failed", "before"),
    [([], 4, 1, 1), ([0], 5, 2, 0), ([1], 4, 1, 1), ([0, 1], 5, 2, 0)],
)
def test_what_counts_is_said_of_each_edge(served: list[int], requests: int, failed: int, before: int) -> None:
    """A host that is new in a fleet that serves has nothing to lose yet; one that served has from the first request."""
    first, second = samples_of("refused", None, None), samples_of(None, "reset")
    summary = probe.summarize([*at(0, *first), *at(1, *second)], served)
    assert (summary["requests"], summary["failed"], summary["before_first_answer"]) == (requests, failed, before)


@pytest.mark.parametrize(
    ("status", "header", "by", "error"),
    [
        (200, "app blue", "app", None),
        (204, "app green", "app", None),
        (503, "app blue", "app", "answered 503"),
        (307, "app blue", "app", "answered 307"),
        (503, "edge", "edge", "answered 503 by the edge"),
        (308, "edge", "edge", "answered 308 by the edge"),
        (421, "edge", "edge", "answered 421 by the edge"),
        (200, "edge", "edge", "answered 200 by the edge"),
        (503, "edge maintenance", "edge", "answered 503, the maintenance page"),
        # an edge from before it said so, or none of ours
        (200, "", "app", None),
        (308, "", "edge", "answered 308"),
        (503, "", "edge", "answered 503"),
    ],
)
def test_answers_are_told_apart_by_who_gave_them(status: int, header: str, by: str, error: str | None) -> None:
    fields = {"x-slipway-answer": header} if header else {}
    found = probe.answered(status, fields, b'{"release": "r1"}')
    assert (found["status"], found["by"], found.get("error")) == (status, by, error)
    assert found.get("slot", "") == (header.partition(" ")[2] if by == "app" else "")


def test_the_three_who_answer_are_counted() -> None:
    known = [("app", None), ("app", "answered 500"), ("edge", "answered 503 by the edge"), ("nobody", "timeout")]
    samples = [{"start": float(at), "ms": 1.0, "by": by, "error": error} for at, (by, error) in enumerate(known)]
    assert probe.summarize(samples)["answered_by"] == {"app": 2, "edge": 1, "nobody": 1}


@pytest.mark.parametrize(
    ("samples", "silent"),
    [
        ([], False),
        ([{"by": "nobody", "error": "refused"}], True),
        ([{"by": "edge", "error": "answered 308 by the edge"}, {"by": "nobody", "error": "timeout"}], True),
        ([{"by": "edge", "error": "answered 503 by the edge"}, {"by": "app", "error": "answered 500"}], False),
        # an operator wants that
        ([{"by": "edge", "error": "answered 503, the maintenance page"}] * 2, False),
        ([{"by": "edge", "error": "answered 503, the maintenance page"}, {"by": "nobody", "error": "reset"}], True),
    ],
)
def test_an_app_that_says_nothing(samples: list[dict[str, Any]], silent: bool) -> None:
    assert probe.silent(samples) is silent


def test_percentiles_are_nearest_rank_over_good_answers() -> None:
    samples = [{"start": float(number), "ms": float(number)} for number in range(1, 101)]
    samples.append({"start": 101.0, "ms": 5000.0, "error": "timeout"})  # type: ignore[dict-item]
    assert probe.latency(samples) == {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "max_ms": 100.0}
    assert probe.latency([]) == {"p50_ms": None, "p95_ms": None, "p99_ms": None, "max_ms": None}
    assert probe.latency(samples[:1])["p99_ms"] == 1.0


def test_a_file_that_was_cut_is_read(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"start": 2, "ms": 1}\n{"start": 1, "ms": 1}\n[]\n{"start": "x"}\n{"ended": "limit"}\n{"sta')
    assert probe.read_samples(path) == ([{"start": 1, "ms": 1}, {"start": 2, "ms": 1}], "limit")


# --- as a process


def launch(directory: Path, url: str, **more: Any) -> subprocess.Popen[bytes]:
    settings = {"urls": [url], "samples": str(directory / "samples.jsonl"), "rate": 20.0, **more}
    process = subprocess.Popen([sys.executable, "-I", probe.__file__], stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.write(json.dumps(settings).encode())
    process.stdin.close()
    return process


async def ended(process: subprocess.Popen[bytes]) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.wait), 60)


async def written(path: Path) -> None:
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.05)


async def test_it_ends_at_its_limit(tmp_path: Path) -> None:
    edge = Edge()
    async with edge.listening() as url:
        assert await ended(launch(tmp_path, url, limit=0.5)) == 0
    samples, why = probe.read_samples(tmp_path / "samples.jsonl")
    assert why == "limit"
    assert len(samples) == len(edge.requests) == 11


async def test_it_ends_on_a_signal_with_requests_in_flight_answered(tmp_path: Path) -> None:
    edge = Edge(faults=dict.fromkeys(range(3, 100), "slow"))
    async with edge.listening() as url:
        process = launch(tmp_path, url, timeout=0.7)
        await written(tmp_path / "samples.jsonl")
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == 0
    samples, why = probe.read_samples(tmp_path / "samples.jsonl")
    assert why == "stopped"
    assert len(samples) == len(edge.requests)
    assert sum("error" not in sample for sample in samples) == 3


async def test_it_ends_with_what_it_watches(tmp_path: Path) -> None:
    edge = Edge()
    async with edge.listening() as url:
        watched = await asyncio.create_subprocess_exec("sleep", "60")
        process = launch(tmp_path, url, watch=[(watched.pid, probe.started(watched.pid))])
        await written(tmp_path / "samples.jsonl")
        assert process.poll() is None
        watched.kill()
        await watched.wait()
        assert await ended(process) == 0
    assert probe.read_samples(tmp_path / "samples.jsonl")[1] == "the run is gone"


def test_a_process_is_known_by_its_start() -> None:
    me = os.getpid()
    assert probe.alive(me, probe.started(me))
    assert not probe.alive(me, "1")
    with subprocess.Popen(["true"]) as gone:
        since = probe.started(gone.pid)
    assert not probe.alive(gone.pid, since)


# --- as a task

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars: {{directory: "{directory}"}}
  tasks:
    - slipway.fleet.probe: {{state: started, run: a/b, urls: ["{url}"], rate: {rate}, directory: "{directory}"}}
      register: started
    - ansible.builtin.shell: {meanwhile}
      changed_when: false
    - slipway.fleet.probe: {{state: stopped, run: a/b, directory: "{directory}"}}
      register: stopped
    - ansible.builtin.copy: {{content: "{{{{ [started, stopped] }}}}", dest: "{directory}/result", mode: "0600"}}
      check_mode: false
"""


def written_play(directory: Path, url: str, rate: float) -> str:
    written = f"until test $(wc -l < {directory}/.probe-a_b.jsonl) -gt 40; do sleep 0.1; done"
    meanwhile = json.dumps(written if rate else "sleep 2.5")
    (directory / "play.yml").write_text(PLAY.format(directory=directory, url=url, rate=rate, meanwhile=meanwhile))
    return str(directory / "play.yml")


def result_in(directory: Path) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = json.loads((directory / "result").read_text())
    return result


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def play(directory: Path, url: str, rate: float, *options: str) -> list[dict[str, Any]]:
    program = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", *options]
    program += ["-e", f"ansible_python_interpreter={sys.executable}", written_play(directory, url, rate)]
    environ = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    assert await process.wait() == 0
    return result_in(directory)


async def test_started_and_stopped_by_tasks(tmp_path: Path) -> None:
    edge = Edge(faults={10: "503"})
    async with edge.listening() as url:
        started, stopped = await play(tmp_path, url, 20.0)
        assert not probe.alive(started["pid"], probe.started(started["pid"]) or "gone")
        sent = len(edge.requests)
        await asyncio.sleep(0.3)
        assert len(edge.requests) == sent
    summary = stopped["summary"]
    assert stopped["changed"] is False
    assert summary["requests"] == sent > 40
    assert (summary["failed"], summary["ended"]) == (1, "stopped")
    assert summary["failures"][0]["error"] == "answered 503"
    assert stopped["samples"] == str(tmp_path / ".probe-a_b.jsonl")


@pytest.mark.parametrize(("rate", "options"), [(0, []), (20, ["--check"])])
async def test_off_and_in_check_mode_nothing_is_sent(tmp_path: Path, rate: float, options: list[str]) -> None:
    edge = Edge()
    async with edge.listening() as url:
        _, stopped = await play(tmp_path, url, rate, *options)
    assert stopped["summary"] == {}
    assert not edge.requests
    assert files_in(tmp_path) == ["play.yml", "result"]
