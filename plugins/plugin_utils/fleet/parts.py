# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the coordinator works with: what a host is to serve, how it is asked, where content comes from, what is told.

The coordinator knows nothing of Ansible, SSH or Docker. It speaks to a host through `Host`, has images and packages
through `Content`, and tells what happens through `Tell`; the simulation has its own of each.

A host understands the verbs of `plugins/module_utils/agent/verbs.py`. Arguments and results are JSON. All take `place`
(see `Target`) and `run_id`; those that change something are refused where that run does not hold the lease.

look: purpose, release ('' when unknown), host (what the preflight needs to know: runtime, python, image, architectures,
    disk_needed, disk_reserve, certificate, certificate_days, controller_time, clock_tolerance,
    port, slot_mib, cpus, workers, hosts, processes, overlap, user, jobs)
    -> problems [str], release, settled, serving {release, slot} or None (by what runs, answers and is enabled at the
    edge), state, drift [str], good [{release, migration, image, there}] oldest first, migration, release_migration,
    path (by which what serves can be asked), singletons [str] (those that run there), singletons_at {host, at} or None
    (where they ran when it was last released to), jobs and jobs_at (the same of jobs that have a timer), image,
    release_image, page (the maintenance page of the host's edge, {} where it shows none), free_mib, certificate_days,
    busy (who has a transaction under way, '' for nobody), frees_in (seconds until the lease of another run frees
    itself, where that run has not been seen for a while; else 0), notes [str] (what is to be told before, and keeps
    nobody from anything).
    A rollback without a release has no problem where there is nothing to return to: the fleet's common one is
    agreed by the coordinator, from `good`
hold: run {id, who, from, what} -> taken_over {..} or None, serving, state
renew: -> held (bool), frozen (why the app was frozen meanwhile, '' where it was not); a freeze ends no lease, so that
    what was begun can be put back
stage: release, files, contents (by the position of the file), leaks, check (command or []), check_timeout, check_mode,
    diff; in check mode also contract (see activate) and was (the release that serves)
    -> changed, changed_paths, diff [..], checked (bool), port (where the app listens by EXPOSE of its image, else 0),
    warnings [str]; in check mode api, as activate tells it, where both releases ran on the host before, else None
run: release ('' for the one that serves), command, purpose, timeout, once -> rc, stdout, stderr, release; or job
activate: release, expects (the release that must serve before; '' for none, None for whatever does), restart, drain,
    drain_websockets, soak, canary, contract {path, breaking} or None, replay (refuse, warn, ignore),
    stop_grace, keep, log_lines, about
    -> changed, release, was, slot, phases, recovered, canary {word, sentence, new and old {requests, errors,
    p50, p95 (ms)}} or None, api {breaks [str], more (how
    many are left out), note (why they may not be all)} or None, replay {asked (how many
    requests), breaks, note} or None, gap (seconds in which nobody answered, where one of two releases may not run
    beside the other; else None)
settle: as activate, with return_to (or None) instead of release -> changed, phases, gap, now (see let_go)
let_go: keep, drain, drain_websockets, stop_grace, log_lines, processes (whether those of what serves are to be seen
    to) -> now {state, serving, slots, servers, health, drift, draining}, notes [str]; also asked where the run holds
    nothing (a host that was left alone, a lease that was lost), and then it only looks
give_up: as activate, without a release -> changed; no singleton runs there any more, and no job has a timer
image, package: operation and its options, as the modules of these names have them -> as theirs
backup: verb and its options, as the module of that name has them -> told, as its; of a host that backs the database up,
    which need not be one of the run. In the details of a refusal `fault` says what is wrong, in few words

`activate` and `settle` send an event for each phase: {phase, at} when it begins and {phase, at, seconds} when it has
ended; times in seconds since the transaction began.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Result = dict[str, Any]


class Unreachable(Exception):
    """A host does not answer, or its channel broke before it did; the text is what the connection said.

    What it was asked may have happened, happen later, or not at all.
    """


class Refused(Exception):
    """A host answered that it did not do what it was asked; nothing there is half done.

    `kind` is one of: held (somebody else has the lease, or a freeze), fenced (this run lost the lease, or another
    release serves than was expected), busy (another transaction), release (the new release was refused), failed.
    `details` has what the host told besides: cause, evidence, phases, problems, seconds (until a lease frees itself).
    """

    def __init__(self, message: str, kind: str = "failed", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.details = dict(details or {})


class Host(Protocol):
    """One host, over a channel that may break at any time and can be opened again by asking."""

    name: str

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[Result], None] | None = None
    ) -> Result:
        """The result of a verb. Raises Unreachable and Refused.

        Several may be under way at once (a lease is renewed while a release is activated). One that is cancelled is
        not waited for any more; what the host does about it goes on, and the channel can be used as before.
        """
        ...

    async def send(self, file: Path) -> str:
        """Send a file; returns its path there, where it stays until the run is over. Raises Unreachable."""
        ...

    async def fetch(self, remote: str, local: Path) -> None:
        """Get a file. Raises Unreachable, and Refused where there is none."""
        ...

    async def close(self) -> None:
        """End the channel; what runs on the host ends by itself. Raises nothing."""
        ...


