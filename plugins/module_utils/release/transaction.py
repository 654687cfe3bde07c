"""The release transaction: start beside, gate, switch, drain, stop, record; a crash is finished or undone."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Callable, Optional, Protocol

from ..edge.haproxy import EdgeError, Server
from .diagnosis import explain
from .model import SLOTS, Intent, Probe, Request, SlotStatus, State, TransactionError, other
from .runtime import Runtime, RuntimeFailed
from .store import Store

MADE_OF = ("image", "config", "revision", "migration", "sbom")
EDGE_SEES_SLOT_WITHIN = 20.0
POLL = 0.25


class EdgeLike(Protocol):
    """What the edge must be able to tell and to do."""

    def servers(self) -> dict[str, Server]: ...
    def set_state(self, slot: str, state: str) -> None: ...


# Compares what the new slot answered in the seconds since the switch with what the old one answered before: empty, or
# what is worse.
Judge = Callable[[str, str, float], str]


class Clock:
    """Time, so that tests need none."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> str:
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
    ) -> None:
        self.request = request
        self.store = store
        self.runtime = runtime
        self.edge = edge
        self.probe = probe
        self.clock = clock or Clock()
        self.judge = judge
        self.tell = tell
        self.phases: list[dict[str, Any]] = []
        self._began = self.clock.monotonic()

    def plan(self) -> dict[str, Any]:
        """What `run` would do, without doing it."""
        state = self.store.state()
        settled = self._settled(state)
        return {
            "changed": not settled or self.request.restart,
            "release": self.request.release,
            "was": state.release if state else None,
            "slot": state.slot if state and settled else self._target(state),
            "unfinished": self.store.intent() is not None,
        }

    def run(self) -> dict[str, Any]:
        """Make the requested release serve. Raises TransactionError, with the earlier release serving as before."""
        recovered = self.reconcile()
        state = self.store.state()
        if self._settled(state) and not self.request.restart:
            assert state is not None
            return self._result(state, changed=recovered is not None, recovered=recovered)
        if not self.store.has(self.request.release):
            raise TransactionError(
                f"release {self.request.release} is not on this host (no files in {self.store.releases})"
            )
        self.store.seal(self.request.release)
        slot = self._target(state)
        intent = Intent(
            release=self.request.release,
            slot=slot,
            was=state.release if state else None,
            started=self.clock.now(),
        )
        self.store.write_intent(intent)
        try:
            self._start(slot)
            self._wait_healthy(slot)
            self._wait_seen_by_edge(slot)
        except (TransactionError, RuntimeFailed, EdgeError) as error:
            failure = self._refusal(slot, error)
            self._abandon(intent, failure.cause)
            raise failure from error
        try:
            self._switch(intent)
            cut = self._drain_and_soak(slot)
        except TransactionError as error:
            failure = self._refusal(slot, error)
            self._return(intent, failure.cause)
            raise failure from error
        return self._result(self._finish(intent, cut), changed=True, recovered=recovered)

    def remove(self) -> None:
        """Take the app away: nothing of it gets requests, runs or is kept afterwards."""
        for slot in SLOTS:
            with suppress(EdgeError):  # the backend may be gone already, or HAProxy with it
                self.edge.set_state(slot, "drain")
            self.runtime.stop(slot, self.request.stop_grace)
        if self.store.releases.is_dir():
            self.runtime.discard([path.name for path in self.store.releases.iterdir()])
        self.store.destroy()

    def reconcile(self) -> Optional[str]:
        """Finish or undo what a crashed transaction left; returns what was done, None where nothing was left.

        Once the edge sends requests to the new slot it is finished, before that it is undone: either way one whole
        release serves. `switched` in the intent only says so sooner, the edge is what counts.
        """
        intent = self.store.intent()
        if intent is None:
            return None
        if intent.returning:
            self._return(intent, "interrupted while it was taken back")
            return f"took back {intent.release}"
        status = self.runtime.status()[intent.slot]
        started = status.running and status.release == intent.release
        reached = started and self.edge.servers()[intent.slot].enabled
        if intent.switched or reached:
            self._switch(intent)
            self._finish(intent, self._drain(other(intent.slot)))
            return f"finished the interrupted switch to {intent.release}"
        self._abandon(intent, "interrupted before the switch")
        return f"undid the interrupted start of {intent.release}"

    def _settled(self, state: Optional[State]) -> bool:
        """The requested release already serves, alone, and the edge agrees."""
        if state is None or state.release != self.request.release or self.store.intent() is not None:
            return False
        slots = self.runtime.status()
        live, idle = slots[state.slot], slots[other(state.slot)]
        if not live.running or live.release != state.release or idle.running:
            return False
        servers = self.edge.servers()
        return servers[state.slot].enabled and self._ready(state.slot) == ""

    def _target(self, state: Optional[State]) -> str:
        return other(state.slot) if state else "blue"

    def _start(self, slot: str) -> None:
        def start() -> None:
            self.edge.set_state(slot, "drain")
            self.runtime.stop(slot, self.request.stop_grace)
            self.runtime.start(slot, self.request.release)

        self._phase("start", start)

    def _wait_healthy(self, slot: str) -> None:
        """N passes in a row of the health path, each with the right release behind it, before the deadline."""
        gate = self.request.gate

        def wait() -> None:
            deadline = self.clock.monotonic() + gate.deadline
            passes = 0
            while True:
                problem = self._ready(slot)
                passes = 0 if problem else passes + 1
                if passes >= gate.passes:
                    return
                status = self.runtime.status()[slot]
                if not status.running or status.restarts:
                    raise TransactionError(f"the new release ended while it was starting ({problem or 'it exited'})")
                if self.clock.monotonic() >= deadline:
                    raise TransactionError(f"not ready within {gate.deadline:.0f} s: {problem}")
                self.clock.sleep(gate.interval if passes else min(POLL, gate.interval))

        self._phase("gate", wait)

    def _ready(self, slot: str) -> str:
        """Empty when the slot is healthy and runs the wanted release, else what is wrong."""
        gate = self.request.gate
        health = self.probe(slot, gate.path)
        if health.error:
            return health.error
        if health.status != 200:
            return f"GET {gate.path} answered {health.status}: {health.body[:500]}"
        if not gate.version_path:
            return ""
        version = self.probe(slot, gate.version_path)
        if self.request.release not in version.body:
            return f"GET {gate.version_path} does not name release {self.request.release}: {version.body[:200]}"
        return ""

    def _wait_seen_by_edge(self, slot: str) -> None:
        def wait() -> None:
            deadline = self.clock.monotonic() + EDGE_SEES_SLOT_WITHIN
            while not self.edge.servers()[slot].answers:
                if self.clock.monotonic() >= deadline:
                    raise TransactionError(
                        f"the slot is healthy, but HAProxy's check of it did not pass within "
                        f"{EDGE_SEES_SLOT_WITHIN:.0f} s; look at owner and mode of the socket directory"
                    )
                self.clock.sleep(POLL)

        self._phase("edge", wait)

    def _switch(self, intent: Intent) -> None:
        """Send requests to the new slot, and nothing new to the old one."""

        def switch() -> None:
            self.edge.set_state(intent.slot, "ready")
            if not intent.switched:
                self.store.write_intent(replace(intent, switched=True))
            self.edge.set_state(other(intent.slot), "drain")

        self._phase("switch", switch)

    def _finish(self, intent: Intent, cut: int) -> State:
        """Stop the drained old slot, then write down that it is done. `cut` requests of it were still in flight."""
        self._phase("stop", lambda: self.runtime.stop(other(intent.slot), self.request.stop_grace))
        state = State(release=intent.release, slot=intent.slot, since=self.clock.now(), previous=self._previous(intent))
        self._record(intent, "good", cut=cut)
        self.store.write_state(state)
        self.store.drop_intent()
        self._prune(intent.release)
        return state

    def _previous(self, intent: Intent) -> Optional[str]:
        """What served before; a restart has not changed that."""
        state = self.store.state()
        return state.previous if state and intent.was == intent.release else intent.was

    def _return(self, intent: Intent, cause: str) -> None:
        """Send requests to the old slot again, which still runs, and take the new one away."""
        old = other(intent.slot)
        if not self.runtime.status()[old].running:
            self._abandon(intent, cause)
            return
        if not intent.returning:
            self.store.write_intent(replace(intent, switched=True, returning=True))
        self.edge.set_state(old, "ready")
        self._drain(intent.slot, name="return")
        self._abandon(intent, cause)

    def _prune(self, live: str) -> None:
        """`live` is not the requested one while an interrupted transaction is finished; both are needed then."""
        removable = self.store.removable(self.request.keep, {live, self.request.release})
        self.runtime.discard(removable)
        self.store.remove(removable)

    def _drain(self, old: str, name: str = "drain") -> int:
        """Send nothing new to `old` and wait for its requests to end; returns how many were left at the deadline."""

        def drain() -> int:
            self.edge.set_state(old, "drain")
            if not self.runtime.status()[old].running:
                return 0
            deadline = self.clock.monotonic() + self.request.drain
            while (left := self._in_flight(old)) and self.clock.monotonic() < deadline:
                self.clock.sleep(POLL)
            return left

        return int(self._phase(name, drain))

    def _in_flight(self, old: str) -> int:
        """Requests that a drained slot still answers. A reload of HAProxy in between is noticed and undone."""
        server = self.edge.servers()[old]
        if server.enabled:
            self.edge.set_state(old, "drain")
        return server.sessions

    def _drain_and_soak(self, slot: str) -> int:
        """Drain the old slot while the new one is watched, then watch it on until `soak` seconds are over.

        Returns how many requests the old slot still answers. Raises TransactionError when the new release gets worse.
        """
        old = other(slot)
        if not self.runtime.status()[old].running:
            return 0  # the first release: there is nothing to return to
        begin = self.clock.monotonic()
        cut = int(self._phase("drain", lambda: self._watch(slot, 0, lambda: self._in_flight(old))))
        left = self.request.soak - (self.clock.monotonic() - begin)
        if left > 0:
            self._phase("soak", lambda: self._watch(slot, left, lambda: 0))
        if worse := self.judge(slot, old, self.clock.monotonic() - begin) if self.judge else "":
            raise TransactionError(worse)
        return cut

    def _watch(self, slot: str, seconds: float, in_flight: Callable[[], int]) -> int:
        """Look at `slot` for `seconds`, and until nothing is in flight any more or the drain time is over."""
        begin = self.clock.monotonic()
        looked, failures = begin, 0
        while True:
            left, now = in_flight(), self.clock.monotonic()
            if now - begin >= seconds and (not left or now - begin >= self.request.drain):
                return left
            if now - looked >= self.request.gate.interval:
                looked = now
                failures = self._look(slot, failures)
            self.clock.sleep(POLL)

    def _look(self, slot: str, failures: int) -> int:
        """Failures in a row of a slot that serves. Raises TransactionError when it ended or there are too many."""
        status = self.runtime.status()[slot]
        if not status.running or status.restarts:
            raise TransactionError("the new release ended soon after the switch")
        problem = self._ready(slot)
        if problem and failures + 1 >= self.request.gate.passes:
            raise TransactionError(f"the new release got sick soon after the switch: {problem}")
        return failures + 1 if problem else 0

    def _abandon(self, intent: Intent, cause: str) -> None:
        """Take the new slot away; the old one was never touched."""
        self.runtime.stop(intent.slot, self.request.stop_grace)
        self._record(intent, "failed", cause=cause)
        self.store.drop_intent()

    def _record(self, intent: Intent, result: str, **more: Any) -> None:
        last = self.store.releases_recorded()[-1:]
        if last and last[0]["release"] == intent.release and last[0]["start"] == intent.started:
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

    def _refusal(self, slot: str, error: Exception) -> TransactionError:
        """The failure with its cause named, from what can still be seen of the slot."""
        cause = error.cause if isinstance(error, TransactionError) else str(error)
        status = SlotStatus()
        evidence: dict[str, Any] = {}
        try:
            status = self.runtime.status()[slot]
            evidence["log"] = self.runtime.logs(slot, self.request.log_lines)
            evidence["listening"] = self.runtime.listening(slot)
        except RuntimeFailed as trouble:
            evidence["unseen"] = str(trouble)
        health = self.probe(slot, self.request.gate.path)
        evidence["health"] = health.error or f"{health.status} {health.body[:2000]}"
        evidence["exit_code"] = status.exit_code
        evidence["out_of_memory"] = status.out_of_memory
        return TransactionError(explain(cause, status, health, evidence), evidence)

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

    def _result(self, state: State, changed: bool, recovered: Optional[str]) -> dict[str, Any]:
        return {
            "changed": changed,
            "release": state.release,
            "was": state.previous,
            "slot": state.slot,
            "phases": self.phases,
            "recovered": recovered,
        }
