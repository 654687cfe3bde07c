"""`python3 -m bench.edge` counts what a handshake and a request cost the edge, with and without TLS, and a reload.

HAProxy runs with the role's own configuration on loopback, before a second HAProxy that answers 2 kB at once.
Counted is the processor time of the edge alone. Needs `wrk` and `openssl`. The table is in docs/https.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tests.conftest  # noqa: F401 - it has the collection found
from lab.ports import free_port
from tests.templates.test_haproxy import Edge, app, haproxy, wait_for

APP = """
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
frontend app
    bind unix@{socket} mode 666
    http-request return status 200 content-type text/plain string {text}
"""
NAME = "shop.example.org"


def certificate(directory: Path, name: str) -> str:
    """Chain and key of a name, all with the same key of P-256, which is what a certificate of ACME has here."""
    key = directory / "key.pem"
    if not key.exists():
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    san = f"subjectAltName=DNS:{name}"
    return (
        _openssl("req", "-x509", "-key", str(key), "-days", "90", "-subj", f"/CN={name}", "-addext", san)
        + key.read_text()
    )


def _openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def _pid(edge: Edge) -> int:
    return edge.process.pid if edge.process else 0


def processor(edge: Edge) -> float:
    """Seconds that the edge has computed."""
    fields = Path(f"/proc/{_pid(edge)}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(directory: Path) -> Iterator[Edge]:
    entry = app(directory, host_names=[NAME])
    configuration = directory / "app.cfg"
    configuration.write_text(APP.format(socket=entry["slots"]["blue"], text="x" * 2000))
    server = subprocess.Popen([haproxy(), "-db", "-f", str(configuration)])
    edge = Edge(
        directory, haproxy_apps=[entry], haproxy_tls_certificate=certificate(directory, NAME),
        # A log of this measurement would be read by nobody.
        __haproxy_log="127.0.0.1:9",
    )  # fmt: skip
    # Both ways are measured, and one of them would lead to the other.
    text = (directory / "haproxy.cfg").read_text()
    (directory / "haproxy.cfg").write_text(
        text.replace("    http-request redirect scheme https code 308 unless { ssl_fc }\n", "")
    )
    try:
        edge.start()
        wait_for(lambda: edge.get("/x", Host=NAME)[0].status == 200)
        yield edge
    finally:
        edge.stop()
        server.terminate()
        server.wait(10)


def wrk(edge: Edge, scheme: str, seconds: float) -> int:
    """How many requests were answered over 16 connections."""
    port = edge.tls_port if scheme == "https" else edge.port
    command = ["wrk", "-t1", "-c16", f"-d{seconds:.0f}s", "-H", f"Host: {NAME}", f"{scheme}://127.0.0.1:{port}/x"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) requests in", said)
    if not found or "Non-2xx" in said:
        raise SystemExit(f"the load failed:\n{said}")
    return int(found[1])


def handshakes(edge: Edge, how: str, version: str, seconds: float) -> int:
    """How many connections were made, each with a request."""
    command = [
        "openssl",
        "s_time",
        how,
        version,
        "-time",
        f"{seconds:.0f}",
        "-www",
        "/x",
        "-connect",
        f"127.0.0.1:{edge.tls_port}",
    ]
    said = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) connections in \d+ real seconds", said)
    if not found:
        raise SystemExit(f"openssl s_time failed:\n{said}")
    return int(found[1])


def cost(edge: Edge, work: Callable[[], int]) -> float:
    """Microseconds of the edge's processor for each of what was done."""
    before = processor(edge)
    done = work()
    return (processor(edge) - before) / done * 1e6


def reload_time(directory: Path, names: int) -> tuple[float, float]:
    """Seconds of a check of the configuration, and until a new process has taken over, with a certificate a name."""
    for part in ("names", "edge"):
        (directory / part).mkdir()
    own = directory / "own.pem"
    own.write_text(certificate(directory, "own.invalid"))
    (directory / "own.list").write_text(f"{own} no-certificate.invalid\n")
    every = [f"n{number}.example.org" for number in range(names)]
    for name in every:
        (directory / "names" / f"{name}.pem").write_text(certificate(directory, name))
    (directory / "https.map").write_text("".join(f"{name} on\n" for name in every))
    edge = Edge(
        directory / "edge",
        haproxy_apps=[app(directory / "edge", host_names=every)], haproxy_acme_email="ops@example.org",
        __haproxy_acme_port=free_port(), __haproxy_names=str(directory / "names"), __haproxy_own_certificate=str(own),
        __haproxy_own_list=str(directory / "own.list"), __haproxy_https_map=str(directory / "https.map"),
    )  # fmt: skip
    edge.start()
    try:
        began = time.monotonic()
        if (said := edge.check()).returncode:
            raise SystemExit(said.stderr)
        checked = time.monotonic()
        command = [haproxy(), "-db", "-f", str(directory / "edge/haproxy.cfg"), "-sf", str(_pid(edge))]
        before, edge.process = edge.process, subprocess.Popen(command)
        wait_for(lambda: f"Pid: {_pid(edge)}\n" in edge.ask("show info"), 120)
        taken_over = time.monotonic()
        if before:
            before.wait(30)
    finally:
        edge.stop()
    return checked - began, taken_over - checked


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.edge", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument(
        "--names", type=int, nargs="+", default=[1, 1000], help="with how many certificates it is reloaded"
    )
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        raise SystemExit("wrk makes the load and is not installed: apt-get install wrk")
    print("| what | processor of the edge | that is, of one processor |\n| --- | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory, serving(Path(directory)) as edge:
        rows: dict[str, Callable[[], int]] = {
            "a request on a connection that is there, HTTP": lambda: wrk(edge, "http", options.seconds),
            "the same, HTTPS": lambda: wrk(edge, "https", options.seconds),
            "a new connection with a request, TLS 1.3": lambda: handshakes(edge, "-new", "-tls1_3", options.seconds),
            "the same, TLS 1.2": lambda: handshakes(edge, "-new", "-tls1_2", options.seconds),
            "the same, TLS 1.2 with a resumed session": lambda: handshakes(edge, "-reuse", "-tls1_2", options.seconds),
        }
        for name, work in rows.items():
            found = statistics.median(cost(edge, work) for _ in range(options.rounds))
            print(f"| {name} | {found:.0f} µs | {1e6 / found:,.0f}/s |", flush=True)
    for names in options.names:
        with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
            checked, taken_over = reload_time(Path(directory), names)
            print(f"{names} names: check {checked:.2f} s, reload {taken_over:.2f} s", flush=True)


if __name__ == "__main__":
    main()
