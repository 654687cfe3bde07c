"""The release transaction: start beside, gate, switch, drain, stop, record; a crash is finished or undone."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Callable, Optional, Protocol

from .diagnosis import explain
from .edge import EdgeError, Server
from .model import Intent, Probe, Request, SlotStatus, State, TransactionError, other
from .runtime import Runtime, RuntimeFailed
from .store import Store

EDGE_SEES_SLOT_WITHIN = 20.0
POLL = 0.25


class EdgeLike(Protocol):
    """What the edge must be able to tell and to do."""

    def servers(self) -> dict[str, Server]: ...
    def set_state(self, slot: str, state: str) -> None: ...


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
    ) -> None:
        self.request = request
        self.store = store
        self.runtime = runtime
        self.edge = edge
        self.probe = probe
        self.clock = clock or Clock()
        self.phases: list[dict[str, Any]] = []

    def plan(self) -> dict[str, Any]:
        """What `run` would do, without doing it."""
        state = self.store.state()
        settled = self._settled(state)
        return {
            "changed": not settled,
            "release": self.request.release,
            "was": state.release if state else None,
            "slot": state.slot if state and settled else self._target(state),
            "unfinished": self.store.intent() is not None,
        }

    def run(self) -> dict[str, Any]:
        """Make the requested release serve. Raises TransactionError, with the earlier release serving as before."""
        recovered = self.reconcile()
        state = self.store.state()
        if self._settled(state):
            assert state is not None
            return self._result(state, changed=recovered is not None, recovered=recovered)
        if not self.store.has(self.request.release):
            raise TransactionError(
                f"release {self.request.release} is not on this host (no files in {self.store.releases})"
            )
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
        self._phase("switch", lambda: self.edge.set_state(slot, "ready"))
        return self._result(self._finish(intent), changed=True, recovered=recovered)

    def reconcile(self) -> Optional[str]:
        """Finish or undo what a crashed transaction left; returns what was done, None where nothing was left.

        Once the edge sends requests to the new slot it is finished, before that it is undone: either way one whole
        release serves. `switched` in the intent only says so sooner, the edge is what counts.
        """
        intent = self.store.intent()
        if intent is None:
            return None
        status = self.runtime.status()[intent.slot]
        started = status.running and status.release == intent.release
        reached = started and self.edge.servers()[intent.slot].enabled
        if intent.switched or reached:
            self._finish(intent)
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

    def _finish(self, intent: Intent) -> State:
        """From the switch on: drain and stop the old slot, then write down that it is done."""
        old = other(intent.slot)
        if not intent.switched:
            self.store.write_intent(replace(intent, switched=True))
        self.edge.set_state(intent.slot, "ready")
        cut = self._drain(old)
        self._phase("stop", lambda: self.runtime.stop(old, self.request.stop_grace))
        state = State(release=intent.release, slot=intent.slot, since=self.clock.now(), previous=intent.was)
        self._record(intent, "good", cut=cut)
        self.store.write_state(state)
        self.store.drop_intent()
        self._prune(intent.release)
        return state

    def _prune(self, live: str) -> None:
        """`live` is not the requested one while an interrupted transaction is finished; both are needed then."""
        removable = self.store.removable(self.request.keep, {live, self.request.release})
        self.runtime.discard(removable)
        self.store.remove(removable)

    def _drain(self, old: str) -> int:
        """Send nothing new to `old` and wait for its requests to end; returns how many were left at the deadline."""

        def drain() -> int:
            self.edge.set_state(old, "drain")
            if not self.runtime.status()[old].running:
                return 0
            deadline = self.clock.monotonic() + self.request.drain
            while True:
                server = self.edge.servers()[old]
                if server.enabled:  # somebody reloaded HAProxy in between
                    self.edge.set_state(old, "drain")
                elif not server.sessions or self.clock.monotonic() >= deadline:
                    return server.sessions
                self.clock.sleep(POLL)

        return int(self._phase("drain", drain))

    def _abandon(self, intent: Intent, cause: str) -> None:
        """Take the new slot away; the old one was never touched."""
        self.runtime.stop(intent.slot, self.request.stop_grace)
        self._record(intent, "failed", cause=cause)
        self.store.drop_intent()

    def _record(self, intent: Intent, result: str, **more: Any) -> None:
        last = self.store.ledger()[-1:]
        if last and last[0]["release"] == intent.release and last[0]["start"] == intent.started:
            return  # written just before a crash
        about = self.request.about if intent.release == self.request.release else {}
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
        try:
            return work()
        finally:
            self.phases.append({"phase": name, "seconds": round(self.clock.monotonic() - begin, 2)})

    def _result(self, state: State, changed: bool, recovered: Optional[str]) -> dict[str, Any]:
        return {
            "changed": changed,
            "release": state.release,
            "was": state.previous,
            "slot": state.slot,
            "phases": self.phases,
            "recovered": recovered,
        }
