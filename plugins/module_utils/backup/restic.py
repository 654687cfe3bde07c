"""The repository of a host, kept by restic (https://restic.readthedocs.io): which words it gets, and what it means.

A set is two snapshots of one stamp: everything that is saved, and then the manifest, which makes it whole. What was
killed in between has no manifest, so it is no set, and the next backup takes it away.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Callable, Optional
from urllib.parse import quote

from ..host import command
from ..host.durable import read_json
from .model import (
    DAMAGED,
    DISK_FULL,
    EMPTY,
    FAILED,
    HOST_KEY,
    LOCKED,
    LOGIN,
    NO_REPOSITORY,
    UNREACHABLE,
    WRONG_KEY,
    BackupError,
    Settings,
)

SET, CONTENT = "slipway-set", "slipway-content"
# A set that the retention by days, weeks and months counts, and one made before something that may go wrong: that would
# take the place of the day's own one.
REGULAR, EXTRA = "slipway-regular", "slipway-extra"
# For how long every regular set stays, and every other one.
LATELY = {REGULAR: "2d", EXTRA: "30d"}
# Seconds for one command; a first backup over a slow line takes hours.
LIMIT = 86400.0
# Seconds without any of a processor after which a command is stuck. One that waits for a slow line has some of it;
# restic 0.14 waits for itself, now and then, where a disk is full.
STUCK = 900.0
# Seconds for ssh to say why it does not come in.
SSH_LIMIT = 60.0
# Seconds for which another host that uses the repository is waited for where somebody waits for this one, by a run of a
# timer, and between two looks.
WAIT, PATIENT, EVERY = 900.0, 21600.0, 15.0

# How many snapshots one command forgets.
AT_ONCE = 500

# The login to a server of restic's own kind, which restic reads from the environment since 0.17 alone.
REST_LOGIN = ("RESTIC_REST_USERNAME", "RESTIC_REST_PASSWORD")

# The exit code for a snapshot that was made although something could not be read, and what restic says then.
INCOMPLETE, UNREAD = 3, "source file could not be read"

# What restic says where ssh ended; why it did is mostly lost.
SESSION = "unable to start the sftp session"
# What restic says, by what is wrong. The first that fits counts.
_DAMAGE = (
    *("ciphertext verification failed", "invalid data returned", "invalid header", "unexpected EOF", "wrong hash"),
    *("not found in (?:index|repository)", "does not match", "mismatch", "decompress", "truncat", "too short"),
    *("pack .* (?:not|contains|invalid)", "unable to load", "repository contains errors", "no such file or directory"),
)
_NO_WAY = (
    *("connection refused", "connection reset", "connection timed out", "i/o timeout", "no route to host"),
    *("network is unreachable", "no such host", "could not resolve hostname", "ssh command exited", SESSION),
)
_NO_ENTRY = "401 unauthorized|403 forbidden"
_FAULTS = (
    (WRONG_KEY, r"wrong password or no key found"),
    (HOST_KEY, r"host key verification failed|remote host identification has changed"),
    (LOGIN, r"permission denied \(|signature we calculated|access key id you provided|access ?denied|" + _NO_ENTRY),
    (UNREACHABLE, "|".join(_NO_WAY)),
    (NO_REPOSITORY, r"unable to open config file|is there a repository at|repository does not exist"),
    (LOCKED, r"repository is already locked|unable to create lock"),
    # SFTP has no number for a full disk: its server says that a write failed, and no more.
    (DISK_FULL, r"no space left on device|disk quota exceeded|write: sftp: \"failure\""),
    (DAMAGED, "|".join(_DAMAGE)),
)
_SAYS = {
    WRONG_KEY: "the password of this host does not open the repository {place}; was backup_password changed, or is it "
    "the repository of another fleet? With the former one on the host again slipway-backup restic key passwd changes "
    "it in the repository; then comes backup_password",
    LOGIN: "the login to the repository {place} is refused; backup_ssh_key or backup_environment have it",
    HOST_KEY: "the host of the repository {place} is not the one that backup_ssh_known_hosts has; if it was made anew, "
    "put its new key there",
    UNREACHABLE: "the repository {place} cannot be reached",
    NO_REPOSITORY: "there is no repository at {place}, or it cannot be reached",
    LOCKED: "the repository {place} is in use by another host, and stayed so",
    DISK_FULL: "the disk of the repository {place} or of this host is full",
    DAMAGED: "the repository {place} is damaged",
    FAILED: "restic failed with the repository {place}",
}


@dataclass(frozen=True)
class Snapshot:
    """One of restic's own."""

    id: str
    time: str
    host: str
    tags: tuple[str, ...]

    @property
    def short(self) -> str:
        return self.id[:8]

    @property
    def stamp(self) -> str:
        """What it has in common with the other part of its set."""
        return next((tag for tag in self.tags if tag.startswith("at-")), "")


