"""The runtime of a host: two slots whose processes boot, answer, get sick, die, and are started again. Seconds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from zlib import crc32

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed

from tests.simulation.beside import Beside
from tests.simulation.edge import PATH, SLOTS
from tests.simulation.kernel import Kernel

PORT = 8000
OPENAPI = "/openapi.json"
# Docker's client gives up after these, as the adapters tell it.
CLIENT_LIMIT = 60.0


def keeps_the_api(release: str) -> bool:
    """Whether a release has all of the API; the first and the last one do."""
    return release in ("r0", "r9") or int(release[1:] or 0) % 2 == 0


@dataclass
class Container:
    """What `docker inspect` knows of one, and what users and edge know."""

    number: int
    release: str
    running: bool = True
    booted: float = 0.0
    restarts: int = 0
    exit_code: int | None = None
    out_of_memory: bool = False
    wanted: bool = True  # restart: unless-stopped
    seen_well: bool = False  # by a check of the edge
    well: bool = False
    well_until: float = -1e9  # when it last answered, where it does not now


class Docker:
    """Both slots of the app, and the daemon that can be away or slow."""

    def __init__(
        self,
        kernel: Kernel,
        effect: Callable[[str], None],
        pause: Callable[[float], None],
        changed: Callable[[str], None],
        image_of: Callable[[str], str | None],
    ) -> None:
        self.kernel = kernel
        self.effect = effect
        self.pause = pause
        self.changed = changed
        self.image_of = image_of
        self.slots: dict[str, Container | None] = dict.fromkeys(SLOTS)
        self.images: set[str] = set()
        self.path_of: Callable[[str], str] = lambda release: PATH  # where a release tells how it is
        self.health: dict[str, str] = {}  # by release: sick (500), hangs, silent (does not listen), ends
        self.was_sick: set[str] = set()  # releases that were, or are
        self.blind: set[str] = set()  # releases that answer a probe, but not the edge
        self.away_until = 0.0
        self.slow = 0.0  # seconds that every call takes more
        self.slow_until = 0.0
        self.beside = Beside(self)
        self.oneoffs: dict[str, Callable[[], None]] = {}
        self.begin_oneoff: Callable[[str, list[str]], tuple[float, Callable[[], None]]] | None = None
        self._numbers = itertools.count(1)

    @property
    def hindered_until(self) -> float:
        """When the last call may have ended that met a daemon which was away or slow."""
        return max(self.away_until, self.slow_until + min(self.slow, CLIENT_LIMIT) if self.slow_until else 0.0)

    def answers(self, slot: str) -> bool:
        """Whether a request to the slot gets a good answer now."""
        found = self.slots[slot]
        return bool(found and found.running and self.kernel.now >= found.booted and found.release not in self.health)

    def edge_gets_answer(self, slot: str) -> bool:
        found = self.slots[slot]
        return self.answers(slot) and found is not None and found.release not in self.blind

    def port(self, slot: str) -> int:
        """Where what is in the slot listens: every other release on a TCP port, 0 is the slot's socket."""
        found = self.slots[slot]
        return PORT if found and crc32(found.release.encode()) % 2 else 0

    # The runtime's verbs, called by host code.
    def start(self, slot: str, release: str) -> None:
        self._call(f"start {release} in {slot}", changes=True)
        image = self.image_of(release)
        if image not in self.images:
            raise RuntimeFailed(f"No such image: {image}" if image else f"no compose.yaml of {release}")
        found = self.slots[slot]
        if found and found.release == release and found.running:
            return
        self._boot(slot, Container(next(self._numbers), release))
        self.pause(self.kernel.delay(0.1, 0.8))

    def admit(self, release: str) -> None:
        """Nor has it volumes."""

    def prepare(self, release: str) -> None:
        """A release here needs nothing beside its files."""

    def share(self, release: str) -> None:
        """Nor has it static files."""

    def stop(self, slot: str, grace: float) -> None:
        self._call(f"stop {slot}", changes=True)
        found = self.slots[slot]
        if found is None:
            return
        if found.running:
            self.pause(self.kernel.delay(0.05, min(grace, 3.0)))
            if self.slots[slot] is found:
                found.running = False
        if self.slots[slot] is found:
            self.slots[slot] = None
            self.changed(slot)

    def status(self) -> dict[str, SlotStatus]:
        self._call("status")
        return {
            slot: SlotStatus(
                release=found.release,
                running=found.running,
                restarts=found.restarts,
                exit_code=found.exit_code,
                out_of_memory=found.out_of_memory,
                started=str(found.booted),
                container=f"c{found.number}",
            )
            if (found := self.slots[slot])
            else SlotStatus()
            for slot in SLOTS
        }

    def logs(self, slot: str, lines: int) -> str:
        self._call(f"logs {slot}")
        return "hello\n" if self.slots[slot] else ""

    def listening(self, slot: str) -> list[str]:
        self._call(f"listening {slot}")
        return []

    def past_edge(self, slot: str) -> list[str]:
        self._call(f"past edge {slot}")
        return []

    def discard(self, releases: list[str]) -> None:
        if not releases:
            return
        self._call(f"discard {' '.join(sorted(releases))}", changes=True)
        used = {self.image_of(found.release) for found in self.slots.values() if found}
        self.images -= {image for release in releases if (image := self.image_of(release))} - used

    def retire(self, slot: str) -> None:
        self._call(f"retire {slot}", changes=True)
        if found := self.slots[slot]:
            found.wanted = False

    def there(self, releases: list[str]) -> list[str]:
        self._call("images")
        return [release for release in releases if self.image_of(release) in self.images]

    def run(self, release: str, words: list[str], timeout: float, name: str) -> Ran:
        """As the adapter does it: one container of each name; one that was left is waited for, then removed."""
        self._call(f"run {name}", changes=True)
        deadline = self.kernel.now + timeout
        while name in self.oneoffs:
            if self.kernel.now >= deadline:
                self.oneoffs.pop(name)()
                break
            self.pause(1.0)
        assert self.begin_oneoff is not None
        lasting, end = self.begin_oneoff(release, words)

        def over() -> None:
            if self.oneoffs.get(name) is end:
                del self.oneoffs[name]
                end()

        self.oneoffs[name] = end
        self.kernel.after(lasting, over)
        self.pause(min(lasting, timeout) + 0.01)
        if lasting > timeout:
            over()
            return Ran(tuple(words), 124, timed_out=True)
        return Ran(tuple(words), 0, json.dumps({"migration": {"to": release}}) if "migrate" in words else "")

    # What it answers a probe over its socket.
    def probe(self, slot: str, path: str, timeout: float, by_port: bool = False) -> Probe:
        self.pause(self.kernel.delay(0.002, 0.02))
        found = self.slots[slot]
        if by_port != (self.port(slot) > 0):
            return Probe(error=f"nobody behind this door of {slot}", nobody=True)
        if found is None or not found.running or self.kernel.now < found.booted:
            return Probe(error=f"{slot}.sock: connection refused")
        return self._answer(slot, found, path, timeout)

    def _answer(self, slot: str, found: Container, path: str, timeout: float) -> Probe:
        trouble = self.health.get(found.release)
        if path == OPENAPI and not trouble:
            paths = ("/a", "/b") if keeps_the_api(found.release) else ("/a",)
            return Probe(200, json.dumps({"openapi": "3.1.0", "paths": {path: {"get": {}} for path in paths}}))
        if path not in (self.path_of(found.release), "/version"):
            return Probe(404, "Not Found")
        if trouble == "silent":
            return Probe(error=f"{slot}.sock does not exist")
        if trouble == "hangs":
            self.pause(timeout)
            return Probe(error="timed out")
        if trouble:
            return Probe(500, json.dumps({"status": trouble}))
        return Probe(200, json.dumps({"release": found.release}))

    # What happens to it.
    def _call(self, what: str, changes: bool = False) -> None:
        if changes:
            self.effect(what)
        else:
            self.pause(self.kernel.delay(0.005, 0.05))
        if self.kernel.now < self.slow_until:
            self.pause(min(self.slow, CLIENT_LIMIT))
            if self.slow > CLIENT_LIMIT:
                raise RuntimeFailed(f"`docker {what}` did not end within {CLIENT_LIMIT:.0f} s")
        if self.kernel.now < self.away_until:
            raise RuntimeFailed("Cannot connect to the Docker daemon")

    def _boot(self, slot: str, container: Container) -> None:
        container.running = True
        container.booted = self.kernel.now + self.kernel.delay(0.3, 3.0)
        self.slots[slot] = container
        self.changed(slot)

        def ready() -> None:
            if self.slots[slot] is container and container.running:
                self.changed(slot)
                if self.health.get(container.release) == "ends":
                    self.kernel.after(self.kernel.delay(0.1, 2.0), lambda: self.die(slot, container=container))

        self.kernel.after(container.booted - self.kernel.now, ready)

    def die(self, slot: str, memory: bool = False, for_good: bool = False, container: Container | None = None) -> None:
        """The slot's process ends; Docker starts it again, unless it ended `for_good`."""
        found = self.slots[slot]
        if found is None or not found.running or (container and container is not found):
            return
        found.running = False
        found.exit_code = 137 if memory else 1
        found.out_of_memory = memory
        if for_good:
            found.wanted = False
        self.changed(slot)
        if not for_good:
            self.kernel.after(0.2 * 2 ** min(found.restarts, 6), lambda: self._again(slot, found))

    def _again(self, slot: str, found: Container) -> None:
        if self.slots[slot] is found and not found.running and found.wanted:
            found.restarts += 1
            self._boot(slot, found)

    def set_health(self, release: str, trouble: str | None) -> None:
        """From now on the release is in this trouble here, or well again."""
        if trouble is None:
            self.health.pop(release, None)
        else:
            self.health[release] = trouble
            self.was_sick.add(release)
        for slot in SLOTS:
            found = self.slots[slot]
            if found and found.release == release:
                self.changed(slot)
                if trouble == "ends":
                    self.die(slot)

    def power_cut(self) -> None:
        for end in self.oneoffs.values():
            end()
        self.oneoffs.clear()
        self.beside.power_cut()
        for found in self.slots.values():
            if found:
                found.running = False

    def power_on(self) -> None:
        """Docker starts what ran, and counts it as a new start and not as a restart."""
        self.beside.power_on()
        for slot, found in self.slots.items():
            if found and found.wanted:
                again = Container(next(self._numbers), found.release, seen_well=found.seen_well)
                self._boot(slot, again)
