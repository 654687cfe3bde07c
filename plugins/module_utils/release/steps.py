"""The steps of a transaction, in the order in which it takes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Optional

from ..edge.haproxy import EdgeError
from .canary import GO, REVERT, UNKNOWN, WORSE, Verdict
from .gaps import SHORTLY, Gaps
from .model import Draining, Intent, SlotStatus, State, TransactionError, other
from .patience import Patience
from .records import UNSEEN
from .switch import FIRST_LOOK, POLL

# How much longer each pause between the first looks at a slot that starts is than the one before, and seconds between
# two passes.
SLOWER, BETWEEN_PASSES = 1.4, 0.3


class Steps(Gaps):
    """From a slot that is cleared to an old one that is left; and a slot that is started again."""

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

    def _start(self, slot: str, release: str) -> None:
        def start() -> None:
            self._tell_edge(slot, "drain")
            self.runtime.stop(slot, self.request.stop_grace)
            self._tell_check(slot, release)
            self.runtime.start(slot, release)

        self._phase("start", start)

    def _wait_healthy(self, slot: str, release: str, name: str = "gate", alone: bool = False) -> None:
        """N passes in a row of the health path, each with the right release behind it, the first before the deadline.

        `alone` is for the earlier release that is started again: nothing may keep that from serving.
        """
        gate = self.request.gate

        def wait() -> None:
            begin = self.clock.monotonic()
            pause, passes = FIRST_LOOK, 0
            patience = Patience(
                begin,
                lambda problem: self._elsewhere(slot, problem),
                lambda: "" if alone else self._log_of(slot),
            )
            while True:
                problem = self.ready(slot, release)
                passes = 0 if problem.error else passes + 1
                now = self.clock.monotonic()
                if problem.error or passes >= gate.passes:
                    self._require_running(slot, release, problem.error)
                if passes >= gate.passes:
                    return
                if (why := patience.ends(problem, now)) and not alone:
                    raise TransactionError(why)
                if problem.error and now - begin >= gate.deadline:
                    raise TransactionError(f"not ready within {gate.deadline:.0f} s: {problem.error}")
                if not alone:
                    self._breathe(switched=False)
                self.clock.sleep(min(BETWEEN_PASSES if passes else pause, gate.interval))
                pause = FIRST_LOOK if passes else min(pause * SLOWER, max(gate.interval, FIRST_LOOK))

        self._phase(name, wait)

    def _require_running(self, slot: str, release: str, problem: str) -> None:
        """Raise TransactionError where the slot ended, or runs something else.

        A runtime that does not answer says nothing about it.
        """
        try:
            status = self.runtime.status()[slot]
        except UNSEEN:
            return
        if status.restarts or not status.running:
            raise TransactionError(f"the new release ended while it was starting ({problem or 'it exited'})")
        self._require_memory(status, "while it was starting")
        self._require_release(status, slot, release)

    def _require_memory(self, status: SlotStatus, when: str) -> None:
        """Raise TransactionError where a process of the slot was killed at its limit, though another one may answer."""
        if status.out_of_memory:
            raise TransactionError(
                f"a process of the new release was killed {when}; raise fastapi_app_memory_mib, or lower "
                "fastapi_app_workers, each of which needs its share"
            )

    def _require_release(self, status: SlotStatus, slot: str, release: str) -> None:
        """Raise TransactionError where another release runs in the slot: that tells whose the good answers are."""
        if status.release not in (None, release):
            raise TransactionError(f"slot {slot} runs release {status.release} and not {release}; somebody started it")

    def _revive(self, slot: str, release: str) -> bool:
        """Start the earlier release in its slot again; tells whether it is well.

        Where it may not run beside what is in the other slot, that is stopped before. Where this was in vain what was
        well there is started again; else this one is left to come up in its own time.
        """

        def revive() -> bool:
            rival, well = None, False
            try:
                if not self.store.has(release):
                    return False
                if rival := self._rival(slot, release):
                    well = not self.ready(other(slot), rival).error
                    self._keep_evidence(other(slot))
                if self._must_make_way(slot, release):
                    self._make_way(slot, release, self._show_life, hurried=self._unserved(), storing=False)
                self._start_again(slot, release)
                self._wait_healthy(slot, release, alone=True)
            except UNSEEN as error:
                self.warnings.append(f"release {release} could not be started again: {error}")
                if rival and well:
                    self._give_back(other(slot), rival, self._start_and_wait)
                elif rival is not None:
                    self._try(lambda: self._tell_edge(slot, "ready"))
                return False
            return True

        return bool(self._phase("revive", revive))

    def _start_and_wait(self, slot: str, release: str) -> None:
        self._start_again(slot, release)
        self._wait_healthy(slot, release, alone=True)

    def _start_again(self, slot: str, release: str) -> None:
        """Start a slot that has ended; what is still there of it needs no room on a disk that may be full.

        Raises RuntimeFailed and OSError.
        """
        self._try(lambda: self._tell_check(slot, release))
        status = self.runtime.status()[slot]
        if status.release == release and not status.restarts:
            with suppress(*UNSEEN):
                self.runtime.start(slot, release)
                return
        self.runtime.stop(slot, self.request.stop_grace)
        self.runtime.start(slot, release)

    def _hear_promise(self, slot: str, release: Optional[str]) -> None:
        """Have the API of a release that is about to be stopped to compare with: it is kept with the release."""
        if self.contract is not None and release:
            self.contract(slot, release, None)

    def _keeps_promise(self, intent: Intent) -> dict[str, Any]:
        """What the new release breaks of the API that users have, as the ledger has it; empty where nothing is told.

        Raises TransactionError where it may not.
        """
        compares = self.contract
        if compares is None or intent.was == intent.release:
            return {}
        found = self._phase("api", lambda: compares(intent.slot, intent.release, intent.was))
        told = {"api": about} if (about := found.as_dict()) else {}
        if found.refused:
            raise TransactionError(found.sentence(str(intent.was)), told)
        return told

    def _answers_users(self, intent: Intent) -> dict[str, Any]:
        """What the new release breaks of what users ask the one that serves, as the ledger has it.

        Raises TransactionError where it may not.
        """
        replays, was, old = self.replay, intent.was, other(intent.slot)
        if replays is None or was in (None, intent.release) or not self._runs(old):
            return {}
        new, live = (intent.slot, intent.release), (old, str(was))
        found = self._phase("replay", lambda: replays(new, live, lambda: self._breathe(switched=False)))
        told = {"replay": about} if (about := found.as_dict()) else {}
        if found.refused:
            raise TransactionError(found.sentence(str(was)), told)
        return told

    def _switch(self, intent: Intent) -> None:
        """Send requests to the new slot, and nothing new to the old one."""
        new, old = intent.slot, other(intent.slot)

        def switch() -> None:
            if self.judge:
                self.judge.begin(new)
            else:
                self.forget(new)  # by what it answers from now on the next release is judged
            self._tell_edge(new, "ready")
            if not intent.switched:
                self.store.write_intent(replace(intent, switched=True))
            self._confirm(new, old)
            self._answered()

        self._phase("switch", switch)

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
        if self.judge is None:
            return None
        verdict = self.judge.verdict(new, old)
        told = {"canary": verdict.as_dict()}
        if verdict.word == WORSE:
            raise TransactionError(f"the new release answers worse than the old one: {verdict.sentence}", told)
        if verdict.word == UNKNOWN and self.judge.unknown == REVERT:
            raise TransactionError(
                f"whether the new release is worse is unknown, and fastapi_app_canary_unknown says {REVERT}: "
                f"{verdict.sentence}; soak longer (fastapi_app_soak), or deploy with "
                f"-e fastapi_app_canary_unknown={GO}",
                told,
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
        self._require_memory(status, "soon after the switch")
        self._require_release(status, intent.slot, intent.release)
        self._require_beside(intent.slot, intent.release, "soon after the switch")
        if problem and failures + 1 >= self.request.gate.passes:
            raise TransactionError(f"the new release got sick soon after the switch: {problem}")
        return failures + 1 if problem else 0

    def _write_down(self, intent: Intent, **measured: Any) -> State:
        """Record that the new release serves. The old slot still runs: what cannot be written can be undone."""
        state = State(intent.release, intent.slot, self.clock.now(), self._previous(intent))
        self._record(intent, "good", **measured)
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
        self._warn(lambda: self._only_beside(new, intent.release))
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

    def prune(self, live: Optional[str] = None) -> None:
        """Remove releases that nobody returns to. Raises OSError and RuntimeFailed; the next one takes what is left."""
        sight = self.look()
        needed = {status.release for status in sight.slots.values() if status.release}
        self._warn(self._forget_ended)
        needed |= {one.release for one in self.runtime.beside.instances()}
        intent, state = self._intent(), self.state()
        needed |= {release for release in (live, self.request.release) if release}
        needed |= {release for release in (intent.release, intent.was) if release} if intent else set()
        needed |= {state.release} if state else set()
        removable = self.store.removable(self.request.keep, needed)
        if removable:
            self.runtime.discard(removable)
            self.store.remove(removable)
