"""Durable files of an app on a host: state, intent, draining, ledger.

Every write is fsync + rename, but for the ledger's (host/ledger.py). Every write may raise OSError, every read of a
record Damaged.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ..host.durable import read_json, sync_directory, write_durably
from ..host.errors import BUSY, Damaged, SlipwayError
from ..host.ledger import Ledger
from ..host.shown import staged
from .assets import alone
from .doors import said_by
from .keeps import keeps_of
from .launch import launched
from .missed import Secrets
from .model import OF_THE_RELEASE, Draining, Gate, Intent, State, read_record
from .runtime import STAGED_BY

MANIFEST = ".manifest.json"
# What a release is made of. One that was sealed before there were such files may get one later.
SBOM = "sbom.cdx.json"
# What its app said of its API; not rendered, so no part of the manifest.
OPENAPI = ".openapi.json"
# Held by what runs in a release outside its slots.
IN_USE = ".in_use"
# Seconds: who looks whether the lock is held holds it, too, and for less than that.
MOMENT = 1.0
# Who stops what is drained. That is no other release, takes at most the grace of the app, and is waited for.
ENDING, ENDING_LIMIT = "the end of a drain", 600.0
# Who looks at a drain that has not ended.
DRAINING = "a drain"
# Releases that were staged and never tried of which the newest stay: somebody may still mean to.
UNTRIED = 3


class Busy(SlipwayError):
    """Another transaction of this app is under way on this host; the text says whose."""

    kind = BUSY


class Store:
    """The directory /opt/slipway/<app> of a host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = root / "releases"
        self._state = root / "state.json"
        self._intent = root / "intent.json"
        self._draining = root / "draining.json"
        self._recall = root / "recall"
        self._singletons = root / "singletons.json"
        self._jobs = root / "jobs"
        self._ledger = Ledger(root)

    @contextmanager
    def lock(self, holder: str, wait: float = MOMENT) -> Iterator[None]:
        """Hold the app on this host for one transaction. The kernel frees it when the process ends, however it ends.

        Raises Busy when another one holds it for longer than `wait` seconds.
        """
        with self.only_one("lock", holder, wait):
            yield

    @contextmanager
    def only_one(self, name: str, holder: str, wait: float) -> Iterator[None]:
        """One at a time for each name. Raises Busy when another one is at it for longer than `wait` seconds.

        The end of a drain is waited for by whoever waits at all.
        """
        deadline = time.monotonic() + wait
        with open(self.root / name, "a+", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)  # whoever can open it can hold it
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    stream.seek(0)
                    found = stream.read().strip() or "an unnamed transaction"
                    more = ENDING_LIMIT if wait and found == ENDING else 0.0
                    if time.monotonic() >= deadline + more:
                        raise Busy(f"this app is being changed on this host already: {found}") from None
                    time.sleep(0.2)
            stream.truncate(0)
            stream.write(holder)
            stream.flush()
            yield

    def recall(self, who: str) -> None:
        """Tell the transaction that is under way to take its release back, instead of waiting for its end."""
        write_durably(self._recall, who + "\n", mode=0o600)

    def recalled(self) -> Optional[str]:
        """Who wants the transaction that is under way taken back; None while nobody does."""
        try:
            return self._recall.read_text(encoding="utf-8").strip() or "its run"
        except OSError:
            return None

    def forget_recall(self) -> None:
        """What an earlier transaction was told is not for this one."""
        self._recall.unlink(missing_ok=True)

    def holder(self) -> Optional[str]:
        """Who holds the app on this host now, None where nobody does. Writes nothing."""
        return self._holder_of("lock")

    def at_work(self) -> str:
        """Who holds the app for a transaction now; empty where nobody does, or what drained is ended alone."""
        holder = self.holder() or ""
        return "" if holder in (ENDING, DRAINING) else holder

    def _holder_of(self, name: str, shared: bool = False) -> Optional[str]:
        """What is said in a file that somebody holds for himself alone, or is `shared`; None where nobody does."""
        try:
            with open(self.root / name, encoding="utf-8") as stream:
                try:
                    fcntl.flock(stream, (fcntl.LOCK_EX if shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                except BlockingIOError:
                    return stream.read().strip() or "an unnamed transaction"
        except (FileNotFoundError, PermissionError):  # another user than root sees nothing here
            pass
        return None

    def state(self) -> Optional[State]:
        content = read_json(self._state)
        return read_record(State, content, str(self._state)) if content else None

    def intent(self) -> Optional[Intent]:
        content = read_json(self._intent)
        return read_record(Intent, content, str(self._intent)) if content else None

    def draining(self) -> Optional[Draining]:
        content = read_json(self._draining)
        return read_record(Draining, content, str(self._draining)) if content else None

    def write_draining(self, draining: Draining) -> None:
        write_durably(self._draining, json.dumps(asdict(draining)) + "\n")

    def drop_draining(self) -> None:
        self._draining.unlink(missing_ok=True)
        sync_directory(self.root)

    def write_state(self, state: State) -> None:
        write_durably(self._state, json.dumps(asdict(state)) + "\n")

    def write_intent(self, intent: Intent) -> None:
        write_durably(self._intent, json.dumps(asdict(intent)) + "\n")

    def drop_intent(self) -> None:
        self._intent.unlink(missing_ok=True)
        sync_directory(self.root)

    def singletons_at(self) -> Optional[dict[str, Any]]:
        """Where the singletons ran when this host was last released to: `host` ('' for nowhere), `at` since the epoch.

        None where it never had a release with any.
        """
        found = read_json(self._singletons)
        return found if found and "host" in found and "at" in found else None

    def note_singletons(self, host: str, at: float) -> None:
        """Remember where the singletons run, '' for nowhere; another host may have to know it when that one is lost."""
        if (self.singletons_at() or {}).get("host", "") != host:
            write_durably(self._singletons, json.dumps({"host": host, "at": at}) + "\n")

    def jobs_at(self) -> Optional[dict[str, Any]]:
        """Where the jobs ran when this host last had a release with some: `host`, and `at` since the epoch."""
        found = read_json(self._jobs / ".at.json")
        return found if found and "host" in found and "at" in found else None

    def note_jobs(self, host: str, at: float) -> None:
        """Remember where the jobs run, '' for nowhere."""
        if (self.jobs_at() or {}).get("host", "") != host:
            self._jobs.mkdir(mode=0o700, exist_ok=True)
            write_durably(self._jobs / ".at.json", json.dumps({"host": host, "at": at}) + "\n", mode=0o600)

    def job(self, name: str) -> dict[str, Any]:
        """The record of the last run of a job; empty where there is none. One without `ended` runs, or was cut."""
        return read_json(self._jobs / f"{name}.json") or {}

    def write_job(self, name: str, record: dict[str, Any]) -> None:
        """Keep what became of a job."""
        text = json.dumps(staged(self.releases).told(record))
        write_durably(self._jobs / f"{name}.json", text + "\n", mode=0o600)

    def job_lock(self, name: str) -> str:
        """The name of what `only_one` holds while a job runs."""
        self._jobs.mkdir(mode=0o700, exist_ok=True)
        return f"jobs/{name}.lock"

    def job_runs(self, name: str) -> Optional[str]:
        """What is said of a job that runs here now; None where it does not. Writes nothing."""
        return self._holder_of(f"jobs/{name}.lock")

    @contextmanager
    def in_use(self, release: str) -> Iterator[None]:
        """Keep a release from being pruned while something runs in it outside its slots. Raises OSError."""
        with open(self.releases / release / IN_USE, "a", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    def used_outside(self, release: str) -> bool:
        """Whether something runs in a release outside its slots."""
        return self._holder_of(f"releases/{release}/{IN_USE}", shared=True) is not None

    def ledger(self) -> list[dict[str, Any]]:
        """All lines, oldest first. Lines that cannot be read are left out; `damaged_records` counts them."""
        return self._ledger.entries()

    def damaged_records(self) -> int:
        """How many lines of the ledger cannot be read."""
        return self._ledger.damaged()

    def told(self) -> list[dict[str, Any]]:
        """The records, oldest first; of an operation that has ended that it began is none of them."""
        return self._ledger.told()

    def releases_recorded(self) -> list[dict[str, Any]]:
        """The records of releases alone, oldest first; others tell of what else was done, and of locks.

        Of two records of one transaction the later counts: it was good, and then its records could not be finished.
        """
        found: dict[tuple[str, Any], dict[str, Any]] = {}
        for entry in self.ledger():
            if isinstance(entry.get("release"), str) and "result" in entry:
                found.pop((entry["release"], entry.get("start")), None)
                found[entry["release"], entry.get("start")] = entry
        return list(found.values())

    def good(self) -> list[str]:
        """Releases to which this host can go back, oldest first, the one that serves last.

        A release that was rolled back from is none of them, until it is deployed again.
        """
        found: list[str] = []
        for entry in self.releases_recorded():
            release = entry["release"]
            if entry["result"] != "good":
                continue
            if entry.get("operation") in ("rollback", "revert") and release in found:
                del found[found.index(release) + 1 :]
                continue
            found = [other for other in found if other != release] + [release]
        return found

    def skipped(self) -> list[str]:
        """Releases that were good and are none to go back to, since they were rolled back from; the newest first."""
        good = self.good()
        recorded = [entry["release"] for entry in self.releases_recorded() if entry["result"] == "good"]
        return [release for release in dict.fromkeys(reversed(recorded)) if release not in good]

    def last_record(self, release: str) -> dict[str, Any]:
        """The newest record of a good release; empty where there is none."""
        found: dict[str, Any] = {}
        for entry in self.releases_recorded():
            if entry["release"] == release and entry["result"] == "good":
                found = entry
        return found

    def record(self, entry: dict[str, Any]) -> None:
        """Add one record, durably. What a crash left of a torn one is cut off first."""
        self._ledger.append(entry)

    def has(self, release: str) -> bool:
        """Whether the release is staged, for whichever runtime."""
        return any((self.releases / release / name).is_file() for name in STAGED_BY.values())

    def gate(self, release: str) -> dict[str, Any]:
        """How a release is looked at, as its files say; empty where they do not, or cannot be read."""
        found = said_by(self.releases, release)
        return {name: found[name] for name in OF_THE_RELEASE if type(found.get(name)) is type(getattr(Gate, name))}

    def secrets(self, release: str) -> Secrets:
        """The secrets of a release; none where they cannot be seen."""
        place = self.releases / release
        try:
            names = sorted(path.name for path in (place / "secrets").iterdir())
            texts = [
                path.read_text(encoding="utf-8") for name in STAGED_BY.values() if (path := place / name).is_file()
            ]
        except (OSError, UnicodeDecodeError):
            return Secrets()
        return Secrets(tuple(names), any(map(launched, texts)))

    def overlaps(self, release: str) -> bool:
        """Whether a release may run beside another one; one whose files cannot be read is not let."""
        try:
            return keeps_of(self.releases, release).overlap
        except (Damaged, OSError):
            return False

    def seal(self, release: str) -> None:
        """Write down what the release's files are, once, so that a later change by hand is seen."""
        manifest = self.releases / release / MANIFEST
        if not manifest.exists():
            write_durably(manifest, json.dumps(self._digests(release), indent=1) + "\n", mode=0o600)

    def changed_files(self, release: str) -> list[str]:
        """Files of a sealed release that are not what they were, as paths below its directory."""
        before = read_json(self.releases / release / MANIFEST)
        if before is None:
            return []
        now = self._digests(release)
        if SBOM not in before:
            now.pop(SBOM, None)
        return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))

    def _digests(self, release: str) -> dict[str, str]:
        """SHA-256 of the rendered files. What is installed beside them (a virtual environment) is not rendered."""
        directory = self.releases / release
        places = [directory, directory / "secrets"]
        files = [path for place in places if place.is_dir() for path in place.iterdir() if path.is_file()]
        return {
            str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(files)
            if not path.name.startswith(".")
        }

    def sbom(self, release: str) -> Optional[str]:
        """The path of a release's bill of materials, None where it has none."""
        path = self.releases / release / SBOM
        return str(path) if path.is_file() else None

    def openapi(self, release: str) -> str:
        """What the app of a release said of its API when it was started; empty where that is not kept."""
        try:
            return (self.releases / release / OPENAPI).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def keep_openapi(self, release: str, text: str) -> None:
        """Keep what the app of a release says of its API, for comparison with the next one. Raises OSError."""
        if text != self.openapi(release):
            write_durably(self.releases / release / OPENAPI, text, mode=0o600)

    def marked(self, release: str, name: str) -> bool:
        """Whether something was done once for a release."""
        return (self.releases / release / f".{name}").exists()

    def mark(self, release: str, name: str) -> None:
        (self.releases / release / f".{name}").touch()

    def removable(self, keep: int, needed: set[str]) -> list[str]:
        """All staged releases but those `needed`, the `keep` newest good ones, and the newest that were never tried.

        One in which a job runs still is left, too.

        A release that failed is not good, however new it is: five failures in a row must not push out the good ones.
        """
        good: list[str] = []
        seen: set[str] = set()
        for entry in reversed(self.releases_recorded()):
            seen.add(entry["release"])
            if entry["result"] == "good" and entry["release"] not in good:
                good.append(entry["release"])
        staged = self.staged()
        pinned = needed | set(good[:keep])
        untried = [release for release in staged if release not in seen | needed][:UNTRIED]
        old = sorted(release for release in staged if release not in pinned and release not in untried)
        return [release for release in old if not self.used_outside(release)]

    def staged(self) -> list[str]:
        """The releases whose files are here, those that came last first."""
        if not self.releases.is_dir():
            return []
        return [path.name for path in sorted(self.releases.iterdir(), key=_age, reverse=True)]

    def remove(self, releases: list[str]) -> None:
        with alone(self.releases):
            for release in releases:
                shutil.rmtree(self.releases / release)

    def destroy(self) -> None:
        """Remove everything that is kept of the app."""
        shutil.rmtree(self.root)


def _age(path: Path) -> tuple[float, str]:
    """When a release's directory was made, as far as its files tell."""
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
