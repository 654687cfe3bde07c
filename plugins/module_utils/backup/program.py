"""The program slipway-backup of a host: what timers start, what playbooks ask, and what an operator types at night.

    slipway-backup backup | drill | rehearse | status | plan | restore | wal | base | restic ...

Its answer is JSON on its output, and in the file that --answer names. Exit code 1 where it refused or failed, 2 where
another one is under way; the reason is on its standard error, and that of a failure in the host's records.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..host.durable import read_json, write_durably
from ..host.ledger import Note, by_hand, ledgers, recorded
from ..postgres.server import SUPERUSERS
from . import files, stores, wal
from .archive import Archive, Repository
from .base import make_base
from .drill import drill
from .model import BUSY, CONFIG, FAILED, LOCKED, REFUSED, BackupError, Settings, failures
from .pointing import PointRestore, forget_killed
from .points import readable, spans, stale
from .records import age, at_time, now, problems
from .rehearsing import order_of, rehearse
from .restic import PATIENT, WAIT, Restic, environment, program
from .restoring import Restore
from .saving import BY_TIMER, Host, save

# Where the module says whose operation it is.
RECORD = "SLIPWAY_RECORD"
TIMERS = {"next": "slipway-backup.timer", "next_drill": "slipway-backup-drill.timer"}


def settings(config: Path) -> Settings:
    """What the role wrote. Raises BackupError where it wrote nothing, and for everybody but root."""
    if os.geteuid():
        raise BackupError(FAILED, "only root can read what is backed up; use sudo")
    found = read_json(config)
    if found is None:
        raise BackupError(
            FAILED, f"there is no {config}: backups are not set up on this host; run slipway.fleet.provision"
        )
    return Settings(
        repository=found["repository"],
        host=found["host"],
        database=found["database"],
        elsewhere=tuple(found.get("elsewhere") or ()),
        directories=tuple(found["directories"]),
        volumes=tuple(found["volumes"]),
        keep=found["keep"],
        releases=found["releases"],
        deadline=found["deadline"],
        drill_of=found.get("drill_of") or "",
        drill_image=found.get("drill_image") or "",
        append_only=found["append_only"],
        wal=found["wal"] and found["database"] in SUPERUSERS,
        wal_days=found["wal_days"],
        wal_room=found["wal_room"],
    )


def parser() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(prog="slipway-backup", description="Backups of this host, and their proofs.")
    words.add_argument("--answer", type=Path, help="file that gets the answer as JSON")
    verbs = words.add_subparsers(dest="verb", required=True)
    for name, about in (
        ("backup", "make a set"),
        ("drill", "prove a set"),
        ("plan", "say what a restore would do"),
        ("restore", "restore a set"),
    ):
        one = verbs.add_parser(name, help=about)
        if name in ("backup", "drill"):
            one.add_argument("--reason", default="asked", help="why, as a word; timer waits longer for other hosts")
        if name != "backup":
            one.add_argument("--set", default="latest", help="id of a set, or latest")
        if name == "drill":
            one.add_argument("--of", default="", help="host of the database, restored besides for the releases here")
        if name in ("plan", "restore"):
            one.add_argument("--of", default="", help="whose set or point in time: another host of the repository")
            one.add_argument("--time", default="", help="a point in time, such as 2026-11-27T10:15:00Z")
            one.add_argument(
                "--part", action="append", help="all, database:NAME, directory:PATH or store:NAME", required=True
            )
        if name == "restore":
            one.add_argument("--confirm", default="", help="the name of what is restored")
            one.add_argument("--any-schema", action="store_true", help="though it does not fit the release that serves")
            one.add_argument("--no-safety", action="store_true", help="make no set of what is there before")
    one = verbs.add_parser("rehearse", help="run a command of a release against the newest set, restored aside")
    one.add_argument("--order", type=Path, required=True, help="file with what is to be run, as JSON")
    verbs.add_parser("status", help="what is known of the sets, and which points in time can be reached")
    one = verbs.add_parser("wal", help="keep what the database wrote since the last time; a timer does")
    one.add_argument("--off", action="store_true", help="have the server keep nothing for that any more")
    verbs.add_parser("base", help="make a base, from which points in time are reached")
    one = verbs.add_parser("restic", help="run restic with this host's repository")
    one.add_argument("words", nargs=argparse.REMAINDER)
    return words


def answer(asked: argparse.Namespace, host: Host) -> dict[str, Any]:
    """Do what was asked. Raises BackupError."""
    if asked.verb == "status":
        return status(host)
    if asked.verb == "plan":
        return restore_of(asked, host).plan()
    if asked.verb in ("wal", "base"):
        return points(asked, host)
    what = {"rehearse": "rehearsal"}.get(asked.verb, asked.verb)
    with host.records.alone(f"a {what}"):
        try:
            with failures(host.settings.place), in_the_ledgers(asked, host.settings) as notes:
                warnings = healed(asked, host)
                done = act(asked, host)
                which = done.get("point") or f"set {done.get('set')}"
                for note in notes:
                    note.more["what"] = f"{which}, {note.begun['what']}"
            warnings += host.live.warnings if host.live else []
            # A warning each night would be read by nobody.
            if asked.verb == "backup" and asked.reason != BY_TIMER:
                warnings += files.own_disk_told(host.settings)
            return {**done, "warnings": [*warnings, *(words for note in notes for words in note.warnings)]}
        except BackupError as error:
            # A name that was not typed right is no fault of the host, and neither is what a release does to a copy.
            if error.fault != REFUSED and asked.verb != "rehearse":
                with suppress(OSError):  # of a full disk the set that is too old tells
                    host.records.failed(what, error, getattr(asked, "set", None))
            raise


def healed(asked: argparse.Namespace, host: Host) -> list[str]:
    """Have the stores serve that a restore which was killed has left, and return why one does not.

    What a recovery and a dump that were killed have left is gone then, too.

    Raises BackupError where a set is to be made, which would not have it; another verb may be what mends it.
    """
    try:
        with failures(host.settings.place):
            for store in stores.stores(host.settings.apps):
                stores.heal(store)
            forget_killed(host)
            if host.live:
                host.live.end_dumps()
    except BackupError as error:
        if asked.verb == "backup":
            raise
        return [str(error)]
    return []


def act(asked: argparse.Namespace, host: Host) -> dict[str, Any]:
    """Do what changes something, or proves it. Raises BackupError."""
    if asked.verb == "backup":
        return save(host, asked.reason, in_the_evening(asked.reason) if host.settings.wal else None)
    if asked.verb == "drill":
        proof = drill(host, asked.set, source=source_beyond(asked, host, asked.of))
        # The newest set and the newest point belong together; an earlier set is asked for by itself.
        return {**proof, "point": proven_point(host) if host.settings.wal and asked.set == "latest" else None}
    if asked.verb == "rehearse":
        order = order_of(asked.order)
        return rehearse(host, order, source=source_beyond(asked, host, order["of"]))
    done = restore_of(asked, host).run(asked.confirm, asked.any_schema, not asked.no_safety)
    if host.settings.wal and any(one["name"].startswith("database:") for one in done["restored"]):
        wal.order_base()  # the way from the one before leads through all that the restore wrote, and may be lost
    return done


def restore_of(asked: argparse.Namespace, host: Host) -> Restore:
    """What is to be restored: a set, or a point in time, of this host or of another one. Raises BackupError."""
    source = source_of(asked, host)
    if not asked.time:
        return Restore(host, asked.set, asked.part, source)
    if asked.set != "latest":
        raise BackupError(REFUSED, "nothing was done: a set and a point in time were named; name one of them")
    archive = archive_of(source)
    if host.settings.wal and source is host:
        with suppress(BackupError):  # what was kept until now may do, and what is behind is named where it does not
            wal.keep(host, archive, log_of(host), wait=True)
    return PointRestore(host, archive, asked.time, asked.part, source=source)


def source_beyond(asked: argparse.Namespace, host: Host, named: str) -> Optional[Host]:
    """The other host whose databases a release of this one is started against; None where there is none."""
    of = named or host.settings.drill_of
    if not of:
        return None
    its = replace(host.settings, host=of)
    return Host(its, repository(asked, its))


def source_of(asked: argparse.Namespace, host: Host) -> Host:
    """Whose sets and points in time are asked for, with this host's repository. Nothing is written under its name."""
    if asked.of in ("", host.settings.host):
        return host
    its = replace(host.settings, host=asked.of)
    return Host(its, repository(asked, its), host.live)


