"""The release transaction: start beside, gate, switch, soak, record, leave the old slot; a crash is finished or undone.

What runs, answers and is enabled at the edge decides; records are a hint. No slot that answers is stopped before the
edge confirms that the other one serves. Whatever an effect raises, the earlier release gets its requests back first;
why is found out then, and the new slot is stopped last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Optional, Protocol

from ..edge.haproxy import EdgeError, NotStored, Server
from ..host.errors import Damaged, Fenced, SlipwayError
from .canary import WORSE, Verdict
from .diagnosis import elsewhere, explain
from .model import (
    SLOTS,
    Draining,
    Intent,
    Probe,
    Recalled,
    Request,
    SlotStatus,
    State,
    TransactionError,
    other,
)
from .runtime import Runtime
from .sight import Sight
from .store import Store

MADE_OF = ("image", "config", "revision", "migration", "sbom")
POLL = 0.25
# Seconds between the first looks at a slot that starts, how much longer each pause is than the one before, and between
# two passes.
FIRST_LOOK, SLOWER, BETWEEN_PASSES = 0.1, 1.4, 0.3
# Seconds that a slot may answer nothing before it is looked where it listens instead, and between two such looks.
LISTENS_WITHIN = 1.0
# Looks in a row at the edge that must agree: in a reload the first may be answered by the worker that goes.
CONFIRMED = 2
# Seconds after which a worker of HAProxy that read the states before they were set last has taken over, if there is
# one. Nothing that answers is stopped sooner; a soak that is longer has waited for it.
TAKEOVER = 1.5
# Seconds that the old slot's requests are waited for before they are left to end in their own time.
SHORTLY = 1.0
# Seconds between two signs of life of the run that holds the app.
RENEWED = 5.0
# What a runtime or the edge may answer with instead of an answer; ValueError is a half answer of Docker.
UNSEEN = (SlipwayError, OSError, ValueError, KeyError)


class EdgeLike(Protocol):
    """What the edge must be able to tell and to do."""

    def servers(self) -> dict[str, Server]:
        """Both slots as the edge sees them. Raises EdgeError."""

    def set_state(self, slot: str, state: str, beside: str = "") -> None:
        """Set a slot to ready or drain, and store that for a reload; `beside` is the one that gets its requests.

        Raises EdgeError where nothing was set, also where `slot` answers and `beside` does not; NotStored or OSError
        where it is set and a reload would forget it.
        """


class Hold(Protocol):
    """The lease of the run that wants this."""

    def lost(self) -> str:
        """Why the run may not change the app any more; empty while it may. Renews the lease. May raise OSError."""


class Unheld:
    """For who needs no lease: a module in a user's own playbook."""

    def lost(self) -> str:
        return ""


# Compares what the new slot answered in the seconds since the switch with what the old one answered before. Raises
# nothing: what cannot be told is unknown.
Judge = Callable[[str, str, float], Verdict]


