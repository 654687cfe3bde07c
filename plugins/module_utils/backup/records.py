"""What a host knows of its backups without asking the repository: the newest set, the proven one, what went wrong.

One file, written durably; one that cannot be read counts as empty, since the repository has the truth.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..host.durable import read_json, write_durably
from ..host.errors import Damaged
from . import metrics
from .model import BUSY, BackupError

# Hours after which a newest set, and days after which a newest proven one, is told as too old (status).
OLD_SET, OLD_PROOF = 26, 8
# How many drills are remembered: those of a year, by the timer.
DRILLS = 52


class Records:
    """The directory of a host's backups."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file = place / "state.json"

    def read(self) -> dict[str, Any]:
        """`newest`, `proven`, `error`, `checked`, `sets` and `drills`, as far as they are known."""
        try:
            return read_json(self._file) or {}
        except (Damaged, OSError):
            return {}

    def note(self, **news: Any) -> None:
        """Lay news over what is known; None takes something away. Raises OSError."""
        known = {name: value for name, value in {**self.read(), **news}.items() if value is not None}
        write_durably(self._file, json.dumps(known, indent=1, sort_keys=True) + "\n", mode=0o600)
        metrics.tell(self._place)

    def drilled(self, drill: Mapping[str, Any]) -> None:
        """Keep how a drill ended beside those before it. Raises OSError."""
        self.note(drills=[*(self.read().get("drills") or ()), dict(drill)][-DRILLS:])

    def failed(self, what: str, error: BackupError, found: Optional[str] = None) -> None:
        """Note how a backup, a drill or a restore failed; what is proven stays so."""
        self.note(error={"time": now(), "what": what, "set": found, "fault": error.fault, "message": str(error)})

    def unanswered(self, *answered: str) -> Optional[dict[str, Any]]:
        """The last error, unless it is one of what has succeeded by now: a backup is no answer to a failed drill."""
        error: Optional[dict[str, Any]] = self.read().get("error")
        return None if error and error.get("what") in answered else error

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Hold the host's backups, until the process ends at the latest. Raises BackupError where another does."""
        with open(self._place / "lock", "a+", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "another one"
                raise BackupError(
                    BUSY, f"nothing was done: {holder} is under way on this host; wait for its end"
                ) from None
            stream.truncate(0)
            stream.write(f"{what} (pid {os.getpid()}, since {now()})")
            stream.flush()
            yield


def now() -> str:
    """The time in UTC, as all records have it."""
    return at_time(time.time())


def at_time(seconds: float) -> str:
    """Seconds since 1970 as all records have a time; part of a second is left out."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def age(moment: str, at: str) -> float:
    """Seconds between two such times."""
    first, second = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (moment, at))
    return (second - first).total_seconds()


def problems(state: Mapping[str, Any], at: str) -> list[str]:
    """What an operator is to know of the backups of a host: a sentence for each thing that is not as it should be."""
    newest, proven, error = (state.get(name) or {} for name in ("newest", "proven", "error"))
    found = []
    if not newest:
        found.append("nothing was backed up yet; run slipway.fleet.backup")
    elif age(newest["time"], at) > OLD_SET * 3600:
        found.append(f"the newest set is older than {OLD_SET} h; run slipway.fleet.backup")
    if newest and not proven:
        found.append("no set was proven yet; run slipway.fleet.drill")
    elif proven and age(proven["time"], at) > OLD_PROOF * 86400:
        found.append(f"the newest proven set is older than {OLD_PROOF} days; run slipway.fleet.drill")
    if error:
        found.append(f"the last {error['what']} failed ({error['fault']}): {error['message']}")
    return found
