"""A fleet in memory, with a clock that waits for nobody: what the coordinator's tests run against."""

from __future__ import annotations

import asyncio
import re
import selectors
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import coordinator
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    Commands,
    Event,
    FleetReport,
    Host,
    Identity,
    Policy,
    Refused,
    Result,
    Target,
    Unreachable,
    Watch,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Linter

T = TypeVar("T")
RUN = {"id": "run-1", "who": "ann", "from": "desk", "what": "a deploy"}
PHASES = (("start", 1.0), ("gate", 2.0), ("switch", 0.5), ("drain", 1.5))
SWITCHED_AT = 2  # the phase after which the new release serves
GONE = Unreachable("timed out")


class Loop(asyncio.SelectorEventLoop):
    """Time goes on when nothing else is to be done, to where something is."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._now = 1000.0
        self.moments: list[float] = []  # at which something went on
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def _jump(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits, and nothing is going to happen"
        if timeout > 0:
            self._now += timeout
            self.moments.append(self._now)
        return []


class LoopClock:
    """The loop's own time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def drive(work: Coroutine[Any, Any, T], cancel_at: Sequence[float] = (), moments: list[float] | None = None) -> T:
    """The result of the work on a loop of its own, cancelled at these times; `moments` gets all those there were.

    What it left behind goes on for an hour at most.
    """
    loop = Loop()
    task = loop.create_task(work)
    for at in cancel_at:
        loop.call_at(at, task.cancel)
    try:
        return loop.run_until_complete(task)
    finally:
        if moments is not None:
            moments += loop.moments
        if left := [task for task in asyncio.all_tasks(loop) if not task.done()]:
            _, hanging = loop.run_until_complete(asyncio.wait(left, timeout=3600))
            for one in hanging:
                one.cancel()
                loop.run_until_complete(asyncio.wait([one]))
        loop.close()


@dataclass
class Fault:
    """What happens instead of an answer, or after the work was done nevertheless (`late`); `times` often."""

    error: Exception
    late: bool = False
    times: int = 1


