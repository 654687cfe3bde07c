"""Who may change an app on a host: a lease of one run that frees itself, and a freeze that stays until it is lifted.

The lease is a file on tmpfs whose modification time says when its holder was last seen alive, in seconds since the
machine was started: a clock that is set meanwhile would lengthen a lease or end it. The holder's controller renews it
every few seconds, so nothing is left to clean up after a run that was killed, and a reboot forgets it. Where the agent
sees the controller go, the lease ends sooner.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from ..host.durable import read_json, write_durably
from ..host.errors import HELD, Fenced, SlipwayError
from ..host.reading import object_of

LEASES = Path("/run/slipway/locks")
# Seconds after which a holder that has not been seen is gone, and between two signs of life.
LIFETIME = 120
HEARTBEAT = 15
# Seconds that a holder has for another sign of life once its controller was seen to go.
FADING = 30
# Seconds without a sign of life after which a holder seems to be gone: it has missed two of them.
MISSED = 40


class Held(SlipwayError):
    """The app is held by somebody else, or frozen; the text says by whom, since when, and what to do."""

    kind = HELD


def since_start() -> float:
    """Seconds since the machine was started, those in which it slept as well; nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """The lease and the freeze of one app on this host."""

    def __init__(self, app: str, root: Path, directory: Path = LEASES, lifetime: float = LIFETIME) -> None:
        self.path = directory / f"{app}.json"
        self.lifetime = lifetime
        self._freeze = root / "freeze.json"

    def holder(self) -> Optional[dict[str, Any]]:
        """The run that holds the lease and was seen within its lifetime, with the `age` of its last sign in seconds."""
        found = self._found()
        return found if found and found["age"] < self.lifetime else None

    def frozen(self) -> Optional[dict[str, Any]]:
        return read_json(self._freeze)

    def problem(self, run: str) -> str:
        """Why `run` may not change the app here; empty when it may."""
        if freeze := self.frozen():
            return (
                f"the app is frozen by {freeze.get('who')} from {freeze.get('from')} since {freeze.get('since')}: "
                f"{freeze.get('reason')}; lift it with slipway.fleet.lock -e slipway_lock=free"
            )
        holder = self.holder()
        if holder and holder["run"] != run:
            return (
                f"{holder['what']} by {holder['who']} from {holder['from']} is under way since {holder['since']}; wait "
                "until it has ended, or look with slipway.fleet.lock. Its lock frees itself in at most "
                f"{self.lifetime - holder['age']:.0f} s unless it is seen again"
            )
        return ""

    def left_by_dead(self, run: str) -> float:
        """Seconds until the lease of another run that seems to be gone frees itself; 0 where there is none such."""
        holder = self.holder()
        if self.frozen() or not holder or holder["run"] == run or holder["age"] < MISSED:
            return 0.0
        return round(self.lifetime - float(holder["age"]), 1)

    def lost(self, run: str) -> str:
        """Why `run`, which held the app, may not change it any more; empty while it may.

        Its lease is renewed; one that fades goes on fading, since a transaction is no sign of life of the controller.
        """
        if freeze := self.frozen():
            return f"the app was frozen meanwhile by {freeze.get('who')}: {freeze.get('reason')}"
        if self._seen(run, fades_on=True):
            return ""
        if holder := self.holder():
            return f"the app is held by {holder.get('what')} by {holder.get('who')} from {holder.get('from')} now"
        return "this run does not hold the app (any more); its lock ran out or was broken with slipway.fleet.lock"

    def require(self, run: str) -> None:
        """Raise Fenced unless `run` holds the lease; a freeze since then is not looked at."""
        if not self.renew(run):
            holder = self.holder()
            now = f"{holder['what']} by {holder['who']} from {holder['from']} does" if holder else "nobody does"
            raise Fenced(f"this run does not hold the app on this host any more, {now}; look with slipway.fleet.lock")

    def acquire(self, holder: dict[str, Any]) -> Optional[dict[str, Any]]:
        """Take the lease for the run in `holder`. Returns the dead holder it was taken over from. Raises Held."""
        with self._guard():
            if problem := self.problem(holder["run"]):
                raise Held(problem, self._until_free(holder["run"]))
            before = self._found()
            write_durably(self.path, json.dumps(holder) + "\n")
            self._last_seen(0)
        return before if before and before["run"] != holder["run"] else None

    def renew(self, run: str) -> bool:
        """Say that `run` lives; tells whether it holds the lease still."""
        with self._guard():
            found = self._found()
            if not found or found["run"] != run:
                return False
            self._last_seen(0)
        return True

    def fade(self, run: str) -> bool:
        """Let the lease of `run` end in FADING seconds unless it is renewed; tells whether `run` holds it."""
        with self._guard():
            found = self._found()
            if not found or found["run"] != run:
                return False
            if found["age"] < self.lifetime - FADING:
                self._last_seen(self.lifetime - FADING)
            return True

    def give_back(self, run: str) -> bool:
        """Free the lease if `run` holds it; tells whether it did."""
        with self._guard():
            found = self._found()
            if not found or found["run"] != run:
                return False
            self.path.unlink()
            return True

    def freeze(self, reason: str, who: dict[str, Any]) -> None:
        """Let nobody change the app until `free`; survives a reboot."""
        self._freeze.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self._freeze, json.dumps({**who, "reason": reason}) + "\n")

    def free(self) -> list[dict[str, Any]]:
        """Lift the freeze and break the lease; returns what there was."""
        with self._guard():
            found = [entry for entry in (self.frozen(), self.holder()) if entry]
            self._freeze.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
        return found

    def _seen(self, run: str, fades_on: bool = False) -> bool:
        """Renew the lease of `run`, where it fades and `fades_on` for FADING seconds; tells whether `run` holds it."""
        with self._guard():
            found = self._found()
            if not found or found["run"] != run:
                return False
            fades = self.lifetime - FADING <= found["age"] < self.lifetime
            self._last_seen(self.lifetime - FADING if fades and fades_on else 0)
        return True

    def _last_seen(self, age: float) -> None:
        """Have the holder seen `age` seconds ago."""
        seen = since_start() - age
        os.utime(self.path, (seen, seen))

    def _until_free(self, run: str) -> dict[str, float]:
        """Seconds until the lease of another run frees itself; nothing for a freeze, which never does."""
        holder = self.holder()
        if self.frozen() or not holder or holder["run"] == run:
            return {}
        return {"seconds": round(self.lifetime - holder["age"], 1)}

    def _found(self) -> Optional[dict[str, Any]]:
        try:
            age = self._age()
            content = object_of(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # a holder that died while it wrote holds nothing
            return None
        if not isinstance(content.get("run"), str):
            return None
        return {"who": "somebody", "from": "somewhere", "what": "a run", "since": "?", **content, "age": age}

    def _age(self) -> float:
        """Seconds since the holder was last seen.

        What is not finished, or is of a version that took the time of day, has one to come. It counts as missed from
        now on, as the file is told, and is gone unless it is seen again.
        """
        age = since_start() - self.path.stat().st_mtime
        if age >= 0:
            return age
        with suppress(OSError):
            self._last_seen(MISSED)
        return MISSED

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """One process at a time looks and writes."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(self.path.with_suffix(".guard"), "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