@dataclass(frozen=True)
class Identity:
    """What a content is. `content` is empty while only a host can tell (an image that each host pulls under a name)."""

    reference: str
    content: str
    architectures: tuple[str, ...] = ()
    size: int = 0
    warnings: tuple[str, ...] = ()


class ContentError(Exception):
    """An image or a package cannot be had; the text says why and what to do."""


class Content(Protocol):
    """Where the image or package of a release comes from; one object for all hosts that are to get the same.

    Everything raises ContentError, and Unreachable and Refused where a host is asked.
    """

    async def identify(self) -> Identity:
        """Which one it is. Asks no host."""
        ...

    async def look(self, host: Host) -> Result:
        """What a host has of it; kept by the caller and handed to `prepare` and `put`."""
        ...

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        """Have on the controller what hosts lack, built once for all; returns whether something was made.

        `hosts` are those of the run in its order, also others than those in `seen`: one of them may build.

        A host that is too small is refused before a byte moves.
        """
        ...

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        """Have it on a host; returns what it is, now with `content`, and whether the host was changed."""
        ...

    async def bill(self) -> Path | None:
        """Its bill of materials, made beside the roll; None where none is wanted or can be made."""
        ...


@dataclass(frozen=True)
class Target:
    """What one host is to serve, as inventory, vault and templates say; computed without a connection.

    `files` and `contents` may have marks in their text, which stand for what is known only when the content is (see
    `target.py`). Times in seconds.
    """

    host: str
    place: Result  # app, root, socket_directory, gate {..}, edge {socket, backend, state_file}
    look: Result  # the `host` argument of the verb look
    activate: Result  # drain, drain_websockets, soak, canary, contract, replay, stop_grace, keep, log_lines, about
    files: list[Result] = field(default_factory=list, repr=False)
    contents: dict[str, str] = field(default_factory=dict, repr=False)
    config: str = field(default="", repr=False)  # what names a release beside its content
    release: str = ""  # one that was named by the operator
    leaks: str = "refuse"  # what becomes of a release whose image has a secret of it: refuse, warn or ignore
    check: list[str] = field(default_factory=list)
    check_timeout: float = 300.0
    migrate: list[str] = field(default_factory=list)
    migrate_timeout: float = 300.0
    migrations: str = ""  # where the app's Alembic is, for what brings the schema forward without a command of its own
    allow_destructive: bool = False
    rehearse: bool = False  # whether what is pending runs on a restored set first
    rehearse_limit: float = 60.0  # seconds that it may take there
    backup: str = "required"  # what a set that cannot be made before migrations means: required, wanted, none
    rollback_check: list[str] = field(default_factory=list)
    singletons_gone: list[str] = field(default_factory=list)  # hosts that are lost for good, as the operator says
    turn: Result = field(default_factory=dict)  # before and after: commands on the controller; timeout: seconds of each


