"""The release transaction: start beside, gate, switch, soak, record, leave the old slot; a crash is finished or undone.

What runs, answers and is enabled at the edge decides; records are a hint. No slot that answers is stopped before the
edge confirms that the other one serves. Whatever an effect raises, the earlier release gets its requests back first;
why is found out then, and the new slot is stopped last.
"""

from __future__ import annotations

from typing import Any, Optional

from ..host.errors import Fenced
from .model import SLOTS, Draining, Intent, State, TransactionError, other
from .records import MEASURED
from .sight import Sight
from .ways_back import WaysBack


class Transaction(WaysBack):
    """Takes one host to one release. Every public method may be called again after a crash of any earlier call."""

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
            beside = self._only_beside(live, self.request.release)
            state = self._remember(live)
            # It may be from before the edge was told, and the next provisioning may bring another path for all.
            self._try(lambda: self._tell_check(live, state.release))
            return self._result(state, changed=beside or recovered is not None, recovered=recovered)
        if not self.store.has(self.request.release):
            raise TransactionError(
                f"release {self.request.release} is not on this host (no files in {self.store.releases})"
            )
        self._may_go_on("before anything was changed")
        self.store.seal(self.request.release)
        slot = self._target(live)
        recorded = self.state()
        was = (sight.slots[live].release if live else None) or (recorded.release if recorded else None)
        intent = Intent(
            release=self.request.release, slot=slot, was=was, started=self.clock.now(), about=self.request.about
        )
        try:
            self.store.write_intent(intent)
            self._clear(slot)
            if self._must_make_way(slot, intent.release):
                self._may_go_on("before the earlier release was stopped")
                self._hear_promise(other(slot), was)
                self._make_way(slot, intent.release, lambda: self._breathe(switched=False))
            self._start(slot, intent.release)
            self._wait_healthy(slot, intent.release)
            self._say_open(slot)
            self._wait_seen_by_edge(slot, intent.release)
            measured = {**self._keeps_promise(intent), **self._answers_users(intent)}
            self._start_beside(slot, intent.release)
            self._may_go_on("before the switch")
        except Exception as error:
            raise self._abandon(intent, error) from error
        try:
            self._switch(intent)
            if verdict := self._prove(intent):
                measured["canary"] = verdict.as_dict()
            self._confirm(slot, other(slot), surely=intent.was is not None)
            state = self._write_down(intent, **measured)
        except Exception as error:
            raise self._return(intent, error) from error
        draining = self._leave(intent)
        return self._result(state, changed=True, recovered=recovered, measured=measured, draining=draining)

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

    def remove(self) -> None:
        """Take the app away: nothing of it gets requests, runs or is kept afterwards."""
        for slot in SLOTS:
            self._try(lambda slot=slot: self._tell_edge(slot, "drain"))  # type: ignore[misc] # it may be gone
            self.runtime.stop(slot, self.request.stop_grace)
        self._end_beside()
        if self.store.releases.is_dir():
            self.runtime.discard([path.name for path in self.store.releases.iterdir()])
        self.store.destroy()

    def _expect(self, sight: Sight) -> None:
        """Raise Fenced where another release serves than the caller was told, the wanted one excepted."""
        expects, serving = self.request.expects, sight.serving(self._recorded_slot())
        if expects is not None and serving and serving not in (expects, self.request.release):
            raise Fenced(
                f"release {serving} serves on this host, expected was {expects or 'none'}; somebody else changed it. "
                "It was left as it is; run again"
            )

    def _settled(self, sight: Sight, live: str) -> bool:
        """The requested release already serves, alone but for what drains, and the edge agrees."""
        if sight.slots[live].release != self.request.release or not sight.serves(live):
            return False
        draining = self.draining()
        if sight.runs(other(live)) and not (draining and draining.slot == other(live)):
            return False
        return self._intent() is None and not self.ready(live, self.request.release).error

    def _target(self, live: Optional[str]) -> str:
        """The slot that does not serve."""
        if live:
            return other(live)
        recorded = self._recorded_slot()
        return other(recorded) if recorded else SLOTS[0]

    def _result(
        self,
        state: State,
        changed: bool,
        recovered: Optional[str],
        measured: Optional[dict[str, Any]] = None,
        draining: Optional[Draining] = None,
    ) -> dict[str, Any]:
        return {
            "changed": changed,
            "release": state.release,
            "was": state.previous,
            "slot": state.slot,
            "phases": self.phases,
            "recovered": recovered,
            **{name: (measured or {}).get(name) for name in MEASURED},
            "gap": self.gap(),
            "draining": {"slot": draining.slot, "release": draining.release} if draining else None,
            "warnings": self.warnings,
        }
