"""The modules of the host side, with the world in place of the operating system.

Only names of modules are exchanged (`os`, `time`, `Path` ...), and the three places where the code leaves Python:
HAProxy's socket, the container runtime and a slot's socket. Everything else is what runs on a real host.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import PurePosixPath
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from ansible_collections.slipway.fleet.plugins.module_utils import edge as edge_package
from ansible_collections.slipway.fleet.plugins.module_utils import release as release_package
from ansible_collections.slipway.fleet.plugins.module_utils.edge import haproxy
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge, EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.host import durable, ledger
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.files import Item
from ansible_collections.slipway.fleet.plugins.module_utils.release import lease as lease_module
from ansible_collections.slipway.fleet.plugins.module_utils.release import timers
from ansible_collections.slipway.fleet.plugins.module_utils.release.detach import Lost

from tests.simulation.disk import Disk, FcntlOf, OsOf, ShutilOf, TempfileOf, open_on

if TYPE_CHECKING:
    from tests.simulation.kernel import Kernel
    from tests.simulation.world import Host

EPOCH = 1_780_000_000.0


class Focus:
    """Whose code runs now: that of the kernel's current process, else (while a world is made) `host`'s."""

    kernel: Kernel | None = None
    host: Host | None = None


def focus() -> Host:
    """The host whose code runs now."""
    current = Focus.kernel.current if Focus.kernel else None
    found = current.host if current else Focus.host
    assert found is not None, "host code runs, and no host is in focus"
    return found


def _disk() -> Disk:
    return focus().disk


def _machine() -> str:
    return focus().name


class _PathMeta(type):
    def __call__(cls, *parts: Any) -> Any:
        return focus().path(*parts)

    def __instancecheck__(cls, instance: object) -> bool:
        return hasattr(instance, "disk")


class HostPath(metaclass=_PathMeta):
    """`Path` of the host in focus."""


# Seconds that machines run already when a story begins.
UP = 1000.0


class TimeOf:
    """`time` of the host in focus."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        return focus().wall()

    def monotonic(self) -> float:
        return focus().kernel.now

    def clock_gettime(self, _: int) -> float:
        return focus().kernel.now + UP

    def sleep(self, seconds: float) -> None:
        focus().pause(max(seconds, 0.001))


class DatetimeOf:
    """`datetime` of the host in focus."""

    fromisoformat = datetime.fromisoformat
    fromtimestamp = datetime.fromtimestamp

    @staticmethod
    def now(zone: Any = UTC) -> datetime:
        return datetime.fromtimestamp(focus().wall(), zone)


def open_here(path: Any, mode: str = "r", *_: Any, **__: Any) -> Any:
    return open_on(_disk(), str(path), mode)


REPLACED: dict[str, Any] = {
    "os": OsOf(_disk),
    "fcntl": FcntlOf(_disk),
    "tempfile": TempfileOf(_disk),
    "shutil": ShutilOf(_disk),
    "time": TimeOf(),
    "Path": HostPath,
    "datetime": DatetimeOf,
    "platform": SimpleNamespace(machine=lambda: "x86_64"),
}


def modules() -> list[ModuleType]:
    """All modules of the host side whose names are exchanged."""
    found = [durable, ledger]
    for package in (release_package, edge_package):
        found += [
            importlib.import_module(item.name)
            for item in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        ]
    return found


def run_detached(work: Any, log: Any, tell: Any, after: Any = lambda: None) -> Any:
    """A process of its own does the work; who asked waits for its answer, and may be gone by then."""
    host = focus()
    asker = host.kernel.current
    assert asker is not None
    answer: dict[str, Any] = {}
    name = asker.name

    def say(event: Any) -> None:
        if not asker.over and not asker.killed:
            tell(event)

    def life() -> None:
        try:
            child.result = work(say)
        except SlipwayError as error:
            child.error = error
        except Exception as error:
            host.world.tell(host.name, f"the detached process ended in {type(error).__name__}: {error}")
            raise
        answer.update(result=child.result, error=child.error)
        host.world.on_end(host, name, child.arguments, child)
        child.name = f"{name}, afterwards"
        asker.wake()
        after()

    def ended(process: Any) -> None:
        answer.setdefault("lost", True)
        asker.wake()

    child = host.spawn(f"{name}, detached", asker.owner, life, ended)
    child.arguments = asker.arguments
    asker.wait(lambda: bool(answer))
    if error := answer.get("error"):
        raise SlipwayError(str(error), error.details, error.kind)
    if "result" not in answer:
        raise Lost(f"the detached process ended without an answer; its output is in {log}")
    return answer["result"]


