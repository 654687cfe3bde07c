"""What a transaction sees of the host: what runs, what answers, and why something does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Optional

from ..edge.haproxy import EdgeError
from ..host.errors import Fenced, SlipwayError
from ..host.shown import head
from .diagnosis import advice, elsewhere, explain
from .model import Gate, Intent, Probe, Recalled, SlotStatus, TransactionError
from .records import MEASURED, UNSEEN, Records, words_of
from .sight import Sight

# What is read of a log while a slot starts.
LOG_LINES = 2000


class Looks(Records):
    """The looks of a transaction; none of them changes anything."""

    def look(self) -> Sight:
        """What runs and what the edge has. Raises EdgeError and RuntimeFailed."""
        return Sight(self.runtime.status(), self.edge.servers())

    def serving(self) -> Optional[str]:
        """The release that gets requests; None where none does or it cannot be seen."""
        try:
            return self.look().serving(self._recorded_slot())
        except UNSEEN:
            return None

    def _unserved(self) -> bool:
        """Whether no release gets requests, as far as that can be seen."""
        try:
            return self.look().serving(self._recorded_slot()) is None
        except UNSEEN:
            return False

    def gate_of(self, release: Optional[str]) -> Gate:
        """How this release is looked at: as its own files say, and where they say nothing as the request does."""
        return replace(self.request.gate, **self.store.gate(release)) if release else self.request.gate

    def ready(self, slot: str, release: str) -> Probe:
        """How a slot answers. `error` is what is wrong, an answer that is none of a healthy `release` included."""
        gate = self.gate_of(release)
        return judged(lambda path: self.probe(slot, path, gate), gate, release)

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

    def _answers(self, slot: str) -> bool:
        """Whether the edge's own check of a slot passes; not where the edge does not say."""
        try:
            return self.edge.servers()[slot].answers
        except (EdgeError, OSError):
            return False

    def _sessions(self, slot: str) -> int:
        """Requests and connections that a slot answers. Where the edge does not say there may be some."""
        try:
            return self.edge.servers()[slot].sessions
        except (EdgeError, OSError):
            return 1

    def _elsewhere(self, slot: str, health: Probe) -> str:
        try:
            return elsewhere(health, self.runtime.listening(slot))
        except UNSEEN:
            return ""

    def _say_open(self, slot: str) -> None:
        """Warn of a slot that is reached without the edge, with all that the edge keeps away."""
        try:
            found = self.runtime.past_edge(slot)
        except UNSEEN:
            return
        if found:
            where = [one if " at " in one else f"{one} of every address of this host" for one in found]
            self.warnings.append(
                f"slot {slot} listens on {' and '.join(where)}, so whoever reaches the host gets past the edge, its "
                "limits and its passwords; have the app listen on 127.0.0.1, as the variable HOST tells it (@PORT@ in "
                "fastapi_app_command is the port for requests: --bind 127.0.0.1:@PORT@)"
            )

    def _log_of(self, slot: str) -> str:
        """The last lines of what a slot wrote; nothing where it cannot be read."""
        try:
            return self.runtime.logs(slot, LOG_LINES)
        except UNSEEN:
            return ""

    def _keep_evidence(self, slot: str) -> None:
        """Look closely at what is in a slot before it is stopped, which takes its log away."""
        release = self.runtime.status()[slot].release
        if release:
            self._evidence[slot] = self._look_closely(slot, release)

    def _look_closely(self, slot: str, release: str) -> tuple[SlotStatus, Probe, dict[str, Any]]:
        """What can be seen of a slot: its status, what it answers, and what there is to show of both."""
        status = SlotStatus()
        evidence: dict[str, Any] = {}
        try:
            status = self.runtime.status()[slot]
            evidence["log"] = self.runtime.logs(slot, self.request.log_lines)
            evidence["listening"] = self.runtime.listening(slot)
        except UNSEEN as trouble:
            evidence["unseen"] = words_of(trouble)
        gate = self.gate_of(release)
        health = self.probe(slot, gate.path, gate)
        evidence["health"] = health.error or f"{health.status} {head(health.body, 2000)}"
        evidence["exit_code"] = status.exit_code
        evidence["out_of_memory"] = status.out_of_memory
        return status, health, evidence

    def _failure(self, intent: Intent, error: Exception) -> SlipwayError:
        """The failure with its cause named, from what can still be seen of the slot."""
        if isinstance(error, (Fenced, Recalled)):
            return error
        slot = intent.slot
        cause = words_of(error)
        if isinstance(error, TransactionError) and "process" in error.evidence:
            return TransactionError(cause, dict(error.evidence))  # what its own processes told explains it
        kept = slot in self._evidence
        status, health, seen = self._evidence.pop(slot) if kept else self._look_closely(slot, intent.release)
        evidence = {**(error.evidence if isinstance(error, TransactionError) else {}), **seen}
        told = {name: found for name in MEASURED if (found := evidence.pop(name, None))}
        secrets = self.store.secrets(intent.release)
        failure = TransactionError(explain(cause, status, health, evidence, secrets), evidence)
        failure.details.update(told)
        return failure


def judged(ask: Callable[[str], Probe], gate: Gate, release: str) -> Probe:
    """The answer of what `ask` asks for a path; `error` is what is wrong, as of `Looks.ready`."""
    health = ask(gate.path)
    if health.error:
        return health
    if not gate.takes(health.status):
        words = f"GET {gate.path} answered {health.status}: {head(health.body, 500)}{advice(gate, health)}"
        return replace(health, error=words)
    if not gate.version_path:
        return health
    version = ask(gate.version_path)
    if release not in version.body:
        said = version.error or head(version.body, 200)
        words = f"GET {gate.version_path} does not name release {release}: {said}"
        return replace(version, error=f"{words}; leave fastapi_app_version_path empty where the app does not tell it")
    return health