@dataclass
class MemoryHost:
    """One host: what it serves, who holds it, what it was asked, and what goes wrong."""

    name: str
    serving: str | None = "old"
    good: list[str] = field(default_factory=lambda: ["older", "old"])
    gone: set[str] = field(default_factory=set)  # releases whose image is gone
    bad: set[str] = field(default_factory=set)  # releases that do not get healthy here
    problems: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)
    schemas: dict[str, str] = field(default_factory=dict)
    staged: set[str] = field(default_factory=set)
    holder: str = ""
    busy: str = ""
    machine: str = ""  # its own where nothing is said
    frees_in: list[float] = field(default_factory=list)  # of a dead run's lease, for each look
    calls: list[tuple[str, Result]] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    hooks: dict[str, Callable[[], None]] = field(default_factory=dict)  # done before a verb's own work
    answers: dict[str, Result] = field(default_factory=dict)  # laid over what a verb answers
    hangs: bool = False  # nothing that it is asked ever ends
    under_way: int = 0
    aside: list[asyncio.Task[Result]] = field(default_factory=list)

    @property
    def verbs(self) -> list[str]:
        """What it was asked, without signs of life."""
        return [verb for verb, _ in self.calls if verb != "renew"]

    def asked(self, verb: str) -> list[Result]:
        return [arguments for name, arguments in self.calls if name == verb]

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[Result], None] | None = None
    ) -> Result:
        self.calls.append((verb, dict(arguments)))
        self.under_way += 1
        try:
            return await self._answer(verb, arguments, on_event or (lambda event: None))
        finally:
            self.under_way -= 1

    async def _answer(self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[Result], None]) -> Result:
        await asyncio.sleep(0.01)
        if hook := self.hooks.pop(verb, None):
            hook()
        if self.hangs:
            await asyncio.sleep(7200)
        fault = self._fault(verb)
        if fault and not fault.late:
            raise fault.error
        if verb not in ("look", "hold", "let_go") and self.holder != arguments["run_id"]:
            if verb == "renew":
                return {"held": False}
            if not arguments.get("check_mode"):
                raise Refused("another run holds the app", "fenced")
        work = asyncio.ensure_future(getattr(self, f"_{verb}")(arguments, on_event))
        self.aside.append(work)
        if fault:
            await asyncio.sleep(0.5)
            raise fault.error
        return {**await asyncio.shield(work), **self.answers.get(verb, {})}

    def _fault(self, verb: str) -> Fault | None:
        fault = self.faults.get(verb)
        if fault is None or fault.times <= 0:
            return None
        fault.times -= 1
        return fault

    def _now(self) -> Result:
        serving = {"release": self.serving, "slot": "blue"} if self.serving else None
        state = {"release": self.good[-1]} if self.good else None
        return {"serving": serving, "state": state, "drift": list(self.drift)}

    def _record(self, release: str) -> Result:
        schema, there = self.schemas.get(release, ""), release not in self.gone
        return {"release": release, "migration": schema, "image": f"app:{release}", "there": there}

    async def _look(self, arguments: Mapping[str, Any], _: Any) -> Result:
        wanted = arguments["release"]
        frees_in = self.frees_in.pop(0) if self.frees_in else 0
        return {
            **self._now(),
            "problems": list(self.problems) or ["a run that seems to be gone holds it"] * bool(frees_in),
            "release": wanted,
            "settled": bool(wanted) and wanted == self.serving and not self.drift,
            "good": [self._record(release) for release in self.good],
            "migration": self.schemas.get(self.serving or "", ""),
            "free_mib": 5000,
            "image": f"app:{self.serving}",
            "release_image": "app:new",
            "busy": self.busy,
            "machine": self.machine or f"the machine of {self.name}",
            "frees_in": frees_in,
        }

    async def _hold(self, arguments: Mapping[str, Any], _: Any) -> Result:
        if self.holder not in ("", arguments["run_id"]):
            raise Refused(f"a deploy by bob is under way since noon on {self.name}", "held", {"seconds": 90})
        self.holder = arguments["run_id"]
        return {"taken_over": None, **self._now()}

    async def _renew(self, arguments: Mapping[str, Any], _: Any) -> Result:
        return {"held": True}

    async def _stage(self, arguments: Mapping[str, Any], _: Any) -> Result:
        if not arguments["check_mode"]:
            self.staged.add(arguments["release"])
        diff = [{"before": "a", "after": "b"}] if arguments["diff"] else []
        return {"changed": True, "changed_paths": [], "diff": diff}

    async def _run(self, arguments: Mapping[str, Any], _: Any) -> Result:
        await asyncio.sleep(2)
        return {"rc": 0, "stdout": 'done\n{"migration": {"to": "0003"}}\n', "stderr": "", "release": "new"}

    async def _activate(self, arguments: Mapping[str, Any], on_event: Callable[[Result], None]) -> Result:
        wanted, expects, was = arguments["release"], arguments["expects"], self.serving
        if expects is not None and (was or "") != expects:
            raise Refused(f"{was} serves, expected was {expects}", "fenced")
        if was == wanted and not arguments["restart"]:
            return {"changed": False, "release": wanted, "was": was, "phases": []}
        return await self._go(wanted, on_event)

    async def _go(self, wanted: str, on_event: Callable[[Result], None]) -> Result:
        """The transaction, which goes on whoever waits for it."""
        was, phases, at = self.serving, [], 0.0
        self.busy = wanted
        try:
            for number, (phase, seconds) in enumerate(PHASES):
                on_event({"phase": phase, "at": at})
                await asyncio.sleep(seconds)
                phases.append({"phase": phase, "at": at, "seconds": seconds})
                on_event(phases[-1])
                at += seconds
                if phase == "gate" and wanted in self.bad:
                    details = {"cause": "not ready within 2 s", "phases": phases}
                    raise Refused(f"release {wanted} was refused: not ready within 2 s\nlog", "release", details)
                if number == SWITCHED_AT:
                    self.serving = wanted
        finally:
            self.busy = ""
        there = self.good.index(wanted) if wanted in self.good else len(self.good)
        self.good = [*self.good[:there], wanted]
        return {"changed": True, "release": wanted, "was": was, "slot": "green", "phases": phases}

    async def _settle(self, arguments: Mapping[str, Any], on_event: Callable[[Result], None]) -> Result:
        while self.busy:
            await asyncio.sleep(0.1)
        if self.serving == arguments["return_to"]:
            return {"changed": False, "phases": [], "now": self._now()}
        return {**await self._go(arguments["return_to"], on_event), "now": self._now()}

    async def _give_up(self, arguments: Mapping[str, Any], _: Any) -> Result:
        await asyncio.sleep(1)
        return {"changed": True}

    async def _let_go(self, arguments: Mapping[str, Any], _: Any) -> Result:
        if self.holder == arguments["run_id"]:
            self.holder = ""
        return {"now": self._now()}

    async def send(self, file: Path) -> str:
        return f"/tmp/{file.name}"

    async def fetch(self, remote: str, local: Path) -> None:
        raise Refused("no such file")

    async def close(self) -> None:
        pass