class FilesOf:
    """Staged files, each written as the real `files` does it: hidden beside, then renamed."""

    Place: Any = PurePosixPath

    @classmethod
    def parse(cls, files: Any, contents: Any) -> Any:
        return [
            Item(cls.Place(item["dest"]), content=contents[str(number)].encode()) for number, item in enumerate(files)
        ]

    @staticmethod
    def plan(items: Any, check_mode: bool) -> Any:
        return [
            SimpleNamespace(item=item, text=item.content.decode(), diff=[])
            for item in items
            if focus().peek(str(item.dest)) != item.content.decode()
        ]

    @staticmethod
    def apply(changes: Any) -> None:
        for change in changes:
            path = focus().path(change.item.dest)
            path.parent.mkdir(parents=True, exist_ok=True)
            durable.write_durably(path, change.text)


class RuntimesOf:
    """`Runtimes` of the host in focus, which is one and the same for all its processes."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return focus().docker


def _ask(self: Edge, command: str) -> str:
    host = focus()
    if "set server" in command or command.startswith(("set map", "add map")):
        host.effect(f"edge: {command}")
    else:
        host.pause(host.kernel.delay(0.001, 0.02))
    try:
        return host.edge.ask(command)
    except OSError as error:
        raise EdgeError(f"HAProxy does not answer on {self.admin_socket} ({error})") from error


@contextmanager
def _one_worker(self: Edge) -> Any:
    """A conversation with the worker that answers at its begin."""
    host = focus()
    host.pause(host.kernel.delay(0.001, 0.02))

    def ask(command: str) -> str:
        if "set server" in command:
            host.effect(f"edge: {command}")
        else:
            host.pause(host.kernel.delay(0.001, 0.02))
        return talk(command)

    try:
        talk = host.edge.conversation()
        yield ask
    except OSError as error:
        raise EdgeError(f"HAProxy does not answer on {self.admin_socket} ({error})") from error


def _probe(path: str, route: str, timeout: float, *_: Any) -> Any:
    host = focus()
    slot = path.split("/")[-2]  # /run/slipway/APP/SLOT/app.sock
    return host.docker.probe(slot, route, timeout)


def _probe_port(address: str, port: int, route: str, timeout: float, *_: Any) -> Any:
    host = focus()
    return host.docker.probe(host.ports[int(address.rpartition(":")[2])], route, timeout, by_port=True)


class Installed:
    """The world stands in for the operating system from `install` to `remove`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        """Exchange one attribute until `remove`."""
        missing = object()
        before = target.__dict__.get(name, missing)
        self._undo.append(lambda: delattr(target, name) if before is missing else setattr(target, name, before))
        setattr(target, name, value)

    def remove(self) -> None:
        while self._undo:
            self._undo.pop()()


def install() -> Installed:
    """Put the world in the place of the operating system."""
    done = Installed()
    for module in modules():
        for name, value in REPLACED.items():
            if name in module.__dict__:
                done.set(module, name, value)
        done.set(module, "open", open_here)
        if "Runtimes" in module.__dict__ and not module.__name__.endswith(".runtimes"):
            done.set(module, "Runtimes", RuntimesOf)
        for name, value in SPECIAL.items():
            if name in module.__dict__:
                done.set(module, name, value)
        if module.__name__.endswith(".wiring"):
            done.set(module, "get", _probe)
            done.set(module, "get_port", _probe_port)
        if module.__name__.endswith(".preflight"):
            done.set(module, "docker_problem", lambda: None)
            done.set(module, "edge_problem", str)
    done.set(Edge, "ask", _ask)
    done.set(Edge, "one_worker", _one_worker)
    done.set(haproxy, "parse_servers", lru_cache(4096)(haproxy.parse_servers))  # the same again and again
    put_on_disk(done)
    return done


def put_on_disk(done: Installed) -> None:
    """What is at a place of its own unless it is told another one is there on the host in focus."""
    begin, timed = lease_module.Lease.__init__, timers.Timers.__init__

    def at_place(self: Any, app: str, root: Any, directory: Any = None, *more: Any, **named: Any) -> None:
        begin(self, app, root, focus().path(str(directory or lease_module.LEASES)), *more, **named)

    def with_units(self: Any, app: str, store: Any, here: bool = True, host: str = "", execute: Any = None) -> None:
        units, stamps = map(focus().path, ("/etc/systemd/system", "/var/lib/systemd/timers"))
        timed(self, app, store, here, host, execute, units, stamps)

    done.set(lease_module.Lease, "__init__", at_place)
    done.set(timers.Timers, "__init__", with_units)


SPECIAL: dict[str, Any] = {
    "machine": _machine,
    "free_mib": lambda root: _disk().free >> 20,
    "certificate_days": lambda path: None,
    "run_detached": run_detached,
    "files": FilesOf,
    "exposed_by": lambda image: [],
    "image_there": lambda image, check_mode: {"image": image},
}