def proven_point(host: Host) -> Optional[dict[str, Any]]:
    """The newest point in time, recovered and read; None where none can be, as `status` tells. Raises BackupError."""
    archive = archive_of(host)
    reached = spans(readable(wal.reachable(archive, host.settings), log_of(host).look().major))
    if not reached:
        return None
    at = reached[-1][1]
    try:
        with failures(host.settings.place):
            proof = PointRestore(host, archive, at, ["all"]).prove()
    except BackupError as error:
        if error.fault == REFUSED:  # of another major version, or without a database of an app
            return None
        raise BackupError(error.fault, f"the set is proven, and the point in time {at} is not: {error}") from error
    wal.State(host.settings).note(proven=proof)
    return proof


def archive_of(host: Host) -> Archive:
    """Where this host's write-ahead log is kept."""
    return Repository(host.settings, host.restic)


def log_of(host: Host) -> wal.Log:
    if host.live is None or not host.live.own:
        raise BackupError(REFUSED, "nothing was done: this host runs no database server (backup_database: none)")
    return wal.Log(host.live)


def points(asked: argparse.Namespace, host: Host) -> dict[str, Any]:
    """Keep the log or make a base. Raises BackupError."""
    log = log_of(host)
    with failures(host.settings.place):
        if asked.verb == "wal" and asked.off:
            return {"stopped": wal.stop(log, host.settings)}
        if not host.settings.wal:
            raise BackupError(REFUSED, "nothing was done: backup_wal is false on this host")
        if asked.verb == "base":
            return make_base(host, archive_of(host), log, fast=True)
        try:
            return wal.keep(host, archive_of(host), log, wal.order_base)
        except BackupError as error:
            if error.fault in (LOCKED, BUSY):  # the repository is tended; the next time has it all
                return wal.told(host.settings)
            raise


