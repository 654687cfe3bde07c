"""`python3 -m bench.channels` asks 1 to 200 hosts over channels of their own, and counts what the controller spends.

Each host is a shell of this machine that becomes the agent, so what a network takes is not in it. A host is asked four
times, as in a deploy with nothing to do; processor time and memory are those of the controller alone.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

from bench.docker import ROOT

init_plugin_loader([str(ROOT / ".collections")])

from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.host import (  # noqa: E402 - the path is set above
    Access,
    AgentHost,
    Settings,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Started  # noqa: E402 - as above

QUESTIONS = 4


@dataclass(frozen=True)
class Local:
    """A way to a host that is a shell of this machine."""

    def start(self, command: str) -> Started:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True
        )
        return Started(process, None, 600.0)

    def forget(self) -> None:
        pass


@dataclass(frozen=True)
class Figures:
    """Of one number of hosts: seconds, processor seconds and MiB of the controller, and bytes to and from a host."""

    seconds: float
    processor: float
    memory: float
    moved: float


async def ask_all(count: int, place: Path) -> float:
    """Ask so many hosts, all at once. Returns the bytes that went to and from each."""
    settings = Settings(asyncio.Semaphore(20), place=str(place / "agent"))
    access = Access(Local(), sys.executable)
    hosts = [AgentHost(f"host{number}", lambda: access, settings) for number in range(count)]

    async def ask(host: AgentHost) -> None:
        where = {"app": "bench", "root": str(place / host.name), "socket_directory": str(place)}
        try:
            for _ in range(QUESTIONS):
                await host.call("shown", {"place": where})
        finally:
            await host.close()

    await asyncio.gather(*map(ask, hosts))
    return sum(host.traffic.sent + host.traffic.received for host in hosts) / count


def measure(count: int, place: Path) -> Figures:
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    moved = asyncio.run(ask_all(count, place))
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_SELF)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(seconds, processor, (after.ru_maxrss - before.ru_maxrss) / 1024, moved)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.channels", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("count", nargs="*", type=int, default=[1, 20, 50, 100, 200], help="numbers of hosts, ascending")
    options = parser.parse_args(arguments)
    print("| hosts | s | processor ms a host | MiB more than before | bytes a host |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        asyncio.run(ask_all(1, Path(directory)))  # the agent is there then, and compiled
        for count in sorted(options.count):
            found = measure(count, Path(directory))
            print(
                f"| {count} | {found.seconds:.1f} | {1000 * found.processor / count:.1f} | {found.memory:.1f} "
                f"| {found.moved:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
