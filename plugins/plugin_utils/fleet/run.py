# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the steps of a run share: its hosts, how they are asked, why it is to stop, and what is told of it."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Optional, TypeVar

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    Clock,
    Commands,
    Content,
    ContentError,
    Event,
    Host,
    Identity,
    Policy,
    Refused,
    Result,
    Target,
    Tell,
    Unreachable,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import (
    DOUBT,
    FAILED,
    UNREACHABLE,
    Part,
    Trouble,
)

T = TypeVar("T")
# From the schema revision that is there to those that a release brings besides, oldest first.
Pending = Callable[[str], Sequence[str]]
# What else there is to know of pending revisions, by their SQL and SQLAlchemy's name of the database: {found, lacks}.
Linter = Callable[[Sequence[Mapping[str, Any]], str], Result]

# Seconds between two questions to a host that went away or is busy.
PAUSE = 2.0


@dataclass(kw_only=True)
class Member(Part):
    """One host of a run: what it is to serve, how it is asked, and what is known of its part."""

    target: Target
    host: Host
    content: Optional[Content] = None
    identity: Optional[Identity] = None
    seen: Result = field(default_factory=dict)  # what `look` said
    expects: Optional[str] = None  # see verb activate
    asked_to_hold: bool = False
    held: bool = False  # as far as this run knows
    away: bool = False  # it was asked again for long enough without an answer
    in_doubt: bool = False  # a transaction may be under way there that nobody has waited for
    switched: bool = False  # its transaction changed something
    untouched: bool = False  # its turn ended before the host was asked for anything
    gave_up: bool = False  # it ended its singletons, since another host was to start them
    tends: bool = False  # it sees to its processes when it is let go


class Stopped(Exception):
    """The run ends before anything was switched; the text is for people, with all that is wrong and what to do."""


class TooLate(Exception):
    """What was waited for did not come in time."""