@dataclass(frozen=True)
class Policy:
    """How a run goes over the fleet."""

    operation: str  # deploy, rollback or restart
    run: Result  # id, who, from, what
    batches: list[Any] = field(default_factory=lambda: [1, "25%", "100%"])
    on_failure: str = "revert"  # or hold
    same_content: bool = False  # whether a deploy that brings another image or package than serves is refused
    check_mode: bool = False
    # What a host lacks refuses a plan, as it would what follows; else it is a warning, which provisioning may mend.
    strict: bool = False
    diff: bool = False
    reconnect: float = 60.0  # seconds that a host which went away is asked again before it counts as unreachable
    patience: float = 180.0  # seconds after an interruption within which begun hosts may end, and be taken back
    at_once: int = 50  # hosts that are asked for something at the same time
    unsaved: Sequence[str] = ()  # hosts that say that the database is elsewhere, where no set has it
    rehearsers: Mapping[str, str] = field(default_factory=dict)  # by the host of the database, that of an app beside it
    left_out: Sequence[str] = ()  # hosts of the fleet that this run is not about, as with --limit
    besides: Sequence[str] = ()  # what refuses the run besides all that it finds itself, to be said with that


@dataclass(frozen=True)
class Event:
    """Something that happened; `at` in seconds since the epoch.

    kinds, with what `about` has:
    part (name: look, hold, provide, stage, migrate, roll, settle or end; told when it begins),
    looked (release, settled, serving), planned (plan), held (taken_over), prepared (made), put (content, changed),
    staged (release, changed), exposed (port; where the image alone says that its app listens there),
    saved (set, bytes, seconds; of a host that backs the database up),
    rehearsed (what its rehearsal told; of such a host),
    linted (found, lacks; what squawk found), pending (revisions), migrated (release, migration),
    batch (number, of, hosts), started (release, was),
    phase (phase, at, seconds once it has ended, revert), ended (outcome, was, release, phases, cause,
    recovered, canary, api, replay, gap),
    settling (hosts, reason), settled (as ended, no outcome where nothing was to be done), lost (cause),
    verdict (word, message), warning (message)
    """

    kind: str
    at: float
    host: str = ""
    about: Result = field(default_factory=dict)


Tell = Callable[[Event], None]


class Clock(Protocol):
    """Time, so that a simulation has its own."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much time pass. May be cancelled."""
        ...


# Runs a command on the controller, with a limit in seconds and variables beside its own; returns why it failed, empty
# where it did not.
Commands = Callable[[Sequence[str], float, Mapping[str, str]], Awaitable[str]]


class Unwatchable(Exception):
    """A run is not to begin without being watched, and cannot be; the text says why and what to do."""


class Watch(Protocol):
    """What goes on while hosts turn over, such as the probe of the edge. What it raises meanwhile is a warning."""

    async def look(self, serving: Mapping[str, str]) -> Sequence[str]:
        """Before anything is changed: what cannot be watched, a sentence each. Raises Unwatchable.

        Args:
            serving: the hosts that serve a release, as they say, with the path by which it can be asked
        """
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


@dataclass(frozen=True)
class FleetReport:
    """How a run ended.

    `rows` are those of the report (`verdict.host_row`). `word` is `verdict.verdict`'s, `refused` where it ended before
    anything was switched, or `planned`. `wrong` has for each host that does not serve what
    the run wanted what it serves and why. `covered` are the hosts whose edges showed the maintenance page at its begin.
    """

    word: str
    message: str
    release: str
    rows: list[Result]
    wrong: dict[str, str]
    changed: bool
    plan: str = ""
    diff: list[Result] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0
