"""What runs beside the slots: started after the gate, watched while the release soaks, ended when another one serves.

Of a process with replicas the old ones may end while the new ones start. Of a singleton the old one has ended before
the new one starts, and is started again where the new release is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Optional

from ..host.errors import Damaged
from .beside import SLACK, Instance, Process, processes_of
from .diagnosis import last_exception, last_words
from .model import TransactionError
from .records import RENEWED, UNSEEN
from .switch import POLL, Switch

# Seconds that a process must run before the release is switched to, and between two looks at it; afterwards it is
# watched with the slot. How often it was started again is counted, so nothing is missed in between.
STAYS_UP, LOOKED_AT = 3.0, 1.0
# Seconds that a process of a refused release has to end where nobody answers until it has.
HURRIED = 10.0


@dataclass(frozen=True)
class Difference:
    """What is there that should not be, and of which processes too few run: by name the group that has some, or 0."""

    others: list[Instance]
    lacking: dict[str, int]


class Processes(Switch):
    """The processes of the release that serves, or is about to."""

    def wanted(self, release: str) -> dict[str, Process]:
        """What a release declares for this host; a singleton is for one host alone. Raises Damaged."""
        declared = processes_of(self.store.releases, release)
        return {name: one for name, one in declared.items() if self.request.singletons or not one.singleton}

    def difference(self, slot: str, release: Optional[str], there: Collection[Instance]) -> Difference:
        """How what is there differs from the processes of the release that serves in a slot. Raises Damaged."""
        wanted = self.wanted(release) if release else {}
        lacking: dict[str, int] = {}
        kept: set[str] = set()
        for name, process in wanted.items():
            mine = [one for one in there if (one.name, one.slot, one.release) == (name, slot, release)]
            mine = [one for one in mine if not one.ending]
            newest = max((one.group for one in mine), default=0)
            mine = [one for one in mine if one.group == newest]
            kept |= {one.id for one in mine}
            if sum(not one.gone for one in mine) < process.replicas:
                lacking[name] = newest
        return Difference([one for one in there if not one.ending and one.id not in kept], lacking)

    def _start_beside(self, slot: str, release: str) -> None:
        """Start the processes of the new release, and see that they stay up; singletons of the old one end before.

        Raises TransactionError, RuntimeFailed, and what `_breathe` does.
        """
        beside, wanted = self.runtime.beside, self.wanted(release)
        there = beside.instances()
        self._note_singletons(release)
        if not wanted and not there:
            return

        def start() -> None:
            self._forget_ended()
            beside.end([one for one in there if one.slot == slot and not one.ending])
            self._end_others(slot, release, lambda: self._breathe(switched=False))
            group = 1 + max((one.group for one in there), default=0)
            several = {name: one.replicas for name, one in wanted.items() if not one.singleton}
            single = {name: one.replicas for name, one in wanted.items() if one.singleton}
            if several:
                beside.start(slot, release, group, several)
                self._stay_up(slot, release, several)
            rivals = self._rivals(there, single, but=set())
            beside.end([one for one in rivals if not one.ending])
            if single:
                self._wait_gone(rivals, lambda: self._breathe(switched=False))
                beside.start(slot, release, group, single)
                self._stay_up(slot, release, single)

        self._phase("processes", start)

    def _only_beside(self, slot: str, release: Optional[str]) -> bool:
        """Have the processes of the release that serves in a slot, and no others; returns whether it was otherwise.

        Raises TransactionError where a singleton does not end, RuntimeFailed and OSError.
        """
        beside = self.runtime.beside
        there = beside.instances()
        if release:
            self._warn(lambda: self._note_singletons(release))
        found = self.difference(slot, release, there)
        if not found.others and not found.lacking:
            return False

        def change() -> None:
            beside.end(found.others)
            wanted = self.wanted(release) if release and found.lacking else {}
            if release and wanted:
                self._end_others(slot, release, self._show_life)
            single = {name for name in found.lacking if wanted[name].singleton}
            if single:
                mine = {one.id for one in there if one not in found.others and not one.ending}
                self._wait_gone(self._rivals(there, single, but=mine), self._show_life)
            fresh = 1 + max((one.group for one in there), default=0)
            groups = {name: group or fresh for name, group in found.lacking.items()}
            for group in sorted(set(groups.values())):
                names = [name for name in groups if groups[name] == group]
                beside.start(slot, str(release), group, {name: wanted[name].replicas for name in names})

        self._phase("processes", change)
        return True

    def tend(self) -> None:
        """Have the processes of what serves. Raises EdgeError, and as `_only_beside` does."""
        sight = self.look()
        live = sight.live(self._recorded_slot())
        if live and sight.gets_requests(live):
            self._only_beside(live, sight.slots[live].release)

    def singletons(self) -> list[str]:
        """The singletons that run on this host, or end still. Raises RuntimeFailed."""
        return sorted({one.name for one in self.runtime.beside.instances() if not one.gone and self.is_single(one)})

    def give_up(self) -> bool:
        """End all singletons of this host, and wait for that; returns whether there were any.

        Raises TransactionError where one does not end, RuntimeFailed and OSError.
        """
        there = [one for one in self.runtime.beside.instances() if not one.gone and self.is_single(one)]
        self.runtime.beside.end([one for one in there if not one.ending])
        self._wait_gone(there, self._show_life)
        return bool(there)

    def _others(self, slot: str, release: str) -> list[Instance]:
        """What has not ended and may not run beside this release in `slot`. Raises RuntimeFailed."""
        there = [one for one in self.runtime.beside.instances() if not one.gone]
        there = [one for one in there if one.ending or (one.slot, one.release) != (slot, release)]
        alone = bool(there) and not self.store.overlaps(release)
        return [one for one in there if alone or not self.store.overlaps(one.release)]

    def _end_others(self, slot: str, release: str, breathe: Callable[[], object], hurried: bool = False) -> None:
        """End those, and wait for that. Raises as `_wait_gone` does."""
        others = self._others(slot, release)
        self.runtime.beside.end([one for one in others if not one.ending])
        self._wait_gone(others, breathe, hurried)

    def _note_singletons(self, release: str) -> None:
        """Remember where those of this release run: nowhere, where it declares none. Raises Damaged and OSError."""
        single = any(one.singleton for one in processes_of(self.store.releases, release).values())
        self.store.note_singletons(self.request.singleton_host if single else "", self.clock.time())

    def _rivals(self, there: Collection[Instance], single: Collection[str], but: Collection[str]) -> list[Instance]:
        """The singletons among what is there, and what has the name of one that is to be started; `but` these ids."""
        return [one for one in there if one.id not in but and (one.name in single or self.is_single(one))]

    def is_single(self, one: Instance) -> bool:
        """Whether its release declares it as a singleton; what cannot be read counts as one."""
        try:
            declared = processes_of(self.store.releases, one.release).get(one.name)
        except (Damaged, OSError):
            return True
        return declared is not None and declared.singleton

    def _wait_gone(self, instances: Collection[Instance], breathe: Callable[[], object], hurried: bool = False) -> None:
        """Wait until all have ended, each within its grace, or killed before it where that is `hurried`.

        Raises TransactionError where one does not.
        """
        begin = self.clock.monotonic()
        limit = SLACK + max((self._grace(one) for one in instances), default=0.0)
        wanted = {one.id for one in instances}
        if not wanted:
            return
        while left := [one for one in self.runtime.beside.instances() if one.id in wanted and not one.gone]:
            if self.clock.monotonic() - begin >= limit:
                names = ", ".join(sorted({f"{one.name} of release {one.release}" for one in left}))
                raise TransactionError(
                    f"{names} did not end within {limit:.0f} s; find out there what holds it up, and run this again"
                )
            if hurried and self.clock.monotonic() - begin >= HURRIED:
                self.runtime.beside.kill(left)
                hurried = False
            breathe()
            self.clock.sleep(POLL)

    def _grace(self, one: Instance) -> float:
        try:
            return processes_of(self.store.releases, one.release)[one.name].stop_grace
        except (Damaged, OSError, KeyError):
            return self.request.stop_grace

    def longest_grace(self) -> float:
        """Seconds that a process of any release that is here may take to end, and one of the slots."""
        found = [self.request.stop_grace]
        for release in self.store.staged():
            with suppress(Damaged, OSError):
                found += [one.stop_grace for one in processes_of(self.store.releases, release).values()]
        return max(found)

    def _show_life(self) -> None:
        """Renew the lease of the run, where nothing that it may want is to stop this."""
        if self.clock.monotonic() - self._renewed >= RENEWED:
            self._renewed = self.clock.monotonic()
            self._try(self.hold.lost)

    def _stay_up(self, slot: str, release: str, replicas: dict[str, int]) -> None:
        """Watch processes until they have run for `STAYS_UP` seconds. Raises TransactionError where one does not."""
        begin = self.clock.monotonic()
        while True:
            self._require_beside(slot, release, "while it was starting", replicas)
            left = begin + STAYS_UP - self.clock.monotonic()
            if left <= 0:
                return
            self._breathe(switched=False)
            self.clock.sleep(min(left, LOOKED_AT))

    def _require_beside(self, slot: str, release: str, when: str, replicas: Optional[dict[str, int]] = None) -> None:
        """Raise TransactionError where a process of the new release ended, or too few of it are there.

        A runtime that does not answer says nothing about it.
        """
        try:
            there = self.runtime.beside.instances()
        except UNSEEN:
            return
        mine = [one for one in there if (one.slot, one.release, one.ending) == (slot, release, False)]
        for one in mine:
            if one.restarts or not one.running or one.out_of_memory:
                raise self._refusal(one, when)
        for name, number in (replicas or {}).items():
            found = sum(one.name == name for one in mine)
            if found < number:
                raise TransactionError(f"of the process {name} of the new release {found} of {number} run {when}")

    def _refusal(self, one: Instance, when: str) -> TransactionError:
        """What to say of a process that did not stay up."""
        try:
            log = self.runtime.beside.logs(one, self.request.log_lines)
        except UNSEEN:
            log = ""
        evidence = {"process": one.name, "log": log, "exit_code": one.exit_code, "out_of_memory": one.out_of_memory}
        if one.out_of_memory:
            return TransactionError(
                f"the process {one.name} of the new release was killed at its memory limit {when}; raise its "
                "memory_mib in fastapi_app_processes, or have it do less at once",
                evidence,
            )
        code = f" with exit code {one.exit_code}" if one.exit_code is not None and not one.running else ""
        said = last_exception(log) or last_words(log)[:200]
        return TransactionError(
            f"the process {one.name} of the new release ended{code} {when}" + (f": {said}" if said else ""), evidence
        )

    def _forget_ended(self) -> None:
        """Remove what is left of processes that were told to end, and have."""
        beside = self.runtime.beside
        if ended := [one for one in beside.instances() if one.ending and one.gone]:
            beside.forget(ended)

    def _end_beside(self) -> None:
        """End all processes, and wait for that. Raises as `_only_beside` does."""
        beside = self.runtime.beside
        there = beside.instances()
        beside.end([one for one in there if not one.ending])
        self._wait_gone(there, self._show_life)
        beside.forget(there)
