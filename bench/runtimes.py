"""`python3 -m bench.runtimes` compares the app in a container with the app under systemd, on one host, in turn.

The host is a container with systemd, sshd and a Docker of its own; database and cache are on a second one. In each
round the app moves to a runtime by a release, gets a release of a new configuration there, and is then put under load
through the host's edge. Needs Docker, `wrk`, and the images of `python3 -m lab images`. docs/systemd.md has the table.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.app_server import new_link, wrk
from bench.docker import docker
from bench.fleet import SUBNET, Bench, network, say

HOST, ADDRESS = "bench-runtimes", f"{SUBNET}.4"
EDGE = f"http://{ADDRESS}"
RUNTIMES = ("compose", "systemd")
LEDGER = "/opt/slipway/shortlinks/ledger.jsonl"
FAULTS = re.compile(r"(Non-2xx.*|Socket errors.*)")
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
# Processes by what their command line has, of the whole host: memory with pages that several share counted once.
APP, ENGINE = "[g]unicorn", "[d]ockerd|[c]ontainerd"
PSS = "for pid in $(pgrep -f '{}'); do grep ^Pss: /proc/$pid/smaps_rollup; done 2>/dev/null || true"


@dataclass(frozen=True)
class Sample:
    """What one round found out about a runtime; the names of the rows."""

    small: float
    small_p50: float
    small_p99: float
    query: float
    query_p50: float
    query_p99: float
    memory: float
    engine: float
    ready: float
    release: float


ROWS = {
    "small": "small JSON, requests a second",
    "small_p50": "p50, ms",
    "small_p99": "p99, ms",
    "query": "one query in the database, requests a second",
    "query_p50": "p50, ms",
    "query_p99": "p99, ms",
    "memory": "memory of the app (PSS), MB",
    "engine": "memory of Docker, which systemd does without (PSS), MB",
    "ready": "from the start of a slot until the gate lets it pass, s",
    "release": "a deploy of a new configuration from the controller, s",
}


def load(url: str, seconds: int) -> tuple[float, float, float]:
    """Requests per second, median and 99th percentile of their latency in ms. Raises SystemExit when one failed."""
    output = wrk(url, seconds)
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    latencies = [re.search(rf"{percent}%\s+([\d.]+)(us|ms|s)\b", output) for percent in (50, 99)]
    if not rate or None in latencies or FAULTS.search(output):
        raise SystemExit(f"the load on {url} failed:\n{output}")
    median, late = (float(found[1]) * UNITS[found[2]] for found in latencies if found)
    return float(rate[1]), median, late


def memory(processes: str) -> float:
    """MB of the host's processes whose command line matches."""
    found = docker("exec", HOST, "sh", "-c", PSS.format(processes))
    return sum(int(line.split()[1]) for line in found.splitlines()) * 1024 / 1e6


def measure(deploy: Callable[..., float], runtime: str, number: int, seconds: int) -> Sample:
    """Move the app to the runtime, release a new configuration there, and put it under load."""
    deploy(runtime, f"{runtime} {number}")
    release = deploy(runtime, f"{runtime} {number}, changed")
    phases = json.loads(docker("exec", HOST, "tail", "-n", "1", LEDGER))["phases"]
    took = {phase["phase"]: phase["seconds"] for phase in phases}
    link = new_link(EDGE)
    for url in (f"{EDGE}/livez", link):  # so that every worker has its connections and caches
        wrk(url, 2)
    small, query = load(f"{EDGE}/livez", seconds), load(link, seconds)
    engine = memory(ENGINE) if runtime == "compose" else 0.0
    return Sample(*small, *query, memory(APP), engine, took["start"] + took["gate"], release)


def table(samples: dict[str, list[Sample]]) -> str:
    """Medians in Markdown; the ratio is the median of those of each round."""
    lines = ["| | Compose | systemd | systemd to Compose |", "| --- | ---: | ---: | ---: |"]
    for field in fields(Sample):
        rounds = {runtime: [getattr(sample, field.name) for sample in samples[runtime]] for runtime in RUNTIMES}
        medians = {runtime: statistics.median(values) for runtime, values in rounds.items()}
        ratios = [ours / theirs for theirs, ours in zip(rounds["compose"], rounds["systemd"], strict=True) if theirs]
        digits = 0 if medians["compose"] >= 100 else 1
        shown = " | ".join(f"{medians[runtime]:,.{digits}f}" for runtime in RUNTIMES)
        lines.append(f"| {ROWS[field.name]} | {shown} | {statistics.median(ratios):.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.runtimes", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--base-image", default="slipway.lab/python:3.13")
    parser.add_argument("--rounds", type=int, default=3, help="how often each runtime is measured; the median counts")
    parser.add_argument("--seconds", type=int, default=8, help="of each of the two loads")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        raise SystemExit("wrk makes the load and is not installed: apt-get install wrk")
    samples: dict[str, list[Sample]] = {runtime: [] for runtime in RUNTIMES}
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        bench = Bench(Path(directory))
        with network(bench):
            # On overlayfs of its own Docker inside would fall back to copying whole layers.
            bench.start(HOST, ADDRESS, "slipway.lab/host:trixie", "--volume", "/var/lib/docker")
            bench.remember(HOST, ADDRESS)
            inventory = bench.inventory({HOST: ADDRESS})
            usual: dict[str, Any] = {
                "fastapi_app_workers": 2,
                "fastapi_app_command": ["gunicorn", "--config", "/srv/gunicorn_conf.py", "app.main:app"],
                "fastapi_image_source": "build",
                "fastapi_image_context": str(bench.directory / "source"),
                "fastapi_image_build_args": {"BASE_IMAGE": options.base_image},
            }

            def play(playbook: str, runtime: str, **variables: Any) -> float:
                given = usual | {"fastapi_app_runtime": runtime} | variables
                return bench.measured(bench.playbook(inventory, f"slipway.fleet.{playbook}", **given))[0]

            for runtime in RUNTIMES:
                say(f"the host is prepared for {runtime}")
                play("provision", runtime)
            for number in range(1, options.rounds + 1):
                for runtime in RUNTIMES:
                    found = measure(
                        lambda kind, name: play("deploy", kind, fastapi_app_revision=name),
                        runtime,
                        number,
                        options.seconds,
                    )
                    samples[runtime].append(found)
                    print(f"round {number}, {runtime}: {found}", file=sys.stderr, flush=True)
    print(table(samples))


if __name__ == "__main__":
    main()
