"""A release that is started aside: in a network that leads nowhere, against what stands there in the place of the real.

Its slots, its volumes and what it talks to are not touched: it has the files of its release, its secrets included, and
reaches what answers in that network under the names that it knows.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.command import Ran
from ..host.errors import SlipwayError
from ..host.shown import staged
from .compose import Compose
from .looks import judged
from .model import Gate, Probe
from .probe import get, get_port
from .runtime import RuntimeFailed
from .runtimes import Runtimes, staged_for
from .slots import SOCKET, SlotDirectories
from .store import Store
from .users import Owner

# What it has in place of a slot's name.
SLOT = "drill"
# Lines of its log that are shown where it does not get well; seconds for Docker's own work.
LOG_LINES, LIMIT = 20, 120.0
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


class Unfit(SlipwayError):
    """A release cannot be started aside on this host; the text says why."""


class Aside:
    """The releases of an app, one at a time.

    `network` is one of Docker's that is there. `place` is a directory for files of its own, and `instead` names for a
    directory of the host what is mounted in its place.
    """

    def __init__(
        self,
        app: str,
        root: Path,
        network: str,
        place: Path,
        instead: Callable[[str], Path],
        runtimes: Optional[Runtimes] = None,
        run: Callable[..., Ran] = command.run,
        meminfo: Path = Path("/proc/meminfo"),
    ) -> None:
        self.app, self.store = app, Store(root)
        self.runtimes = runtimes or Runtimes(app, self.store.releases)
        self.directories: SlotDirectories = self.runtimes.directories
        self._network, self._place, self._instead = network, place, instead
        self._run, self._meminfo = run, meminfo
        self.project = f"{app}-{SLOT}"

    def require(self, release: str) -> None:
        """Raise Unfit where this host cannot start that release aside."""
        kind = staged_for(self.store.releases, release)
        if kind is None:
            raise Unfit(f"release {release} is not on this host")
        if kind != "compose":
            raise Unfit(f"release {release} runs without containers, and only containers are started aside")
        if release not in self.runtimes.there([release]):
            raise Unfit(f"the image of release {release} is not on this host")

    @contextmanager
    def started(self, release: str) -> Iterator[str]:
        """Have it run; yields the address of its container. Raises RuntimeFailed and Unfit."""
        file = self._file(release)
        with self._kept(release):
            words = ("up", "--detach", "--no-build", "--pull", "never", "web")
            self._done([*self._compose(file), *words])
            form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
            yield self._done(["docker", "inspect", "--format", form, *self._containers()]).strip()

    def run(self, release: str, words: Sequence[str], timeout: float) -> Ran:
        """Run a command in it, which ends after `timeout` seconds. Raises RuntimeFailed and Unfit."""
        file = self._file(release)
        with self._kept(release):
            ran = self._run([*self._compose(file), "run", "--rm", "--no-deps", "-T", "web", *words], timeout)
        screen = staged(self.store.releases)
        return replace(ran, stdout=screen.text(ran.stdout), stderr=screen.text(ran.stderr))

    def refusal(self, release: str, deadline: float) -> str:
        """Why a release does not pass its gate; empty where it does. Its first answer may take `deadline` seconds."""
        gate = replace(Gate(), **self.store.gate(release))
        try:
            with self.started(release) as address:
                until = time.monotonic() + deadline
                passes = 0
                while True:
                    answer = judged(lambda path: self._asked(release, address, path, gate), gate, release)
                    passes = 0 if answer.error else passes + 1
                    if passes >= gate.passes:
                        return ""
                    if answer.error and time.monotonic() >= until:
                        return self._shown(f"not ready within {deadline:.0f} s: {answer.error}")
                    if not self._runs():
                        return self._shown("it ended by itself")
                    time.sleep(gate.interval)
        except RuntimeFailed as error:
            return staged(self.store.releases).text(f"it does not start: {error}")

    @contextmanager
    def _kept(self, release: str) -> Iterator[None]:
        """Have the release not pruned meanwhile, and nothing of it left afterwards."""
        try:
            with self.store.in_use(release):
                yield
        finally:
            self.remove()

    def remove(self) -> None:
        """Take away what is there of it, or of one that was killed."""
        with suppress(SlipwayError):
            if found := self._containers():
                self._done(["docker", "rm", "--force", "--volumes", *found])
        self.directories.drop_aside(SLOT)

    def _asked(self, release: str, address: str, path: str, gate: Gate) -> Probe:
        port = int(self._said(release).get("port") or 0)
        if port:
            return get_port(f"{address}:{port}", port, path, gate.timeout, gate)
        return get(str(self.directories.sockets / SLOT / SOCKET), path, gate.timeout, gate)

    def _said(self, release: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.store.releases / release / "gate.json").read_text(encoding="utf-8"))
        return found

    def _shown(self, why: str) -> str:
        """With the last lines of its log, and without its secrets."""
        log = ""
        with suppress(SlipwayError):
            log = self._done(["docker", "logs", "--tail", str(LOG_LINES), *self._containers()], merge=True).strip()
        return staged(self.store.releases).text(f"{why}\n{log}".strip())

    def _file(self, release: str) -> Path:
        """The Compose file with which it is started aside, and what that needs. Raises RuntimeFailed and Unfit."""
        self.require(release)
        self.remove()
        owner = self.runtimes.prepare(release)
        self.directories.have_aside(SLOT, owner)
        compose = self.runtimes.adapters["compose"]
        assert isinstance(compose, Compose)
        web = aside(compose.resolved(SLOT, release)["services"]["web"], lambda path: self._volume(path, owner))
        self._require_memory(release, int(web.get("mem_limit") or 0))
        network = {"aside": {"external": True, "name": self._network}}
        path = self._place / f"{self.project}.json"
        path.write_text(json.dumps({"services": {"web": web}, "networks": network}), encoding="utf-8")
        return path

    def _volume(self, source: str, owner: Optional[Owner]) -> str:
        """What is mounted in place of a directory of the host: a volume's copy, and all else as it is."""
        if not Path(source).is_relative_to(self.runtimes.volumes.directory):
            return source
        copy = self._instead(source)
        if not copy.is_dir():
            copy.mkdir(parents=True)
            if owner:
                shutil.chown(copy, *owner)
        return str(copy)

    def _require_memory(self, release: str, needed: int) -> None:
        found = _AVAILABLE.search(self._meminfo.read_text(encoding="ascii"))
        if found and int(found[1]) << 10 < needed:
            raise Unfit(
                f"release {release} may take {needed >> 20} MiB, and {int(found[1]) >> 10} MiB of memory are available"
            )

    def _compose(self, file: Path) -> list[str]:
        return ["docker", "compose", "--project-name", self.project, "--file", str(file)]

    def _containers(self) -> list[str]:
        wanted = f"label=com.docker.compose.project={self.project}"
        return self._done(["docker", "ps", "--all", "--quiet", "--filter", wanted]).split()

    def _runs(self) -> bool:
        wanted = f"label=com.docker.compose.project={self.project}"
        return bool(self._done(["docker", "ps", "--quiet", "--filter", wanted]).strip())

    def _done(self, words: Sequence[str], merge: bool = False) -> str:
        ran = self._run(words, LIMIT, merge=merge)
        if ran.returncode:
            raise RuntimeFailed(ran.said)
        return ran.stdout


def aside(web: Mapping[str, Any], volume: Callable[[str], str]) -> dict[str, Any]:
    """A service as Compose resolves it, as it is started aside: in that network alone, once, behind no port.

    `volume` names what is mounted in place of a directory of the host.
    """
    left = {name: value for name, value in web.items() if name not in ("ports", "labels", "networks", "depends_on")}
    mounts = [{**one, "source": volume(str(one["source"]))} for one in web.get("volumes") or ()]
    alone = {"networks": {"aside": {}}, "restart": "no", "healthcheck": {"disable": True}}
    return {**left, "volumes": mounts, **alone}