class Restic:
    """The sets of one host. `run` is how a program is run, `sleep` how it waits for another host, `wait` seconds of it.

    Without `cached` everything comes from the repository itself, so that damage there is seen.
    """

    def __init__(
        self,
        settings: Settings,
        cached: bool = True,
        run: Callable[..., command.Ran] = command.run,
        sleep: Callable[[float], None] = time.sleep,
        wait: float = WAIT,
    ) -> None:
        self._settings, self._run, self._sleep, self._wait = settings, run, sleep, wait
        self._options = () if cached else ("--no-cache",)
        # To open a repository takes half a second of a processor, so what is in it is asked once until it changes.
        self._listed: dict[str, list[Snapshot]] = {}

    def make(self) -> None:
        self._call("init")

    def unlock(self) -> bool:
        """Take away the locks of clients that are dead. Returns whether there is a repository.

        Raises BackupError where the password does not open it.
        """
        try:
            self._call("unlock")
        except BackupError as error:
            if error.fault == NO_REPOSITORY:
                return False
            raise
        return True

    def sets(self) -> list[Snapshot]:
        """The whole sets of this host, oldest first. Raises BackupError where the repository cannot be read."""
        return self._snapshots(SET)

    def find(self, wanted: str = "latest") -> Snapshot:
        """A set by its id, or the newest one. Raises BackupError where there is none."""
        found = self.sets()
        if not found:
            others = sorted({snapshot.host for snapshot in self._read() if SET in snapshot.tags})
            raise BackupError(
                EMPTY,
                f"the repository {self._settings.repository} has no set of {self._settings.host}"
                + (f"; it has sets of {', '.join(others)}, of which a restore names one (slipway_of)" if others else "")
                + "; make one with slipway.fleet.backup",
            )
        if wanted == "latest":
            return found[-1]
        for snapshot in found:
            if len(wanted) >= 4 and snapshot.id.startswith(wanted):
                return snapshot
        names = ", ".join(f"{snapshot.short} ({snapshot.time[:16]})" for snapshot in found[-10:])
        raise BackupError(EMPTY, f"there is no set {wanted} of {self._settings.host}; the newest are: {names}")

    def content_of(self, found: Snapshot) -> Optional[Snapshot]:
        """The other part of a set, None where it is gone."""
        return next((part for part in self._snapshots(CONTENT) if part.stamp == found.stamp), None)

    def save(
        self,
        paths: Sequence[str],
        kind: str,
        stamp: str,
        excluded: Iterable[str] = (),
        more: Iterable[str] = (),
        words: Sequence[str] = (),
    ) -> tuple[str, int]:
        """Take the paths in as one snapshot; returns its id and how many bytes it added. All of them, or it raises.

        What somebody removed within them meanwhile is not in it. `more` are tags, `words` options of restic besides.
        """
        self._listed = {}
        tags = [word for tag in (kind, stamp, *more) for word in ("--tag", tag)]
        left_out = [word for pattern in excluded for word in ("--exclude", pattern)]
        asked = ("--host", self._settings.host, *words, *tags, *left_out, "--", *paths)
        said = self._call("backup", "--json", *asked, fits=lambda ran: vanished(ran, paths))
        for line in reversed(said.splitlines()):
            with suppress(ValueError):
                entry = json.loads(line)
                if entry.get("message_type") == "summary":
                    return str(entry["snapshot_id"]), int(entry.get("data_added") or 0)
        raise BackupError(FAILED, f"restic did not say which snapshot it made in {self._settings.repository}")

    def listing(self, snapshot: str, into: Path) -> Iterator[tuple[str, int, int]]:
        """Path, size in bytes and time of change in nanoseconds of each regular file; `into` is used meanwhile."""
        with into.open("wb") as stream:
            self._call("ls", "--json", snapshot, target=stream)
        with into.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry.get("type") == "file":
                    yield entry["path"], int(entry.get("size") or 0), nanoseconds(entry.get("mtime") or "")

    def read(self, snapshot: str, path: str, into: Path) -> None:
        """Write one file of a snapshot to `into`."""
        with into.open("wb") as stream:
            self._call("dump", snapshot, path, target=stream)

    def restore(self, snapshot: str, target: Path, only: Iterable[str] = ()) -> None:
        """Put what a snapshot has below `target`, each file under its whole path."""
        included = [word for path in only for word in ("--include", path)]
        self._call("restore", snapshot, "--target", str(target), *included)

    def stale(self) -> list[str]:
        """The sets that the retention does not keep."""
        counts = [f"--keep-{period}={count}" for period, count in sorted(self._settings.keep.items())]
        return self._stale(REGULAR, "--keep-last=1", *counts) + self._stale(EXTRA)

    def _stale(self, tag: str, *keep: str) -> list[str]:
        words = ["--host", self._settings.host, "--tag", tag, "--group-by", "host", f"--keep-within={LATELY[tag]}"]
        groups = self._listing("forget", "--dry-run", "--json", *words, *keep)
        return [str(entry["id"]) for group in groups for entry in group.get("remove") or ()]

    def tagged(self, *kinds: str) -> list[Snapshot]:
        """What this host has of these kinds, oldest first, as the repository has it now."""
        self._listed = {}
        return [snapshot for kind in kinds for snapshot in self._snapshots(kind)]

    def tidy(self, protected: Iterable[str] = (), more: Sequence[str] = (), prune: bool = True) -> list[str]:
        """Forget the sets that the retention does not keep, and parts of none; returns the sets that went.

        `protected` are sets (their ids or how these begin) that stay in any case, `more` snapshots that go with them.
        Nobody else gets at the repository while their room is made free; without `prune` that of `more` alone waits.
        Raises BackupError, which names the way out where the repository refuses to remove anything.
        """
        spared = tuple(protected)
        stale = set(self.stale())
        sets = self.sets()
        gone = [found for found in sets if found.id in stale and not (spared and found.id.startswith(spared))]
        kept = {found.stamp for found in sets} - {found.stamp for found in gone}
        parts = [part for part in self._snapshots(CONTENT) if part.stamp not in kept]
        if gone or parts or more:
            # The manifests first: what is killed here leaves parts without a set and no set without its parts.
            for wave in ([snapshot.id for snapshot in gone], [snapshot.id for snapshot in parts], list(more)):
                for begin in range(0, len(wave), AT_ONCE):
                    self._forget(wave[begin : begin + AT_ONCE])
            if gone or parts or prune:
                self._call("prune")
        return [found.id for found in gone]

    def _forget(self, snapshots: Sequence[str]) -> None:
        self._listed = {}
        try:
            self._call("forget", *snapshots)
        except BackupError as error:
            if error.fault not in (FAILED, LOGIN):
                raise
            way = "Where it is to refuse to remove anything, say backup_append_only: true"
            raise BackupError(error.fault, f"{error}. {way}") from error

    def check(self, part: int, parts: int) -> None:
        """Check the structure, and read one of so many parts of the data. Raises BackupError where it is damaged."""
        self._call("check", f"--read-data-subset={part}/{parts}")

    def _snapshots(self, kind: str) -> list[Snapshot]:
        host = self._settings.host
        if host not in self._listed:
            self._listed[host] = self._read("--host", host)
        return [snapshot for snapshot in self._listed[host] if kind in snapshot.tags]

    def _read(self, *words: str) -> list[Snapshot]:
        snapshots = [
            Snapshot(entry["id"], entry["time"], entry.get("hostname", ""), tuple(entry.get("tags") or ()))
            for entry in self._listing("snapshots", "--json", *words)
        ]
        return sorted(snapshots, key=lambda snapshot: nanoseconds(snapshot.time))

    def _listing(self, *words: str) -> list[dict[str, Any]]:
        """What restic lists as one JSON, all of it: a day of pieces of the log alone has megabytes of it."""
        said = self._call(*words, limit=command.WHOLE)
        try:
            return json.loads(said or "[]") or []
        except ValueError as error:
            place = self._settings.repository
            raise BackupError(FAILED, f"what restic {words[0]} said of {place} cannot be read: {error}") from error

    def _call(
        self,
        *words: str,
        target: Optional[IO[bytes]] = None,
        fits: Callable[[command.Ran], bool] = lambda _: False,
        limit: int = command.OUTPUT_LIMIT,
    ) -> str:
        """What restic says where it succeeds, or fails in a way that fits all the same.

        One that is stuck is ended and asked once more, unless a part of its output is gone already.
        """
        waited, tried, stuck = 0.0, False, target is not None
        while True:
            asked = [*program(self._settings), *self._options, *words]
            ran = self._run(asked, LIMIT, environment(self._settings), target=target, limit=limit, stuck=STUCK)
            if not ran.returncode or fits(ran):
                return ran.stdout
            if ran.stuck and not stuck:
                stuck = True
                continue  # it has left a lock, which goes below
            said = f"{ran.stderr}\n{ran.stdout}"
            if SESSION in said:
                said += f"\n{self._ended()}"
            error = explained(words[0], said, self._settings.repository)
            if error.fault != LOCKED or (tried and waited >= self._wait):
                raise error
            # Takes away the locks of the dead alone: of this host at once, of another one after half an hour.
            self._run([*program(self._settings), "unlock"], LIMIT, environment(self._settings))
            if tried:
                self._sleep(EVERY)
                waited += EVERY
            tried = True

    def _ended(self) -> str:
        """Why ssh ends; empty where it does not by itself."""
        words = ssh(self._settings)
        return self._run(words, SSH_LIMIT, environment(self._settings)).stderr if words else ""


