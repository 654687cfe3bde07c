"""The world of one story: hosts, what connects them to controllers, and the database they share. Times in seconds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.agent.verbs import WHEN_LEFT
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import slot_ports
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.simulation.disk import Disk, DiskPath
from tests.simulation.edge import CHECKS_FILE, PATH, SLOTS, STATE_FILE, HAProxy
from tests.simulation.kernel import Kernel, Killed, Process
from tests.simulation.loop import Loop
from tests.simulation.shims import EPOCH, Focus
from tests.simulation.slots import Docker

APP = "links"
ROOT = f"/opt/slipway/{APP}"
LEASE = f"/run/slipway/locks/{APP}.json"
PLACE: dict[str, Any] = {
    "app": APP,
    "root": ROOT,
    "socket_directory": f"/run/slipway/{APP}",
    "gate": {"path": PATH, "version_path": "/version", "passes": 3, "interval": 1.0, "timeout": 5.0, "deadline": 30.0},
    "edge": {"socket": "/run/haproxy/admin.sock", "backend": f"app_{APP}", "state_file": STATE_FILE},
}  # fmt: skip
DIRECTORIES = (f"{ROOT}/releases", "/run/slipway/locks", "/run/haproxy", "/var/lib/haproxy", "/var/lib/docker", "/tmp")


class Database:
    """The one that all hosts share: which migrations run and ran."""

    def __init__(self) -> None:
        self.running: list[tuple[str, str, str]] = []  # host, release, run
        self.done: list[tuple[str, str]] = []  # release, run
        self.beside: list[str] = []  # migrations that ran beside another one, as sentences


class Host:
    """One host. `on_change` hears of everything that may change what users get."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.kernel: Kernel = world.kernel
        self.name = name
        self.up = True
        self.clock_offset = 0.0
        self.processes: list[Process] = []
        self.links: list[Link] = []
        self.effects = 0
        self.hurt_at = -1e9  # when the last fault hit it
        self.service: list[str] = []
        self.disk = Disk(self.wall, self.effect, lambda: self.kernel.current)
        self.path = type(f"PathOn_{name}", (DiskPath,), {"disk": self.disk, "__slots__": ()})
        self.docker = Docker(self.kernel, self.effect, self.pause, self.slot_changed, self.image_of)
        self.ports = {port: slot for slot, port in slot_ports(APP).items()}
        self.docker.begin_oneoff = self.begin_oneoff
        self.edge = HAProxy(
            self.kernel,
            f"app_{APP}",
            self.docker.edge_gets_answer,
            self._saved,
            self.changed,
            self._seen_well,
            lambda: self.peek(CHECKS_FILE) or "",
            self._knows,
            lambda slot: self.docker.port(slot) > 0,
        )
        for directory in DIRECTORIES:
            self.disk.put(f"{directory}/.keep", "")
            self.disk.unlink(f"{directory}/.keep")
            self.disk.durable[directory].clear()

    def wall(self) -> float:
        """Its clock, in seconds since the epoch."""
        return EPOCH + self.kernel.now + self.clock_offset

    # Called by host code.
    def effect(self, what: str) -> None:
        """Before anything is changed here: others may go on first, or the world may end."""
        process = self.kernel.current
        if process is None:
            return
        if process.killed:
            raise Killed
        self.effects += 1
        self.world.before_effect(self, process, what)
        process.sleep(self.kernel.delay(0.0005, 0.02))
        self.world.at_effect(self, process, what)

    def pause(self, seconds: float) -> None:
        process = self.kernel.current
        if process is not None:
            process.sleep(seconds)

    # What users get.
    def now_serving(self) -> list[str]:
        """The releases that answer requests well at this moment."""
        return [
            found.release
            for slot in SLOTS
            if (found := self.docker.slots[slot]) and self.edge.gets_requests(slot) and self.docker.answers(slot)
        ]

    def changed(self) -> None:
        """Something that users may feel has changed."""
        before, self.service = self.service, self.now_serving() if self.up else []
        self.world.service_changed(self, before)

    def slot_changed(self, slot: str) -> None:
        found = self.docker.slots[slot]
        if found:
            if self.docker.answers(slot):
                found.well = True
            elif found.well:
                found.well, found.well_until = False, self.kernel.now
        self.edge.health_changed(slot)
        self.changed()

    def _seen_well(self, slot: str) -> None:
        if found := self.docker.slots[slot]:
            found.seen_well = True

    def _knows(self, slot: str, path: str) -> bool:
        found = self.docker.slots[slot]
        return bool(found and self.docker.path_of(found.release) == path)

    def _saved(self) -> str:
        return self.peek(STATE_FILE) or ""

    def peek(self, path: str) -> str | None:
        """What is in a file, None where there is none; no process of the host looks."""
        try:
            return self.disk.inode(path).data.decode(errors="replace")
        except OSError:
            return None

    def image_of(self, release: str) -> str | None:
        """The image that a staged release names."""
        text = self.peek(f"{ROOT}/releases/{release}/compose.yaml")
        return text.partition("image: ")[2].strip() if text else None

    def begin_oneoff(self, release: str, words: list[str]) -> tuple[float, Callable[[], None]]:
        """A container of its own for one command begins; how long it lasts, and what to call when it has ended."""
        process, database = self.kernel.current, self.world.database
        if "migrate" not in words or process is None:
            return self.kernel.delay(0.1, 1.0), lambda: None
        entry = (self.name, release, process.owner)
        if database.running:
            database.beside.append(f"{release} on {self.name} beside {database.running[0][1]}")
        database.running.append(entry)
        self.world.tell(self.name, f"{process.owner} begins to migrate for {release}")
        begun, lasting = self.kernel.now, self.world.migration_lasts(release)

        def end() -> None:
            database.running.remove(entry)
            if self.kernel.now >= begun + lasting:
                database.done.append((release, process.owner))

        return lasting, end

    # Processes.
    def spawn(self, name: str, owner: str, work: Callable[[], Any], ended: Callable[[Process], None]) -> Process:
        """Start a process; `owner` is the run on whose behalf it acts."""

        def over(process: Process) -> None:
            self.disk.released(process)
            if process in self.processes:
                self.processes.remove(process)
            ended(process)

        process = Process(self.kernel, name, work, over)
        process.owner = owner
        process.host = self
        self.processes.append(process)
        return process

    def kill(self, processes: list[Process]) -> None:
        for process in list(processes):
            process.kill()

    # What happens to it.
    def crash(self) -> None:
        """Lose power: every process is gone, and of the disk what was not synced; start again after a while."""
        if not self.up:
            return
        self.up = False
        self.edge.stop()
        self.docker.power_cut()
        for slot in SLOTS:
            self.slot_changed(slot)
        self.kill(self.processes)
        self.disk.power_cut(lambda: self.kernel.random.random() < 0.5)
        self.kernel.after(self.kernel.delay(10.0, 60.0), self.boot)
        for link in self.links:
            link.hang_up("the channel broke")

    def boot(self) -> None:
        self.up = True
        self.docker.power_on()
        self.edge.start()
        self.world.tell(self.name, "is up again")
        self.hurt_at = self.kernel.now
        self.changed()

    def restart_edge(self) -> None:
        self.edge.stop()
        self.kernel.after(self.kernel.delay(0.1, 1.5), lambda: self.edge.start() if self.up else None)

    def restart_docker(self, seconds: float) -> None:
        self.docker.away_until = self.kernel.now + seconds