class Clock:
    """Time, so that tests need none."""

    def monotonic(self) -> float:
        """Seconds of no particular beginning; nobody sets this clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def time(self) -> float:
        """Seconds since the epoch; may jump."""
        return time.time()

    def now(self) -> str:
        """The same for people."""
        return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Transaction:
    """Takes one host to one release. Every public method may be called again after a crash of any earlier call."""

    def __init__(
        self,
        request: Request,
        store: Store,
        runtime: Runtime,
        edge: EdgeLike,
        probe: Callable[[str, str], Probe],
        clock: Optional[Clock] = None,
        judge: Optional[Judge] = None,
        tell: Callable[[dict[str, Any]], None] = lambda event: None,
        hold: Optional[Hold] = None,
    ) -> None:
        self.request = request
        self.store = store
        self.runtime = runtime
        self.edge = edge
        self.probe = probe
        self.clock = clock or Clock()
        self.judge = judge
        self.tell = tell
        self.hold: Hold = hold or Unheld()
        self.phases: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self._began = self._told = self.clock.monotonic()
        self._renewed = self._began

    # --- what others ask

    def plan(self) -> dict[str, Any]:
        """What `run` would do, without doing it. Raises EdgeError and RuntimeFailed."""
        sight = self.look()
        live = sight.live(self._recorded_slot())
        settled = live is not None and self._settled(sight, live)
        return {
            "changed": not settled or self.request.restart,
            "release": self.request.release,
            "was": sight.slots[live].release if live else None,
            "slot": live if settled else self._target(live),
            "unfinished": self._intent() is not None,
        }

    def run(self) -> dict[str, Any]:
        """Make the requested release serve.

        Raises TransactionError when it was refused and Fenced when the run may not, with the earlier release serving as
        before; any other SlipwayError or OSError came before anything was changed.
        """
        # Before what a crash left is finished or undone: that is what the caller was told, and it may change it.
        self._expect(self.look())
        recovered = self.reconcile()
        sight = self.look()
        live = sight.live(self._recorded_slot())
        if live and self._settled(sight, live) and not self.request.restart:
            state = self._remember(live)
            return self._result(state, changed=recovered is not None, recovered=recovered)
        if not self.store.has(self.request.release):
            raise TransactionError(
                f"release {self.request.release} is not on this host (no files in {self.store.releases})"
            )
        self._may_go_on("before anything was changed")
        self.store.seal(self.request.release)
        slot = self._target(live)
        recorded = self.state()
        was = (sight.slots[live].release if live else None) or (recorded.release if recorded else None)
        intent = Intent(release=self.request.release, slot=slot, was=was, started=self.clock.now())
        try:
            self.store.write_intent(intent)
            self._clear(slot)
            self._start(slot, intent.release)
            self._wait_healthy(slot, intent.release)
            self._wait_seen_by_edge(slot)
            self._may_go_on("before the switch")
        except Exception as error:
            raise self._abandon(intent, error) from error
        try:
            self._switch(intent)
            verdict = self._prove(intent)
            self._confirm(slot, other(slot), surely=intent.was is not None)
            state = self._write_down(intent, verdict)
        except Exception as error:
            raise self._return(intent, error) from error
        draining = self._leave(intent)
        return self._result(state, changed=True, recovered=recovered, canary=verdict, draining=draining)

    def remove(self) -> None:
        """Take the app away: nothing of it gets requests, runs or is kept afterwards."""
        for slot in SLOTS:
            self._try(lambda slot=slot: self._tell_edge(slot, "drain"))  # type: ignore[misc] # it may be gone
            self.runtime.stop(slot, self.request.stop_grace)
        if self.store.releases.is_dir():
            self.runtime.discard([path.name for path in self.store.releases.iterdir()])
        self.store.destroy()

    def reconcile(self) -> Optional[str]:
        """Finish or undo what a crashed transaction left; returns what was done, None where nothing was left.

        Of the two slots the one that is well serves. Where both are, the new one does once it got requests, unless the
        earlier release is wanted again. Where neither is, the earlier release is started again.

        Raises EdgeError and RuntimeFailed where it cannot be seen what serves, or be made to; nothing is stopped then.
        """
        self._try(self.store.forget_recall)
        intent = self._intent(forget=True)
        sight = self.look()
        if intent is None:
            return self._mend(sight)
        new, old = intent.slot, other(intent.slot)
        reached = intent.switched or (sight.runs(new) and sight.servers[new].enabled)
        back = intent.returning or self.request.release == intent.was != intent.release
        ahead = self._recorded_good(intent) or (reached and not back)
        slot = self._first_well(sight, {new: intent.release, old: intent.was}, (new, old) if ahead else (old, new))
        if slot:
            return self._finish(intent) if slot == new else self._undo(intent)
        if intent.was and not sight.runs(old) and self._revive(old, intent.was):
            return self._undo(intent)
        self._try(lambda: self._record(intent, "failed", cause="interrupted, and neither slot is well"))
        self.store.drop_intent()
        return f"gave up the interrupted {intent.release}; neither slot is well"

    def prune(self, live: Optional[str] = None) -> None:
        """Remove releases that nobody returns to. Raises OSError and RuntimeFailed; the next one takes what is left."""
        sight = self.look()
        needed = {status.release for status in sight.slots.values() if status.release}
        intent, state = self._intent(), self.state()
        needed |= {release for release in (live, self.request.release) if release}
        needed |= {release for release in (intent.release, intent.was) if release} if intent else set()
        needed |= {state.release} if state else set()
        removable = self.store.removable(self.request.keep, needed)
        if removable:
            self.runtime.discard(removable)
            self.store.remove(removable)

    def end_draining(self, wait_until: Optional[float] = None) -> Optional[int]:
        """Stop a slot that drains, once its sessions have ended or at `wait_until` (seconds since the epoch).

        Returns how many were cut, None where nothing drains. Only for who holds the lock of the app. Raises EdgeError
        and RuntimeFailed with the slot as it was.
        """
        draining = self.draining()
        if draining is None:
            return None
        sight = self.look()
        left = 0
        slot, alone = draining.slot, not sight.serves(other(draining.slot))
        if sight.slots[slot].release == draining.release and not sight.servers[slot].enabled:
            if alone and self._well(sight, slot, draining.release):
                raise EdgeError(f"slot {slot} drains and is the only one that is well; it is not stopped")
            begin = self.clock.monotonic()
            limit = max((wait_until or 0.0) - self.clock.time(), 0.0)
            while (left := self._sessions(slot)) and self.clock.monotonic() - begin < limit:
                self._breathe(switched=False)
                self.clock.sleep(POLL)
            self.runtime.stop(slot, self.request.stop_grace)
        self._note_drained(draining, left)
        self.store.drop_draining()
        return left

    def look(self) -> Sight:
        """What runs and what the edge has. Raises EdgeError and RuntimeFailed."""
        return Sight(self.runtime.status(), self.edge.servers())

    def serving(self) -> Optional[str]:
        """The release that gets requests; None where none does or it cannot be seen."""
        try:
            return self.look().serving(self._recorded_slot())
        except UNSEEN:
            return None

    def state(self) -> Optional[State]:
        """What is recorded as serving; None where nothing is, or nothing that can be read."""
        try:
            return self.store.state()
        except (Damaged, OSError):
            return None

    def draining(self) -> Optional[Draining]:
        """The slot that drains by the records; None where none does, or none can be read."""
        try:
            return self.store.draining()
        except (Damaged, OSError):
            return None

    def ready(self, slot: str, release: str) -> Probe:
        """How a slot answers. `error` is what is wrong, an answer that is none of a healthy `release` included."""
        gate = self.request.gate
        health = self.probe(slot, gate.path)
        if health.error:
            return health
        if health.status != 200:
            return replace(health, error=f"GET {gate.path} answered {health.status}: {health.body[:500]}")
        if not gate.version_path:
            return health
        version = self.probe(slot, gate.version_path)
        if release not in version.body:
            words = f"GET {gate.version_path} does not name release {release}: {version.error or version.body[:200]}"
            return replace(version, error=words)
        return health

    # --- the steps

    def _expect(self, sight: Sight) -> None:
        """Raise Fenced where another release serves than the caller was told, the wanted one excepted."""
        expects, serving = self.request.expects, sight.serving(self._recorded_slot())
        if expects is not None and serving and serving not in (expects, self.request.release):
            raise Fenced(
                f"release {serving} serves on this host, expected was {expects or 'none'}; somebody else changed it. "
                "Nothing was changed; run again"
            )

    def _settled(self, sight: Sight, live: str) -> bool:
        """The requested release already serves, alone but for what drains, and the edge agrees."""
        if sight.slots[live].release != self.request.release or not sight.serves(live):
            return False
        draining = self.draining()
        if sight.runs(other(live)) and not (draining and draining.slot == other(live)):
            return False
        return self._intent() is None and not self.ready(live, self.request.release).error

    def _remember(self, live: str) -> State:
        """The records of what serves; where they say something else they are written anew."""
        state = self.state()
        if state and (state.release, state.slot) == (self.request.release, live):
            return state
        previous = state.release if state and state.release != self.request.release else None
        state = State(self.request.release, live, self.clock.now(), previous)
        self.store.write_state(state)
        return state

    def _target(self, live: Optional[str]) -> str:
        """The slot that does not serve."""
        if live:
            return other(live)
        recorded = self._recorded_slot()
        return other(recorded) if recorded else SLOTS[0]

    def _clear(self, slot: str) -> None:
        """End what the target slot still answers: what drains there, or what an earlier trouble left."""
        draining = self.draining()
        if draining and draining.slot == slot:
            until = draining.since + self.request.drain
            if self.request.on_draining == "wait":
                until = draining.until
            self._phase("clear", lambda: self.end_draining(min(until, draining.until)))
        elif self.runtime.status()[slot].running:
            self._phase("clear", lambda: self._wait_idle(slot))

    def _start(self, slot: str, release: str) -> None:
        def start() -> None:
            self._tell_edge(slot, "drain")
            self.runtime.stop(slot, self.request.stop_grace)
            self.runtime.start(slot, release)

        self._phase("start", start)

    def _wait_healthy(self, slot: str, release: str, name: str = "gate", alone: bool = False) -> None:
        """N passes in a row of the health path, each with the right release behind it, before the deadline.

        `alone` is for the earlier release that is started again: nothing may keep that from serving.
        """
        gate = self.request.gate

        def wait() -> None:
            begin = self.clock.monotonic()
            pause, passes, strange, listened = FIRST_LOOK, 0, "", begin
            while True:
                problem = self.ready(slot, release)
                passes = 0 if problem.error else passes + 1
                now = self.clock.monotonic()
                if problem.error or passes >= gate.passes:
                    self._require_running(slot, problem.error)
                if passes >= gate.passes:
                    return
                if problem.nobody and now - listened >= LISTENS_WITHIN:
                    where, listened = self._elsewhere(slot, problem), now
                    if where and where == strange:  # twice: a port can come before the socket
                        raise TransactionError(f"{where}: {problem.error}")
                    strange = where
                if now - begin >= gate.deadline:
                    raise TransactionError(f"not ready within {gate.deadline:.0f} s: {problem.error}")
                if not alone:
                    self._breathe(switched=False)
                self.clock.sleep(min(BETWEEN_PASSES if passes else pause, gate.interval))
                pause = FIRST_LOOK if passes else min(pause * SLOWER, max(gate.interval, FIRST_LOOK))

        self._phase(name, wait)

    def _require_running(self, slot: str, problem: str) -> None:
        """Raise TransactionError where the slot ended; a runtime that does not answer says nothing about it."""
        try:
            status = self.runtime.status()[slot]
        except UNSEEN:
            return
        if status.restarts or not status.running:
            raise TransactionError(f"the new release ended while it was starting ({problem or 'it exited'})")

    def _elsewhere(self, slot: str, health: Probe) -> str:
        try:
            return elsewhere(health, self.runtime.listening(slot))
        except UNSEEN:
            return ""

    def _wait_seen_by_edge(self, slot: str) -> None:
        limit = self.request.gate.edge

        def wait() -> None:
            deadline = self.clock.monotonic() + limit
            problem = "look at owner and mode of the socket directory"
            while True:
                try:
                    if self.edge.servers()[slot].answers:
                        return
                except (EdgeError, OSError) as error:
                    problem = str(error)
                if self.clock.monotonic() >= deadline:
                    raise TransactionError(
                        f"the slot is healthy, but HAProxy's check of it did not pass within {limit:.0f} s; {problem}"
                    )
                self._breathe(switched=False)
                self.clock.sleep(FIRST_LOOK)

        self._phase("edge", wait)

    def _switch(self, intent: Intent) -> None:
        """Send requests to the new slot, and nothing new to the old one."""
        new, old = intent.slot, other(intent.slot)

        def switch() -> None:
            self._tell_edge(new, "ready")
            if not intent.switched:
                self.store.write_intent(replace(intent, switched=True))
            self._confirm(new, old)

        self._phase("switch", switch)

    def _tell_edge(self, slot: str, state: str, beside: str = "") -> None:
        """Set a state at the edge, and remember when. Raises EdgeError and OSError."""
        try:
            self.edge.set_state(slot, state, beside)
        finally:
            self._told = self.clock.monotonic()

    def _keep(self, to: str, away: str) -> dict[str, Server]:
        """One look at the edge, after which `to` gets requests and `away` none: a reload in between is undone.

        The one that answers is not taken its requests while the other one does not, which gets none beside it either.
        Returns what was seen, before anything was set. Raises EdgeError and OSError.
        """
        servers = self.edge.servers()
        served = servers[away].enabled and servers[away].answers
        if not servers[to].enabled and (servers[to].answers or not served):
            self._tell_edge(to, "ready")
        if servers[away].enabled and (servers[to].answers or not servers[away].answers):
            self._tell_edge(away, "drain", beside=to)
        return servers

    def _keep_or_put_back(self, to: str, away: str) -> dict[str, Server]:
        """The same while `away` still runs: it gets requests again as long as it answers and `to` does not."""
        servers = self._keep(to, away)
        if servers[away].answers and not servers[away].enabled and not servers[to].answers:
            self._tell_edge(away, "ready")
        return servers

    def _confirm(self, to: str, away: str, storing: bool = True, surely: bool = False) -> None:
        """Wait until the edge says twice that `to` serves and `away` gets nothing new.

        `surely` is for who stops `away` then: no worker is left that may come and know less. Raises EdgeError when the
        edge does not say so within the gate's `edge` seconds, and with `storing` at once when a state is set that a
        reload would forget.
        """
        limit = self.request.gate.edge
        deadline = self.clock.monotonic() + limit
        agreed = 0
        while True:
            problem = ""
            try:
                servers = self._keep_or_put_back(to, away)
                if not servers[to].enabled or servers[away].enabled:
                    problem = "a reload took the states back"
                elif not servers[to].answers:
                    problem = f"its check of slot {to} fails"
            except NotStored as error:
                if storing:
                    raise
                problem = str(error)
            except (EdgeError, OSError) as error:
                problem = str(error)
            agreed = 0 if problem else agreed + 1
            now = self.clock.monotonic()
            if agreed >= CONFIRMED and (not surely or now - self._told >= TAKEOVER):
                return
            if problem and now >= deadline:
                raise EdgeError(f"HAProxy did not send requests to slot {to} alone within {limit:.0f} s: {problem}")
            self.clock.sleep(FIRST_LOOK if 0 < agreed < CONFIRMED else POLL)

    def _prove(self, intent: Intent) -> Optional[Verdict]:
        """Watch the new slot until `soak` seconds after the switch, and compare it with the old one.

        Raises TransactionError when the new release gets sick or is worse.
        """
        new, old = intent.slot, other(intent.slot)
        if intent.was is None:
            return None  # the first release: there is nothing to return to
        begin = self.clock.monotonic()
        short = min(self.request.drain, SHORTLY)
        self._phase("drain", lambda: self._watch(intent, lambda left, spent: left == 0 or spent >= short))
        left = self.request.soak - (self.clock.monotonic() - begin)
        if left > 0:
            self._phase("soak", lambda: self._watch(intent, lambda _, spent: spent >= left))
        verdict = self.judge(new, old, self.clock.monotonic() - begin) if self.judge else None
        if verdict and verdict.word == WORSE:
            raise TransactionError(
                f"the new release answers worse than the old one: {verdict.sentence}", {"canary": verdict.as_dict()}
            )
        return verdict

    def _watch(self, intent: Intent, over: Callable[[Optional[int], float], bool]) -> None:
        """Look at the new slot, until `over` says so of the old one's sessions and of the seconds spent."""
        new, old = intent.slot, other(intent.slot)
        begin = looked = self.clock.monotonic()
        failures = 0
        while True:
            self._breathe(switched=True)
            try:
                sessions: Optional[int] = self._keep_or_put_back(new, old)[old].sessions
            except (EdgeError, OSError):
                sessions = None  # HAProxy restarts perhaps; that it serves is confirmed at the end
            now = self.clock.monotonic()
            if over(sessions, now - begin):
                return
            if now - looked >= self.request.gate.interval:
                looked = now
                failures = self._check(intent, failures)
            self.clock.sleep(POLL)

    def _check(self, intent: Intent, failures: int) -> int:
        """Failures in a row of a slot that serves. Raises TransactionError when it ended or there are too many."""
        problem = self.ready(intent.slot, intent.release).error
        try:
            status = self.runtime.status()[intent.slot]
        except UNSEEN:  # Docker restarts perhaps; how the slot answers decides
            status = SlotStatus(running=True)
        if status.restarts or (problem and not status.running):
            raise TransactionError("the new release ended soon after the switch")
        if problem and failures + 1 >= self.request.gate.passes:
            raise TransactionError(f"the new release got sick soon after the switch: {problem}")
        return failures + 1 if problem else 0

    def _write_down(self, intent: Intent, verdict: Optional[Verdict]) -> State:
        """Record that the new release serves. The old slot still runs: what cannot be written can be undone."""
        state = State(intent.release, intent.slot, self.clock.now(), self._previous(intent))
        more = {"canary": verdict.as_dict()} if verdict else {}
        self._record(intent, "good", **more)
        self.store.write_state(state)
        return state

    def _leave(self, intent: Intent) -> Optional[Draining]:
        """Stop the old slot, or leave what it still answers to end in its own time. What fails here is a warning.

        Returns what drains.
        """
        new, old = intent.slot, other(intent.slot)
        draining = None
        try:
            status = self.runtime.status()[old]
            if status.running and self._sessions(old) and self._longest() > 0:
                draining = self._hand_over(old, status)
            else:
                self._phase("stop", lambda: self.runtime.stop(old, self.request.stop_grace))
            self._keep(new, old)
        except UNSEEN as error:
            self.warnings.append(f"slot {old} could not be stopped and gets no requests: {error}")
        self._warn(self.store.drop_intent)
        self._warn(lambda: self.prune(intent.release))
        return draining

    def _longest(self) -> float:
        """Seconds after the switch that a connection to the old slot may last."""
        return max(self.request.drain, self.request.drain_websockets)

    def _hand_over(self, old: str, status: SlotStatus) -> Draining:
        now = self.clock.time()
        about = {name: value for name, value in self.request.about.items() if name in ("who", "from", "run")}
        draining = Draining(str(status.release or ""), old, now, now + self._longest(), about)
        self.store.write_draining(draining)
        self.runtime.retire(old)
        return draining

    # --- the ways back

    def _abandon(self, intent: Intent, error: Exception) -> SlipwayError:
        """Take the new slot away before it got a request; returns why. The old one was never touched.

        Where that has died and cannot be started, and the new one is well, it gets the requests.
        """
        new, old = intent.slot, other(intent.slot)
        runs = self._runs(old)
        if runs is False and intent.was:
            runs = self._revive(old, intent.was)
            if not runs and not self.ready(new, intent.release).error:
                trouble = f"the earlier release {intent.was} could not be started again"
                return self._leave_both(intent, self._failure(intent, error), trouble)
        if intent.was and runs:
            self._try(lambda: self._keep(old, new))
        failure = self._failure(intent, error)
        self._take_away(intent, failure)
        return failure

    def _return(self, intent: Intent, error: Exception) -> SlipwayError:
        """Send requests to the old slot again, then explain, then take the new one away; returns why."""
        self._try(lambda: self.store.write_intent(replace(intent, switched=True, returning=True)))
        trouble = self._phase("return", lambda: self._send_back(intent))
        failure = self._failure(intent, error)
        if trouble := trouble or self._empty(intent):
            return self._leave_both(intent, failure, trouble)
        self._take_away(intent, failure)
        return failure

    def _leave_both(self, intent: Intent, failure: SlipwayError, trouble: str) -> SlipwayError:
        """Whichever slot answers shall be asked, and the next run decides. Returns the failure with this `trouble`."""
        self._try(lambda: self._tell_edge(intent.slot, "ready"))
        failure = _more(failure, f"; {trouble}, so both slots are left as they are")
        self._try(lambda: self._record(intent, "failed", cause=str(failure)[:2000]))
        return failure

    def _send_back(self, intent: Intent, surely: bool = False) -> str:
        """Have the old slot serve, started again where it does not run; empty, or why it does not serve."""
        new, old = intent.slot, other(intent.slot)
        trouble = ""
        for _ in range(2):  # it may end while the edge is asked
            if self._runs(old) is False:
                if not intent.was:
                    return "there is no earlier release to return to"
                self._try(lambda: self._keep(new, old))  # the new one serves until the other one is back
                if not self._revive(old, intent.was):
                    return f"the earlier release {intent.was} could not be started again"
            try:
                self._confirm(old, new, storing=False, surely=surely)
            except EdgeError as error:
                trouble = str(error)
            else:
                return ""
            if self._runs(old) is not False:
                break
        return trouble

    def _empty(self, intent: Intent) -> str:
        """Wait for the requests of the new slot, and see that the old one still serves; empty, or why it does not."""
        self._phase("drain", lambda: self._wait_idle(intent.slot, other(intent.slot)))
        return self._send_back(intent, surely=True)

    def _take_away(self, intent: Intent, failure: SlipwayError) -> None:
        """Stop the new slot and record the failure; what cannot be done is left to the next run, by the intent."""
        new = intent.slot
        stopped = self._try(lambda: self.runtime.stop(new, self.request.stop_grace))
        cause = getattr(failure, "cause", str(failure))
        more = {"canary": failure.details["canary"]} if "canary" in failure.details else {}
        recorded = self._try(lambda: self._record(intent, "failed", cause=cause, **more))
        if stopped and recorded:
            self._try(self.store.drop_intent)

    def _revive(self, slot: str, release: str) -> bool:
        """Start the earlier release in its slot again; tells whether it is well."""

        def revive() -> bool:
            try:
                if not self.store.has(release):
                    return False
                self._start_again(slot, release)
                self._wait_healthy(slot, release, alone=True)
            except UNSEEN as error:
                self.warnings.append(f"release {release} could not be started again: {error}")
                return False
            return True

        return bool(self._phase("revive", revive))

    def _start_again(self, slot: str, release: str) -> None:
        """Start a slot that has ended; what is still there of it needs no room on a disk that may be full.

        Raises RuntimeFailed and OSError.
        """
        status = self.runtime.status()[slot]
        if status.release == release and not status.restarts:
            with suppress(*UNSEEN):
                self.runtime.start(slot, release)
                return
        self.runtime.stop(slot, self.request.stop_grace)
        self.runtime.start(slot, release)

    def _finish(self, intent: Intent) -> str:
        """Have the new release of an interrupted transaction serve alone."""
        self._switch(intent)
        self._confirm(intent.slot, other(intent.slot), surely=True)
        self._write_down(intent, None)
        self._leave(intent)
        return f"finished the interrupted switch to {intent.release}"

    def _undo(self, intent: Intent) -> str:
        """Have the old release of an interrupted transaction serve alone."""
        trouble = self._phase("return", lambda: self._send_back(intent))
        if not trouble and self._runs(intent.slot):
            trouble = self._empty(intent)
        if trouble:
            self._try(lambda: self._tell_edge(intent.slot, "ready"))
            raise EdgeError(f"the interrupted release {intent.release} cannot be taken back: {trouble}")
        self._take_away(intent, TransactionError("interrupted"))
        return f"took back the interrupted {intent.release}"

    def _mend(self, sight: Sight) -> Optional[str]:
        """Without a transaction under way: a slot that is well gets requests, and the one that is not recorded none."""
        recorded = self._recorded_slot()
        live = sight.live(recorded)
        if live is None:
            return None
        release, beside = sight.slots[live].release, sight.slots[other(live)].release
        sick = not sight.serves(live) and sight.runs(other(live)) and not self._well(sight, live, release)
        if sick and self._well(sight, other(live), beside):
            self._confirm(other(live), live)
            self._try(self.store.drop_draining)
            return f"sent requests to slot {other(live)}, which is well, and none to {live}"
        if not sight.servers[live].enabled and self._well(sight, live, release):
            self._confirm(live, other(live))
            return f"sent requests to slot {live} again"
        if recorded == live and sight.serves(live) and sight.gets_requests(other(live)):
            self._confirm(live, other(live))
            return f"sent nothing more to slot {other(live)}"
        return None

    # --- looks, waits and records

    def _well(self, sight: Sight, slot: str, release: Optional[str]) -> bool:
        """The slot runs that release, and answers well before the gate's number of looks is over."""
        if not release or not sight.runs(slot) or sight.slots[slot].release != release:
            return False
        for look in range(self.request.gate.passes):
            if look:
                self.clock.sleep(self.request.gate.interval)
            if not self.ready(slot, release).error:
                return True
        return False

    def _first_well(self, sight: Sight, releases: Mapping[str, Optional[str]], order: Sequence[str]) -> Optional[str]:
        """The first slot that is well; where none is and one runs (after a boot), within the deadline of the gate."""
        deadline = self.clock.monotonic() + self.request.gate.deadline
        while True:
            for slot in order:
                if self._well(sight, slot, releases[slot]):
                    return slot
            if not any(map(sight.runs, order)) or self.clock.monotonic() >= deadline:
                return None
            self.clock.sleep(self.request.gate.interval)
            sight = self.look()

    def _runs(self, slot: str) -> Optional[bool]:
        """Whether a slot runs; None where the runtime does not say."""
        try:
            return self.runtime.status()[slot].running
        except UNSEEN:
            return None

    def _sessions(self, slot: str) -> int:
        """Requests and connections that a slot answers. Where the edge does not say there may be some."""
        try:
            return self.edge.servers()[slot].sessions
        except (EdgeError, OSError):
            return 1

    def _wait_idle(self, slot: str, beside: str = "") -> None:
        """Send nothing new to a slot and wait for its requests to end, for `drain` seconds."""
        self._try(lambda: self._tell_edge(slot, "drain", beside))
        deadline = self.clock.monotonic() + self.request.drain
        while self._sessions(slot) and self.clock.monotonic() < deadline:
            self.clock.sleep(POLL)

    def _breathe(self, switched: bool) -> None:
        """In every wait: show that the run lives, and look whether it wants this taken back.

        Raises Recalled, and before the switch Fenced.
        """
        if who := self.store.recalled():
            raise Recalled(f"taken back, as {who} wants")
        if self.clock.monotonic() - self._renewed >= RENEWED:
            self._renewed = self.clock.monotonic()
            if switched:
                self._try(self.hold.lost)
            else:
                self._may_go_on("before the switch")

    def _may_go_on(self, when: str) -> None:
        """Raise Fenced where the run has lost the app."""
        if lost := self.hold.lost():
            raise Fenced(f"given up {when}: {lost}")

    def _intent(self, forget: bool = False) -> Optional[Intent]:
        """The transaction under way; None where there is none, or none that can be read: what runs is asked then.

        With `forget` one that cannot be read is removed.
        """
        try:
            return self.store.intent()
        except Damaged as error:
            if forget:
                self.warnings.append(str(error))
                self._try(self.store.drop_intent)
            return None

    def _recorded_slot(self) -> Optional[str]:
        state = self.state()
        return state.slot if state else None

    def _recorded_good(self, intent: Intent) -> bool:
        last = self.store.releases_recorded()[-1:]
        return bool(last) and _same(last[0], intent) and last[0]["result"] == "good"

    def _previous(self, intent: Intent) -> Optional[str]:
        """What served before; a restart has not changed that."""
        state = self.state()
        return state.previous if state and intent.was == intent.release else intent.was

    def _record(self, intent: Intent, result: str, **more: Any) -> None:
        last = self.store.releases_recorded()[-1:]
        if last and _same(last[0], intent) and last[0]["result"] == result:
            return  # written just before a crash
        about = self.request.about if intent.release == self.request.release else {}
        # What it is made of is told by the record of its first time here, not by the run that returned to it.
        about = {**{name: self.store.last_record(intent.release).get(name) for name in MADE_OF}, **about}
        self.store.record(
            {
                **about,
                "release": intent.release,
                "slot": intent.slot,
                "was": intent.was,
                "start": intent.started,
                "end": self.clock.now(),
                "result": result,
                "phases": self.phases,
                **more,
            }
        )

    def _note_drained(self, draining: Draining, cut: int) -> None:
        spent = max(self.clock.time() - draining.since, 0.0)
        words = (
            f"slot {draining.slot} (release {draining.release}) was stopped {spent:.0f} s after the switch, {cut} cut"
        )
        self._warn(
            lambda: self.store.record(
                {
                    "who": "", "from": "", **draining.about, "event": words, "start": self.clock.now(),
                    "drained": draining.release, "slot": draining.slot, "cut": cut, "seconds": round(spent, 1),
                }
            )
        )  # fmt: skip

    def _failure(self, intent: Intent, error: Exception) -> SlipwayError:
        """The failure with its cause named, from what can still be seen of the slot."""
        if isinstance(error, (Fenced, Recalled)):
            return error
        slot = intent.slot
        status = SlotStatus()
        evidence: dict[str, Any] = {}
        cause = _words(error)
        if isinstance(error, TransactionError):
            evidence.update(error.evidence)
        try:
            status = self.runtime.status()[slot]
            evidence["log"] = self.runtime.logs(slot, self.request.log_lines)
            evidence["listening"] = self.runtime.listening(slot)
        except UNSEEN as trouble:
            evidence["unseen"] = _words(trouble)
        health = self.probe(slot, self.request.gate.path)
        evidence["health"] = health.error or f"{health.status} {health.body[:2000]}"
        evidence["exit_code"] = status.exit_code
        evidence["out_of_memory"] = status.out_of_memory
        canary = evidence.pop("canary", None)
        failure = TransactionError(explain(cause, status, health, evidence), evidence)
        failure.details.update({"canary": canary} if canary else {})
        return failure

    def _try(self, work: Callable[[], Any]) -> bool:
        """Do what must not stop what comes after it; tells whether it was done."""
        try:
            work()
        except UNSEEN as error:
            self.warnings.append(_words(error))
            return False
        return True

    def _warn(self, work: Callable[[], Any]) -> None:
        self._try(work)

    def _phase(self, name: str, work: Callable[[], Any]) -> Any:
        begin = self.clock.monotonic()
        phase: dict[str, Any] = {"phase": name, "at": round(begin - self._began, 2)}
        self.tell(phase)
        try:
            return work()
        finally:
            phase = {**phase, "seconds": round(self.clock.monotonic() - begin, 2)}
            self.phases.append(phase)
            self.tell(phase)

    def _result(
        self,
        state: State,
        changed: bool,
        recovered: Optional[str],
        canary: Optional[Verdict] = None,
        draining: Optional[Draining] = None,
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "release": state.release,
            "was": state.previous,
            "slot": state.slot,
            "phases": self.phases,
            "recovered": recovered,
            "canary": canary.as_dict() if canary else None,
            "draining": {"slot": draining.slot, "release": draining.release} if draining else None,
            "warnings": self.warnings,
        }


def _same(record: dict[str, Any], intent: Intent) -> bool:
    """A record is that of this transaction."""
    return bool(record["release"] == intent.release and record.get("start") == intent.started)


def _words(error: BaseException) -> str:
    """What to say of an error, whatever it is."""
    if isinstance(error, TransactionError):
        return error.cause
    if isinstance(error, SlipwayError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the host'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}"


def _more(failure: SlipwayError, words: str) -> SlipwayError:
    """The same failure with something to add."""
    if isinstance(failure, TransactionError):
        longer = type(failure)(failure.cause + words, failure.evidence)
        longer.details.update(failure.details)
        return longer
    return type(failure)(f"{failure}{words}", failure.details, failure.kind)