def program(settings: Settings) -> list[str]:
    """restic, with how it reaches a host over SFTP where the role has a key for that."""
    words = ssh(settings)
    return ["restic", "-o", f"sftp.command={' '.join(words)}"] if words else ["restic"]


def ssh(settings: Settings) -> list[str]:
    """How a host is reached over SFTP; empty where there is none, or the role has no key for it."""
    config = settings.files / "ssh_config"
    target = sftp_target(settings.repository)
    return ["ssh", "-F", str(config), *target.split(" "), "-s", "sftp"] if target and config.exists() else []


def sftp_target(repository: str) -> str:
    """The words for ssh that name the host of a repository, user and port included; empty where it is none on SFTP."""
    url = re.fullmatch(r"sftp://(?:([^@/]+)@)?(\[[^\]]+\]|[^:/]+)(?::(\d+))?/.*", repository)
    short = re.fullmatch(r"sftp:(?!//)(?:([^@:/]+)@)?(\[[^\]]+\]|[^:/]+):.*", repository)
    if url:
        user, host, port = url.groups()
    elif short:
        user, host, port = *short.groups(), None
    else:
        return ""
    return " ".join(
        word
        for word in (f"-p {port}" if port else "", f"{user}@{host.strip('[]')}" if user else host.strip("[]"))
        if word
    )


