"""What a transaction works with, and what it reads, writes and tells of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

from ..host.errors import Damaged, Fenced, SlipwayError
from .clock import Clock
from .model import Draining, Gate, Intent, Probe, Recalled, Request, SlotStatus, State, TransactionError
from .ports import Comparer, EdgeLike, Hold, Judge, Replayer, Unheld
from .runtime import Runtime
from .store import Store

# What a runtime or the edge may answer with instead of an answer; ValueError is a half answer of Docker.
UNSEEN = (SlipwayError, OSError, ValueError, KeyError)
# What a record says of what a release is made of.
MADE_OF = ("image", "config", "revision", "migration", "sbom")
# What is told of a release beside what it is made of, and what it was refused for.
MEASURED = ("canary", "api", "replay")
# Seconds between two signs of life of the run that holds the app.
RENEWED = 5.0


class Records:
    """A transaction with its place, its time and its records."""

    def __init__(
        self,
        request: Request,
        store: Store,
        runtime: Runtime,
        edge: EdgeLike,
        probe: Callable[[str, str, Gate], Probe],
        clock: Optional[Clock] = None,
        judge: Optional[Judge] = None,
        tell: Callable[[dict[str, Any]], None] = lambda event: None,
        hold: Optional[Hold] = None,
        contract: Optional[Comparer] = None,
        replay: Optional[Replayer] = None,
        forget: Callable[[str], None] = lambda slot: None,
    ) -> None:
        self.request = request
        self.store = store
        self.runtime = runtime
        self.edge = edge
        self.probe = probe
        self.clock = clock or Clock()
        self.judge = judge
        self.contract = contract
        self.replay = replay
        self.forget = forget
        self.tell = tell
        self.hold: Hold = hold or Unheld()
        self.phases: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        # Since when nobody answers (on the monotonic clock), and for how many seconds nobody did before.
        self._silent_since: Optional[float] = None
        self._silent = 0.0
        # What was seen of a slot before it was stopped: status, answer, and what there is to show.
        self._evidence: dict[str, tuple[SlotStatus, Probe, dict[str, Any]]] = {}
        self._began = self._told = self.clock.monotonic()
        self._renewed = self._began

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
        return bool(last) and same(last[0], intent) and last[0]["result"] == "good"

    def gap(self) -> Optional[float]:
        """Seconds in which nobody answered so far, since one release made way for another; None where none did."""
        if self._silent_since is not None:
            return round(self._silent + self.clock.monotonic() - self._silent_since, 2)
        return round(self._silent, 2) if self._silent else None

    def _previous(self, intent: Intent) -> Optional[str]:
        """What served before; a restart has not changed that."""
        state = self.state()
        return state.previous if state and intent.was == intent.release else intent.was

    def _remember(self, live: str) -> State:
        """The records of what serves; where they say something else they are written anew."""
        state = self.state()
        if state and (state.release, state.slot) == (self.request.release, live):
            return state
        previous = state.release if state and state.release != self.request.release else None
        state = State(self.request.release, live, self.clock.now(), previous)
        self.store.write_state(state)
        return state

    def _record(self, intent: Intent, result: str, **more: Any) -> None:
        last = self.store.releases_recorded()[-1:]
        if last and same(last[0], intent) and last[0]["result"] == result:
            return  # written just before a crash
        # One that an earlier version began does not say whose it was.
        about = intent.about or (self.request.about if intent.release == self.request.release else {})
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
                **({"gap": gap} if (gap := self.gap()) else {}),
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

    def _try(self, work: Callable[[], Any]) -> bool:
        """Do what must not stop what comes after it; tells whether it was done."""
        try:
            work()
        except UNSEEN as error:
            self.warnings.append(words_of(error))
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


def same(record: dict[str, Any], intent: Intent) -> bool:
    """A record is that of this transaction."""
    return bool(record["release"] == intent.release and record.get("start") == intent.started)


def words_of(error: BaseException) -> str:
    """What to say of an error, whatever it is."""
    if isinstance(error, TransactionError):
        return error.cause
    if isinstance(error, SlipwayError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'the host'}: {error.strerror or error}"
    return f"{type(error).__name__}: {error}"
