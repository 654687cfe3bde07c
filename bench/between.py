"""`python3 -m bench.between` counts what TLS between a balancer and a host costs, and how long it makes a request.

Two HAProxies run with the role's own configuration on loopback, before a third one that answers 2 kB at once. One
after another a load goes to a balancer that asks the host by HTTP, to one that asks by TLS, and to one that does so by
a new connection for the first request of each client, as HAProxy does by itself (`http-reuse safe`). Counted is the
processor time of the balancer and the host's edge. Needs `wrk` and `openssl`. The table is in docs/balancers.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import tests.conftest  # noqa: F401 - it has the collection found
from bench.edge import APP, processor
from tests.templates.test_haproxy import Edge, haproxy, statuses, wait_for
from tests.templates.test_haproxy_peers import BY_TLS, PLAIN, Pair

# What a client does, as arguments of wrk.
LOADS = {
    "16 at a time, on connections that are there": ("-c16",),
    "16 at a time, each on a new connection": ("-c16", "-H", "Connection: close"),
    "one after another, on one connection": ("-c1",),
}


class Single(Edge):
    """An edge of one process, whose time is its own; nobody reads its log."""

    def __init__(self, directory: Path, **variables: object) -> None:
        super().__init__(directory, **{**variables, "__haproxy_log": "127.0.0.1:9"})


class Safe(Single):
    """One that sends the first request of a client over a connection of its own."""

    def start(self) -> None:
        file = self.directory / "haproxy.cfg"
        file.write_text(file.read_text().replace("http-reuse always", "http-reuse safe"))
        super().start()


@contextmanager
def serving(directory: Path, by_tls: bool, kind: type[Edge] = Single) -> Iterator[tuple[Edge, Edge]]:
    """A balancer and the edge of the host that it asks."""
    pair = Pair(directory, kind)
    pair.slot.stop()
    configuration = directory / "app.cfg"
    configuration.write_text(APP.format(socket=pair.served[0]["slots"]["blue"], text="x" * 2000))
    app = subprocess.Popen([haproxy(), "-db", "-f", str(configuration)])
    try:
        pair.make()
        pair.of_host(BY_TLS if by_tls else PLAIN)
        pair.of_balancer("true" if by_tls else "false")
        wait_for(lambda: statuses(pair.balancer.edge) == {"web1": "UP"})
        yield pair.balancer.edge, pair.host.edge
    finally:
        for machine in (pair.balancer, pair.host):
            if machine.running:
                machine.running.stop()
        app.terminate()
        app.wait(10)


def measured(edges: tuple[Edge, Edge], load: Sequence[str], seconds: float) -> tuple[float, float]:
    """Microseconds of both processors for a request, and milliseconds until its answer, the median."""
    before = sum(map(processor, edges))
    command = ["wrk", "-t1", f"-d{seconds:.0f}s", "--latency", *load, f"http://127.0.0.1:{edges[0].port}/x"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    done, took = re.search(r"(\d+) requests in", said), re.search(r" 50% +([\d.]+)(us|ms|s)", said)
    if not done or not took or "Non-2xx" in said:
        raise SystemExit(f"the load failed:\n{said}")
    used = (sum(map(processor, edges)) - before) / int(done[1]) * 1e6
    return used, float(took[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[took[2]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.between", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=4, help="of each load")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured; the median counts")
    options = parser.parse_args(arguments)
    if not shutil.which("wrk"):
        raise SystemExit("wrk makes the load and is not installed: apt-get install wrk")
    print("| a request | processor, HTTP | TLS, `safe` | TLS | ratio | answer, HTTP | TLS, `safe` | TLS |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with ExitStack() as stack:
        ways = []
        for by_tls, kind in ((False, Single), (True, Safe), (True, Single)):
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-")))
            ways.append(stack.enter_context(serving(directory, by_tls, kind)))
        for name, load in LOADS.items():
            # In turn, so that whatever else the machine does is in both.
            rounds = [[measured(edges, load, options.seconds) for edges in ways] for _ in range(options.rounds)]
            used, took = ([statistics.median(one[way][kind] for one in rounds) for way in range(3)] for kind in (0, 1))
            ratio = statistics.median(one[2][0] / one[0][0] for one in rounds)
            costs = " | ".join(f"{one:.0f} µs" for one in used)
            print(f"| {name} | {costs} | {ratio:.2f} | {' | '.join(f'{one:.2f} ms' for one in took)} |", flush=True)


if __name__ == "__main__":
    main()