def environment(settings: Settings) -> dict[str, str]:
    """All of restic's environment: the repository, its password as a file, and the words for S3 and others."""
    more: Mapping[str, Any] = read_json(settings.files / "environment.json") or {}
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        **{name: str(value) for name, value in more.items()},
        "RESTIC_REPOSITORY": _with_login(settings.repository, *(str(more.get(name) or "") for name in REST_LOGIN)),
        "RESTIC_PASSWORD_FILE": str(settings.files / "password"),
        "RESTIC_CACHE_DIR": "/var/cache/slipway-backup",
        "RESTIC_PROGRESS_FPS": "0.01",
    }


def _with_login(repository: str, user: str, password: str) -> str:
    """The address of a server of restic's own kind with its login, as every version reads that; restic hides it."""
    found = re.fullmatch(r"(rest:https?://)([^@/]+(?:/.*)?)", repository)
    return f"{found[1]}{quote(user, '')}:{quote(password, '')}@{found[2]}" if found and user else repository


def vanished(ran: command.Ran, paths: Sequence[str]) -> bool:
    """Whether a snapshot was made, and lacks nothing but what is not there any more, of which the paths are none.

    Exit code 3 is that of a snapshot for which something could not be read; each such thing has a line of JSON.
    """
    if ran.returncode != INCOMPLETE:
        return False
    for line in filter(None, ran.stderr.splitlines()):
        entry = _entry(line) if line.startswith("{") else {"message_type": "exit_error", "message": line}
        kind, item = entry.get("message_type"), str(entry.get("item") or "")
        if kind == "error" and item and item not in paths and not os.path.lexists(item):
            continue
        if kind != "exit_error" or UNREAD not in str(entry.get("message")):
            return False
    return True


def explained(word: str, said: str, place: str) -> BackupError:
    """What restic's words mean."""
    lines = [line for line in map(_sentence, said.splitlines()) if line]
    fault = next((name for name, pattern in _FAULTS if re.search(pattern, said, re.IGNORECASE)), FAILED)
    if fault == DAMAGED and word in ("backup", "init"):
        fault = FAILED  # a file of the host that went away is no damage of the repository
    words = " ".join(lines[-3:]) or f"restic {word} said nothing"
    return BackupError(fault, f"{_SAYS[fault].format(place=place)}: {words}")


def _sentence(line: str) -> str:
    """What a line says to people; with --json newer versions of restic say why they end as JSON, too."""
    if not line.startswith("{"):
        return line.strip()
    entry = _entry(line)
    if entry.get("message_type") == "error" and entry.get("item"):
        return f"{entry['item']} cannot be read"
    return str(entry.get("message") or "") if entry.get("message_type") == "exit_error" else ""


def _entry(line: str) -> dict[str, Any]:
    """A line of JSON; nothing of one that is cut off."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def nanoseconds(moment: str) -> int:
    """A time as restic writes it (RFC 3339 with up to nine digits), in nanoseconds since 1970; 0 for none."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", moment)
    if not found:
        return 0
    zone = "+00:00" if found[3] == "Z" else found[3]
    seconds = int(datetime.fromisoformat(found[1] + zone).timestamp())
    return seconds * 10**9 + int((found[2] or "0").ljust(9, "0"))