class Link:
    """The way from one controller to one host. Messages take time; each direction can be cut."""

    def __init__(self, world: World, loop: Loop, host: Host) -> None:
        self.world = world
        self.kernel = world.kernel
        self.loop = loop
        self.host = host
        self.down_until = 0.0  # nothing gets there
        self.deaf_until = 0.0  # nothing comes back
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.processes: list[Process] = []
        self.when_left: dict[str, dict[str, Any]] = {}  # what the agent does when it is left: arguments by verb
        self.waited_for: list[tuple[list[Process], dict[str, dict[str, Any]]]] = []  # by agents that were left
        self.hanging_up = False
        self._number = 0
        host.links.append(self)

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[Any], None] | None
    ) -> dict[str, Any]:
        """The result of a verb there. Raises Unreachable and Refused."""
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting[number] = future
        arguments = self._over_the_wire(dict(arguments))

        def answer(message: dict[str, Any]) -> None:
            said = message if "event" in message else self._over_the_wire(message)
            if self.kernel.now >= self.deaf_until and self.kernel.now >= self.down_until:
                self._later(self.kernel.delay(0.002, 0.05), lambda: self._arrives(number, said, on_event))

        def asked() -> None:
            if self.host.up and self.kernel.now >= self.down_until:
                self.host.world.serve(self, verb, arguments, answer)
            elif number in self.waiting:
                self._later(self.kernel.delay(0.05, 10.0), lambda: self._lost(number, "no route to host"))

        if self.kernel.now < self.deaf_until:
            self._later(self.kernel.delay(1.0, 15.0), lambda: self._lost(number, "timed out"))
        self.kernel.after(self.kernel.delay(0.002, 0.05), asked)
        return await future  # type: ignore[no-any-return]

    def _over_the_wire(self, message: dict[str, Any]) -> dict[str, Any]:
        """What is left of a message as JSON; in every eighth story, since it takes its time."""
        if self.world.seed % 8:
            return message
        found: dict[str, Any] = json.loads(json.dumps(message))
        return found

    def _arrives(self, number: int, said: dict[str, Any], on_event: Callable[[Any], None] | None) -> None:
        """A message of the host to the controller: an event, or the answer."""
        future = self.waiting.get(number)
        if self.loop.dead or future is None or future.done():
            return
        if "event" in said:
            if on_event:
                on_event(said["event"])
            return
        del self.waiting[number]
        if "error" in said:
            future.set_exception(Refused(said["error"], said["kind"], said["details"]))
        else:
            future.set_result(said["result"])

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        """Something arrives at the controller; one that is paused gets it when it goes on."""

        def due() -> None:
            if not self.loop.dead:
                self.loop.call_soon(do)

        self.kernel.after(seconds, due)

    def _lost(self, number: int, why: str) -> None:
        future = self.waiting.pop(number, None)
        if future and not future.done() and not self.loop.dead:
            future.set_exception(Unreachable(f"{self.host.name}: {why}"))

    def cut(self, seconds: float, deaf: bool = False) -> None:
        """Nothing gets through for `seconds` (or nothing comes back); who waits learns of it after a while."""
        if deaf:
            self.deaf_until = max(self.deaf_until, self.kernel.now + seconds)
        else:
            self.down_until = max(self.down_until, self.kernel.now + seconds)
        self.hang_up("the channel broke", left=True)

    def hang_up(self, why: str, left: bool = False) -> None:
        """The channel ends: who waits learns of it after a while, and the agent ends now or with what it does.

        One that is `left` without a word sees that after a while, too.
        """
        self.hanging_up = True
        for number in list(self.waiting):
            self._later(self.kernel.delay(0.05, 20.0), lambda number=number: self._lost(number, why))  # type: ignore[misc]
        if self.kernel.random.random() < 0.5:
            self.host.kill([process for process in self.processes if not process.over])
        elif left and self.host.up:
            self._be_left(self.when_left, [process for process in self.processes if not process.over])
        self.when_left = {}  # the next channel has an agent of its own
        self.hanging_up = False

    def _be_left(self, verbs: dict[str, dict[str, Any]], waits_for: list[Process]) -> None:
        """The agent does what it does without a controller: at once, and again when its last verb has ended."""
        self.kernel.after(self.kernel.delay(0.05, 20.0), lambda: self.host.world.be_left(self.host, verbs))
        if waits_for:
            self.waited_for.append((waits_for, verbs))

    def ended(self, process: Process) -> None:
        """One of its verbs has ended."""
        if process in self.processes:
            self.processes.remove(process)
        for entry in [entry for entry in self.waited_for if process in entry[0]]:
            entry[0].remove(process)
            if not entry[0]:
                self.waited_for.remove(entry)
                self.host.world.be_left(self.host, entry[1])

    def mend(self) -> None:
        self.down_until = self.deaf_until = 0.0