@dataclass
class MemoryContent:
    """An image, and how often it was asked for what."""

    identity: Identity = field(default_factory=lambda: Identity("app:new", "new", ("amd64",)))
    calls: list[str] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    known: str = "new"  # what a host says that it is
    path: Path | None = None

    async def _done(self, what: str) -> None:
        self.calls.append(what)
        await asyncio.sleep(0.01)
        if error := self.faults.get(what.partition(" ")[0]):
            raise error

    async def identify(self) -> Identity:
        await self._done("identify")
        return self.identity

    async def look(self, host: Host) -> Result:
        await self._done(f"look {host.name}")
        return {"layers": []}

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        await self._done(f"prepare {' '.join(seen)}")
        return True

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        await self._done(f"put {host.name}")
        return Identity(self.identity.reference, self.known), True

    async def bill(self) -> Path | None:
        await self._done("bill")
        return self.path


@dataclass
class Fleet:
    """Hosts and what they are to serve."""

    hosts: list[MemoryHost]
    content: MemoryContent = field(default_factory=MemoryContent)
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)  # what differs from the usual, by host
    usual: dict[str, Any] = field(default_factory=dict)
    other_contents: dict[str, MemoryContent] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    watch: Watch | None = None
    commands: Commands | None = None
    release: str = ""
    savers: dict[str, Any] = field(default_factory=dict)
    linter: Linter | None = None
    # What the controller knows to be pending; None without a source.
    pending: Callable[[str], list[str]] | None = field(default=lambda since: [f"after {since}"])

    def host(self, name: str) -> MemoryHost:
        return next(host for host in self.hosts if host.name == name)

    def target(self, name: str) -> Target:
        values: dict[str, Any] = {
            "host": name,
            "place": {"app": "app", "root": "/opt/slipway/app"},
            "look": {"runtime": "compose"},
            "activate": {"drain": 10.0, "soak": 5.0, "about": {"revision": "r1"}},
            "files": [{"dest": "/opt/slipway/app/releases/@@slipway-release@@/compose.yaml"}],
            "contents": {"0": "image: @@slipway-reference@@"},
            "config": "config",
            "check": ["check"],
            "migrate": ["migrate"],
            "rollback_check": ["safe-for"],
            "release": self.release,
        }
        return Target(**{**values, **self.usual, **self.targets.get(name, {})})

    def begin(self, operation: str = "deploy", **policy: Any) -> Coroutine[Any, Any, FleetReport]:
        values = {"batches": [1, "100%"], **policy}
        return coordinator.run(
            Policy(operation=operation, run=RUN, **values),
            [self.target(host.name) for host in self.hosts],
            {host.name: host for host in self.hosts},
            {host.name: self.content for host in self.hosts} | self.other_contents if operation == "deploy" else {},
            lambda content, config: content,
            self.events.append,
            LoopClock(),
            self.watch,
            self.pending,
            self.savers,
            self.commands,
            self.linter,
        )

    def run(self, operation: str = "deploy", **policy: Any) -> FleetReport:
        report = drive(self.begin(operation, **policy))
        says_what_is_true(report)
        return report

    @property
    def serving(self) -> list[str | None]:
        return [host.serving for host in self.hosts]

    def told(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]


def fleet(count: int = 3, **hosts: Any) -> Fleet:
    """So many hosts that serve the old release; keywords are attributes of all of them."""
    return Fleet([MemoryHost(f"web{number}", **hosts) for number in range(1, count + 1)])


def says_what_is_true(report: FleetReport) -> None:
    """That nothing was changed is told once at most, and never where something was."""
    assert len(re.findall("nothing was (?:changed|switched|done)", report.message)) <= 1, report.message
    assert not (report.changed and "nothing was changed" in report.message), report.message


def outcomes(report: FleetReport) -> list[str]:
    return [row["outcome"] for row in report.rows]