def in_the_evening(reason: str) -> Callable[[Host], list[str]]:
    """What a night's backup does for points in time: a base. What nobody needs any more may go."""

    def more(host: Host) -> list[str]:
        archive = archive_of(host)
        with suppress(BackupError):  # the set is there all the same, and status says it
            make_base(host, archive, log_of(host), fast=reason != BY_TIMER)
        bases, pieces = archive.contents()
        horizon = at_time(time.time() - host.settings.wal_days * 86400)
        return stale(bases, pieces, horizon) + archive.orphans()

    return more


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Have SIGTERM, as of `systemctl stop`, raise SystemExit: what was started aside, with secrets, goes.

    A second one does not disturb that; systemd kills what takes too long.
    """

    def end(number: int, _: Any) -> None:
        signal.signal(number, lambda *_: None)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def in_the_ledgers(asked: argparse.Namespace, found: Settings) -> Iterator[list[Note]]:
    """What somebody asks for is in the ledger of its app, or where nobody says which, in those of all apps of the host.

    What the timers do is not: a line for each night would hide the others.
    """
    record = json.loads(os.environ.get(RECORD) or "{}")
    records = [record] if record.get("root") else [by_hand(path) for path in ledgers(found.apps)]
    what = asked.reason if asked.verb == "backup" else ", ".join(getattr(asked, "part", None) or ())
    with ExitStack() as notes:
        wanted = asked.verb == "restore" or (asked.verb == "backup" and asked.reason != BY_TIMER)
        yield [notes.enter_context(recorded(one, asked.verb, what)) for one in records if wanted]


def status(host: Host) -> dict[str, Any]:
    """What is known without asking the repository: ages in seconds, the next runs as systemd tells them, problems."""
    state, at = host.records.read(), now()
    kept = wal.told(host.settings) if host.settings.wal else None
    return {
        "repository": host.settings.repository,
        "database": host.settings.database,
        "elsewhere": list(host.settings.elsewhere),
        "append_only": host.settings.append_only,
        "own_disk": bool(own := files.own_disk_told(host.settings)),
        "to_be_told": own,
        **state,
        **{name: next_run(timer) for name, timer in TIMERS.items()},
        "ages": {name: age(state[name]["time"], at) for name in ("newest", "proven") if state.get(name)},
        "points": kept,
        "problems": problems(state, at) + (wal.problems(kept) if kept else []),
    }


def next_run(timer: str) -> Optional[str]:
    """When a timer comes next, None where it is off or there is no systemd."""
    try:
        ran = command.run(["systemctl", "show", timer, "--property=NextElapseUSecRealtime", "--value"], 10)
    except command.CommandError:
        return None
    return ran.stdout.strip() or None


def repository(asked: argparse.Namespace, found: Settings) -> Restic:
    """The sets of the host, for what was asked."""
    by_timer = getattr(asked, "reason", "") == BY_TIMER
    wait = 0.0 if asked.verb == "wal" else PATIENT if by_timer else WAIT
    return Restic(found, cached=asked.verb not in ("drill", "rehearse"), wait=wait)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    asked = parser().parse_args(arguments)
    os.umask(0o077)
    os.chdir("/")  # the superuser of the database may not be let into where this was started
    told: dict[str, Any] = {}
    try:
        with failures(CONFIG):
            found = settings(CONFIG)
            if asked.verb == "restic":
                return subprocess.run([*program(found), *asked.words], env=environment(found), check=False).returncode
            found.place.mkdir(mode=0o700, parents=True, exist_ok=True)
            with ending_in_order():
                told["result"] = answer(asked, Host(found, repository(asked, found)))
    except BackupError as error:
        told["error"] = {"message": str(error), "fault": error.fault}
    if asked.answer:
        try:
            write_durably(asked.answer, json.dumps(told) + "\n", mode=0o600)
        except OSError as error:
            print(f"slipway-backup {asked.verb}: no answer in {asked.answer}: {error.strerror}", file=sys.stderr)
    print(json.dumps(told.get("result", {}), indent=1))
    if "error" in told:
        print(f"slipway-backup {asked.verb}: {told['error']['message']}", file=sys.stderr)
        return 2 if told["error"]["fault"] == BUSY else 1
    return 0
