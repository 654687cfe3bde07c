"""Durable files of an app on a host: state, intent, ledger. Every write is fsync + rename."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from ..host.durable import read_json, sync_directory, write_durably
from ..host.errors import BUSY, SlipwayError
from .model import Intent, State
from .runtime import STAGED_BY

MANIFEST = ".manifest.json"
# What a release is made of. One that was sealed before there were such files may get one later.
SBOM = "sbom.cdx.json"
# Seconds: who looks whether the lock is held holds it, too, and for less than that.
MOMENT = 1.0


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
        self._ledger = root / "ledger.jsonl"

    @contextmanager
    def lock(self, holder: str, wait: float = MOMENT) -> Iterator[None]:
        """Hold the app on this host for one transaction. The kernel frees it when the process ends, however it ends.

        Raises Busy when another one holds it for longer than `wait` seconds.
        """
        deadline = time.monotonic() + wait
        with open(self.root / "lock", "a+", encoding="utf-8") as stream:
            while True:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        stream.seek(0)
                        raise Busy(stream.read().strip() or "an unnamed transaction") from None
                    time.sleep(0.5)
            stream.truncate(0)
            stream.write(holder)
            stream.flush()
            yield

    def holder(self) -> Optional[str]:
        """Who holds the app on this host now, None where nobody does. Writes nothing."""
        try:
            with open(self.root / "lock", encoding="utf-8") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return stream.read().strip() or "an unnamed transaction"
        except FileNotFoundError:
            pass
        return None

    def state(self) -> Optional[State]:
        content = read_json(self._state)
        return State(**content) if content else None

    def intent(self) -> Optional[Intent]:
        content = read_json(self._intent)
        return Intent(**content) if content else None

    def write_state(self, state: State) -> None:
        write_durably(self._state, json.dumps(asdict(state)) + "\n")

    def write_intent(self, intent: Intent) -> None:
        write_durably(self._intent, json.dumps(asdict(intent)) + "\n")

    def drop_intent(self) -> None:
        self._intent.unlink(missing_ok=True)
        sync_directory(self.root)

    def ledger(self) -> list[dict[str, Any]]:
        """All records, oldest first."""
        try:
            lines = self._ledger.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if line.strip()]

    def releases_recorded(self) -> list[dict[str, Any]]:
        """The records of releases alone, oldest first; others tell of locks."""
        return [entry for entry in self.ledger() if "release" in entry]

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

    def last_record(self, release: str) -> dict[str, Any]:
        """The newest record of a good release; empty where there is none."""
        found: dict[str, Any] = {}
        for entry in self.releases_recorded():
            if entry["release"] == release and entry["result"] == "good":
                found = entry
        return found

    def record(self, entry: dict[str, Any]) -> None:
        """Add one record. The whole file is replaced, so a crash never leaves half a line."""
        entries = [*self.ledger(), entry]
        write_durably(self._ledger, "".join(json.dumps(line, sort_keys=True) + "\n" for line in entries))

    def has(self, release: str) -> bool:
        """Whether the release is staged, for whichever runtime."""
        return any((self.releases / release / name).is_file() for name in STAGED_BY.values())

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

    def removable(self, keep: int, needed: set[str]) -> list[str]:
        """All staged releases but those `needed`, the `keep` newest good ones and those never recorded.

        A release that failed is not good, however new it is: five failures in a row must not push out the good ones.
        """
        good: list[str] = []
        seen: set[str] = set()
        for entry in reversed(self.releases_recorded()):
            seen.add(entry["release"])
            if entry["result"] == "good" and entry["release"] not in good:
                good.append(entry["release"])
        pinned = needed | set(good[:keep])
        return sorted(path.name for path in self.releases.iterdir() if path.name in seen and path.name not in pinned)

    def remove(self, releases: list[str]) -> None:
        for release in releases:
            shutil.rmtree(self.releases / release)

    def destroy(self) -> None:
        """Remove everything that is kept of the app."""
        shutil.rmtree(self.root)