async def before(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled where the event comes first. Raises TooLate then."""
    if event.is_set():
        work.close()
        raise TooLate
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait([task, alarm], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TooLate
    finally:
        alarm.cancel()
        if not task.done():
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, which is cancelled after so many seconds. Raises TooLate then."""
    over = asyncio.Event()

    async def ring() -> None:
        await clock.sleep(seconds)
        over.set()

    timer = asyncio.ensure_future(ring())
    try:
        return await before(over, work)
    finally:
        timer.cancel()


def trouble_of(error: BaseException) -> Trouble:
    """What an exception of a host's task means; one that nobody expected is a failure as well."""
    if isinstance(error, Unreachable):
        return Trouble(UNREACHABLE, f"cannot be reached: {error}", kind=DOUBT)
    # What was changed is told by the run, which knows of all hosts.
    message = str(error).removeprefix("nothing was changed; ").removeprefix("nothing was done: ")
    if isinstance(error, Refused):
        lines = message.splitlines() or [f"refused ({error.kind})"]
        return Trouble(FAILED, str(error.details.get("cause") or lines[0]), message, error.kind)
    if isinstance(error, ContentError):
        return Trouble(FAILED, (message.splitlines() or ["no reason given"])[0], message)
    if isinstance(error, (TooLate, asyncio.CancelledError)):
        return Trouble(FAILED, "was not waited for any longer; what is under way there ends by itself", kind=DOUBT)
    cause = f"failed in an unexpected way, {type(error).__name__}: {(message.splitlines() or [''])[0]}"
    return Trouble(FAILED, cause, "".join(traceback.format_exception(error)), DOUBT)


@dataclass
class Run:
    """One run over the fleet."""

    policy: Policy
    members: list[Member]
    clock: Clock
    teller: Tell
    release_id: Callable[[str, str], str]
    savers: Mapping[str, Host] = field(default_factory=dict)  # those that back the database up, by name
    pending: Optional[Pending] = None
    commands: Optional[Commands] = None
    linter: Optional[Linter] = None
    began: float = 0.0
    changed: bool = False  # whether anything on any host is not as it was
    plan: str = ""
    diff: list[Result] = field(default_factory=list)
    reason: str = ""  # why no further host is begun; empty while all is well
    undecided: bool = False  # nobody can tell whether the release is worse, and that is to hold the fleet
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    # The patience with an interrupted run is over: for turns that were begun, and for all else.
    turns_late: asyncio.Event = field(default_factory=asyncio.Event)
    late: asyncio.Event = field(default_factory=asyncio.Event)
    _limit: Optional[asyncio.Semaphore] = None
    _patience: Optional[asyncio.Future[None]] = None

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        self._limit = asyncio.Semaphore(max(self.policy.at_once, 1))

    @property
    def changing(self) -> list[Member]:
        """The hosts that are not left alone."""
        return [member for member in self.members if not member.settled]

    @property
    def since(self) -> str:
        """The schema revision that a migration begins at: of the first host that has one, those that change first.

        A host that is new has none, whose name may be the first. Empty where no host has one.
        """
        members = [*self.changing, *self.members]
        return next((str(member.seen["migration"]) for member in members if member.seen.get("migration")), "")

    @property
    def fell_short(self) -> bool:
        """Whether the roll ended before every host that was to change was good."""
        return any(member.trouble or not member.rolled for member in self.changing)

    @property
    def keeps(self) -> bool:
        """Whether hosts that have switched are left on the new release when the roll falls short."""
        return self.policy.on_failure == "hold" or (self.undecided and not any(one.trouble for one in self.members))

    def stop(self, reason: str) -> None:
        """Begin no further host. The first reason counts."""
        self.reason = self.reason or reason
        self.stopping.set()

    def interrupt(self) -> None:
        """End in order, within the patience of the policy; half of it is kept for taking hosts back."""

        async def be_late() -> None:
            for event in (self.turns_late, self.late):
                await self.clock.sleep(self.policy.patience / 2)
                event.set()

        self.stop("the run was interrupted")
        self._patience = self._patience or asyncio.ensure_future(be_late())

    def over(self) -> None:
        """Nothing is waited for any more."""
        if self._patience:
            self._patience.cancel()

    def refuse_when_stopped(self) -> None:
        """Raise Stopped where the run is to end before the roll."""
        if self.stopping.is_set():
            raise Stopped(f"{self.so_far}; {self.reason}")

    @property
    def so_far(self) -> str:
        """How a message begins that ends the run before anything was switched."""
        return "nothing was switched" if self.changed else "nothing was changed"

    def begin(self, part: str) -> None:
        """Tell which part of the run begins now."""
        self.tell("part", name=part)

    def tell(self, kind: str, member: Optional[Member] = None, **about: Any) -> None:
        """A run goes on whatever is wrong with those who are told."""
        self.tell_of(kind, member.name if member else "", about)

    def tell_of(self, kind: str, host: str, about: Result) -> None:
        """Likewise of a host that is none of the run's."""
        with suppress(Exception):
            self.teller(Event(kind, self.clock.now(), host, about))

    async def ask(
        self, member: Member, verb: str, on_event: Optional[Callable[[Result], None]] = None, **arguments: Any
    ) -> Result:
        """The answer of a host. Raises Unreachable and Refused."""
        common = {"place": member.target.place, "run_id": str(self.policy.run.get("id", ""))}
        return await member.host.call(verb, {**common, **arguments}, on_event)

    async def ask_again(
        self, member: Member, verb: str, on_event: Optional[Callable[[Result], None]] = None, **arguments: Any
    ) -> Result:
        """The answer of a host that may be away for a while. Raises Refused, and Unreachable where it stays away.

        One that stayed away before is asked once.
        """
        patience: Optional[asyncio.Future[None]] = None
        try:
            while True:
                try:
                    answer = await self.ask(member, verb, on_event, **arguments)
                except Unreachable:
                    # What it takes to answer is its own affair, so only the time without an answer counts.
                    patience = patience or asyncio.ensure_future(self.clock.sleep(self.policy.reconnect))
                    if member.away or patience.done():
                        member.away = True
                        raise
                    await self.clock.sleep(PAUSE)
                else:
                    member.away = False
                    return answer
        finally:
            if patience:
                patience.cancel()

    async def each(
        self, members: Sequence[Member], work: Callable[[Member], Awaitable[Any]]
    ) -> list[tuple[Member, Trouble]]:
        """Do it on all of them, as many at once as the policy allows; returns those on which it failed, and why."""

        async def one(member: Member) -> None:
            assert self._limit is not None
            async with self._limit:
                await work(member)

        ends = await asyncio.gather(*(one(member) for member in members), return_exceptions=True)
        return [
            (member, trouble_of(end))
            for member, end in zip(members, ends, strict=True)
            if isinstance(end, BaseException)
        ]

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of the work. Raises Stopped, with the work cancelled, where the run is to end first."""
        try:
            return await before(self.stopping, work)
        except TooLate:
            raise Stopped(f"{self.so_far}; {self.reason}") from None

    async def all_or_stopped(self, members: Sequence[Member], work: Callable[[Member], Awaitable[Any]]) -> None:
        """Do it on all of them before the roll. Raises Stopped that names every host on which it failed."""
        if wrong := await self.unless_stopped(self.each(members, work)):
            for member, trouble in wrong:
                member.trouble = trouble
            lines = [f"{member.name}: {trouble.cause}" for member, trouble in wrong]
            raise Stopped(f"{self.so_far}; " + "\n".join(lines))


def causes(ends: Sequence[Any]) -> str:
    """What went wrong with content, each cause once; empty where nothing did."""
    errors = [end for end in ends if isinstance(end, BaseException)]
    said = [str(error) if isinstance(error, ContentError) else trouble_of(error).cause for error in errors]
    return "\n".join(dict.fromkeys(said))


def by_content(members: Sequence[Member]) -> list[tuple[Content, list[Member]]]:
    """Each content with the hosts that are to get it, in their order."""
    groups: dict[int, tuple[Content, list[Member]]] = {}
    for member in members:
        if member.content is not None:
            groups.setdefault(id(member.content), (member.content, []))[1].append(member)
    return list(groups.values())
