"""A release that is started aside: in a network that leads nowhere, against what stands there in the place of the real.

Its slots, its volumes and what it talks to are not touched: it has the files of its release, its secrets included, and
reaches what answers in that network under the names and the addresses that it knows.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from ..host import command
from ..host.command import Ran
from ..host.errors import SlipwayError
from ..host.shown import staged
from .aside_compose import Containers
from .aside_systemd import Units
from .compose import Compose
from .doors import port_of
from .looks import judged
from .model import Gate, Probe
from .probe import get
from .runtime import RuntimeFailed
from .runtimes import Runtimes, staged_for
from .slots import SOCKET, SlotDirectories
from .stage import SLOT, Mounts, Stage, Unfit
from .store import Store
from .systemd import Systemd
from .users import Owner

# Lines of its log that are shown where it does not get well.
LOG_LINES = 20
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)

Way = Union[Containers, Units]


class Aside:
    """The releases of an app, one at a time, each as its runtime starts one.

    `place` is a directory for files of its own, and `instead` names for a directory of the host what is mounted in its
    place, unless it is one with sockets of what stands on the `stage`.
    """

    def __init__(
        self,
        app: str,
        root: Path,
        stage: Stage,
        place: Path,
        instead: Callable[[str], Path],
        runtimes: Optional[Runtimes] = None,
        run: Callable[..., Ran] = command.run,
        meminfo: Path = Path("/proc/meminfo"),
    ) -> None:
        self.app, self.store = app, Store(root)
        self.runtimes = runtimes or Runtimes(app, self.store.releases)
        self.directories: SlotDirectories = self.runtimes.directories
        self._stage, self._instead, self._meminfo = stage, instead, meminfo
        self._ways: dict[str, Way] = {}
        for kind, adapter in self.runtimes.adapters.items():
            if isinstance(adapter, Compose):
                self._ways[kind] = Containers(app, adapter, stage, place, run)
            elif isinstance(adapter, Systemd):
                self._ways[kind] = Units(adapter, stage, run)

    def require(self, release: str) -> Way:
        """How this host starts that release aside. Raises Unfit where it cannot."""
        kind = staged_for(self.store.releases, release)
        if kind is None:
            raise Unfit(f"release {release} is not on this host")
        way = self._ways[kind]
        if release not in self.runtimes.there([release]):
            raise Unfit(f"the {way.MADE_OF} of release {release} is not on this host")
        return way

    @contextmanager
    def _made(self, release: str, limit: float) -> Iterator[Way]:
        """Have what it is started with, and nothing of it left afterwards. Raises RuntimeFailed and Unfit.

        It is not pruned meanwhile. A unit whose starter is gone ends after `limit` seconds.
        """
        way = self.require(release)
        self.remove()
        try:
            with self.store.in_use(release):
                owner = self.runtimes.prepare(release)
                self.directories.have_aside(SLOT, owner)
                self._require_memory(release, way.make(release, self._mounts(release, owner), limit))
                yield way
        finally:
            self.remove()

    def run(self, release: str, words: Sequence[str], timeout: float) -> Ran:
        """Run a command in it, which ends after `timeout` seconds. Raises RuntimeFailed and Unfit."""
        with self._made(release, timeout) as way:
            ran = way.run(words, timeout)
        screen = staged(self.store.releases)
        return replace(ran, stdout=screen.text(ran.stdout), stderr=screen.text(ran.stderr))

    def refusal(self, release: str, deadline: float) -> str:
        """Why a release does not pass its gate; empty where it does. Its first answer may take `deadline` seconds.

        Raises Unfit where it cannot be started here, or does not find the database in its place.
        """
        gate = replace(Gate(), **self.store.gate(release))
        try:
            with self._made(release, 2 * deadline) as way:
                way.start()
                until = time.monotonic() + deadline
                passes = 0
                while True:
                    answer = judged(lambda path: self._asked(way, release, path, gate), gate, release)
                    passes = 0 if answer.error else passes + 1
                    if passes >= gate.passes:
                        return ""
                    if answer.error and time.monotonic() >= until:
                        return self._refused(way, release, f"not ready within {deadline:.0f} s: {answer.error}")
                    if not way.runs():
                        return self._refused(way, release, "it ended by itself")
                    time.sleep(gate.interval)
        except RuntimeFailed as error:
            return staged(self.store.releases).text(f"it does not start: {error}")

    def remove(self) -> None:
        """Take away what is there of it, or of one that was killed."""
        for way in self._ways.values():
            with suppress(SlipwayError):
                way.remove()
        self.directories.drop_aside(SLOT)

    def _asked(self, way: Way, release: str, path: str, gate: Gate) -> Probe:
        if port := port_of(self.store.releases, release):
            return way.get(port, path, gate)
        return get(str(self.directories.sockets / SLOT / SOCKET), path, gate.timeout, gate)

    def _refused(self, way: Way, release: str, why: str) -> str:
        """With the last lines of its log, and without its secrets. Raises Unfit where it is no fault of the data."""
        if lost := way.lost(release):
            raise Unfit(f"release {release} does not get ready in a drill: {lost}")
        log = ""
        with suppress(SlipwayError):
            log = way.log(LOG_LINES).strip()
        return staged(self.store.releases).text(f"{why}\n{log}".strip())

    def _mounts(self, release: str, owner: Optional[Owner]) -> Mounts:
        """What is mounted in place of a directory of the host: all but its own is a copy, or empty where there is none.

        A volume is live, and a directory of sockets leads to servers that are.
        """
        own = (
            *(self.store.releases / release, self.directories.sockets / SLOT),
            self.store.root / "packages",
        )

        def mounted(source: str) -> str:
            if any(Path(source).is_relative_to(path) for path in own):
                return source
            if sockets := self._stage.socket(source):
                return str(sockets)
            copy = self._instead(source)
            if not copy.is_dir():
                copy.mkdir(parents=True)
                if owner:
                    shutil.chown(copy, *owner)
            return str(copy)

        return mounted

    def _require_memory(self, release: str, needed: int) -> None:
        found = _AVAILABLE.search(self._meminfo.read_text(encoding="ascii"))
        if found and int(found[1]) << 10 < needed:
            raise Unfit(
                f"release {release} may take {needed >> 20} MiB, and {int(found[1]) >> 10} MiB of memory are available"
            )