class SimHost:
    """`Host` of parts.py, as a coordinator gets it."""

    def __init__(self, link: Link) -> None:
        self.name = link.host.name
        self.link = link

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[Any], None] | None = None
    ) -> dict[str, Any]:
        return await self.link.call(verb, arguments, on_event)

    async def send(self, file: Path) -> str:
        await self.link.call("shown", {"place": PLACE}, None)
        return f"/tmp/{file.name}"

    async def fetch(self, remote: str, local: Path) -> None:
        await self.link.call("shown", {"place": PLACE}, None)

    async def close(self) -> None:
        self.link.hang_up("closed")


class Controller:
    """A machine that runs a coordinator: its loop and its links."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.loop = Loop(world.kernel, name)
        self.links = {host.name: Link(world, self.loop, host) for host in world.hosts.values()}
        self.hosts = {name: SimHost(link) for name, link in self.links.items()}

    def kill(self) -> None:
        self.loop.kill()
        for link in self.links.values():
            link.waiting.clear()
            link.hang_up("the controller is gone", left=True)


class World:
    """Everything of one story."""

    def __init__(self, seed: int, hosts: int, calm: bool = False) -> None:
        self.kernel = Kernel(seed, calm)
        self.seed = seed
        Focus.kernel, Focus.host = self.kernel, None
        self.story: list[tuple[float, str, str]] = []
        self.database = Database()
        self.controllers: list[Controller] = []
        self.verbs: Mapping[str, Callable[..., dict[str, Any]]] = {}
        self.before_effect: Callable[[Host, Process, str], None] = lambda host, process, what: None
        self.at_effect: Callable[[Host, Process, str], None] = lambda host, process, what: None
        self.service_changed: Callable[[Host, list[str]], None] = lambda host, before: None
        self.on_end: Callable[[Host, str, dict[str, Any], Process], None] = lambda host, verb, arguments, process: None
        self.on_verb: Callable[[Host, str, dict[str, Any]], None] = lambda host, verb, arguments: None
        self.migration_lasts: Callable[[str], float] = lambda release: 1.0
        self.hosts: dict[str, Host] = {}
        for number in range(1, hosts + 1):
            self.hosts[f"web{number}"] = Host(self, f"web{number}")

    def tell(self, who: str, what: str) -> None:
        """A line of the story."""
        self.story.append((self.kernel.now, who, what))

    def controller(self, name: str) -> Controller:
        found = Controller(self, name)
        self.controllers.append(found)
        return found

    def serve(self, link: Link, verb: str, arguments: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        """What the agent of a host does with a request."""
        host = link.host
        self.on_verb(host, verb, arguments)
        owner = owner_of(arguments)
        if verb in WHEN_LEFT:
            link.when_left[WHEN_LEFT[verb]] = arguments

        def work() -> dict[str, Any]:
            if verb in ("image", "package"):
                return have_image(host, arguments)
            return self.verbs[verb](arguments, lambda event: answer({"event": event}))

        def ended(process: Process) -> None:
            link.ended(process)
            if verb == "let_go":
                self.on_end(host, verb, arguments, process)
            if process.killed:
                if not link.hanging_up:
                    link.hang_up("the agent is gone")
                return
            if process.error is None:
                answer({"result": process.result})
            else:
                error = process.error
                if not isinstance(error, SlipwayError):
                    self.tell(host.name, f"{verb} ended in {type(error).__name__}: {error}")
                answer(_refusal(error))

        process = host.spawn(verb, owner, work, ended)
        process.arguments = arguments
        link.processes.append(process)

    def be_left(self, host: Host, verbs: dict[str, dict[str, Any]]) -> None:
        """What an agent does by itself."""
        for verb, arguments in verbs.items():
            if host.up:
                self._by_itself(host, verb, arguments)

    def _by_itself(self, host: Host, verb: str, arguments: dict[str, Any]) -> None:
        work = self.verbs[verb]
        host.spawn(verb, owner_of(arguments), lambda: work(arguments, lambda event: None), lambda process: None)

    def close(self) -> None:
        """End everything that is left, so that nothing of this story outlives it."""
        self.before_effect = self.at_effect = lambda host, process, what: None
        self.service_changed = lambda host, before: None
        self.on_end = lambda host, verb, arguments, process: None
        for host in self.hosts.values():
            for process in list(host.processes):
                process.kill()
        for controller in self.controllers:
            controller.loop.tear_down()


def owner_of(arguments: Mapping[str, Any]) -> str:
    """The run on whose behalf a verb is asked."""
    return str(arguments.get("run_id") or (arguments.get("run") or {}).get("id") or "")


def _refusal(error: Exception) -> dict[str, Any]:
    kind = getattr(error, "kind", "failed")
    details = getattr(error, "details", {})
    return {"error": str(error), "kind": kind, "details": details}


def have_image(host: Host, arguments: dict[str, Any]) -> dict[str, Any]:
    """The verb `image`, as far as the simulation's own Content needs it."""
    image = arguments["image"]
    if image in host.docker.images:
        return {"changed": False}
    host.effect(f"load image {image}")
    host.disk.fail("write", "/var/lib/docker/image")
    host.pause(host.kernel.delay(0.1, 1.0))
    host.docker.images.add(image)
    return {"changed": True}
