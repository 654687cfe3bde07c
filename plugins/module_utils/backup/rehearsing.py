"""A rehearsal: what a release is to do to the database is done to a set first, restored aside as a drill restores it.

What is told was measured there: how long it took, which locks were held until it was committed, which tables were
written anew, and whether the release that serves still passes its gate afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

from ..host.shown import tail
from ..release.aside import Aside
from ..release.stage import Stage, Unfit
from . import cache, files
from .beyond import require
from .drill import beside, have_roles, restored
from .model import FAILED, REFUSED, BackupError, Manifest
from .postgres import Server
from .saving import Host, serving
from .scratch import Scratch
from .starting import Starter, neighbours, starter

# How many bytes of what a command printed stand in a message, from the end.
SHOWN = 4000
# Alembic's own table has a row that each revision changes.
ALEMBIC = "alembic_version"
# What a database looks like: of each table the file that it is in, and how many of its rows were changed or removed.
Shape = Mapping[str, tuple[str, int]]


def rehearse(
    host: Host,
    order: Mapping[str, Any],
    scratch: Callable[..., Any] = Scratch,
    start: Starter = starter,
    source: Optional[Host] = None,
) -> dict[str, Any]:
    """Run a command of a release against a set, and tell what it did. The caller holds the host's backups.

    Raises BackupError; REFUSED where this host cannot rehearse that release, and where the command failed.

    Args:
        host: where it happens
        order: `app`, `release`, `command`, `timeout` in seconds, and `set`
        scratch: the server to restore into
        start: who starts releases aside
        source: the host of the databases, where that is another one; its newest set is taken, with the volumes of this
            host's
    """
    began = time.monotonic()
    if source:
        require(host, source)
        return {**_rehearsed_beyond(host, source, order, scratch, start), "took": round(time.monotonic() - began, 1)}
    settings = host.settings
    root = settings.apps / order["app"]
    if host.live is None:
        raise BackupError(REFUSED, "this host has no database server that is backed up (backup_database)")
    if not host.live.own:
        raise BackupError(REFUSED, "no release can be tried on a copy of a database that is elsewhere")
    made = scratch(host.live, settings.database)
    aside = start(order["app"], root, made.stage, settings.scratch)
    with refused_unfit():
        aside.require(order["release"])
    found = host.restic.find(order["set"])
    with restored(host, found, "the rehearsal on") as (manifest, place):
        files.room("the server of the rehearsal", (made.disk, manifest.bytes))
        with made as server:
            _fill(server, manifest, Path(f"{place}{manifest.spool}"))
            with neighbours(host, server, made.stage, place):
                seen = measured(server, manifest, aside, {**order, "set": found.short})
                now = serving(root)
                said = after(aside, now, settings.deadline)
    took = round(time.monotonic() - began, 1)
    return {"set": found.short, "time": manifest.time, "took": took, **seen, "release": now, **said}


def _rehearsed_beyond(
    host: Host, source: Host, order: Mapping[str, Any], scratch: Callable[..., Any], start: Starter
) -> dict[str, Any]:
    """The same with the databases of another host."""
    settings = host.settings
    root = settings.apps / order["app"]
    with refused_unfit():
        start(order["app"], root, Stage(), settings.scratch).require(order["release"])
    with (
        restored(host, host.restic.find(), "the rehearsal on") as (_, place),
        refused_unfit(),
        beside(source, place) as found,
    ):
        made = scratch(found.live, found.provider)
        aside = start(order["app"], root, made.stage, place)
        files.room("the server of the rehearsal", (made.disk, found.manifest.bytes))
        with made as server:
            _fill(server, found.manifest, found.spool, logins=True)
            cache.stand_ins(made.stage, found.manifest.caches, found.place, found.manifest.host)
            with cache.twins(made.stage, place, settings.apps):
                seen = measured(server, found.manifest, aside, {**order, "set": found.found.short})
                now = serving(root)
                said = after(aside, now, settings.deadline)
    whose = {"set": found.found.short, "of": source.settings.host, "time": found.manifest.time}
    return {**whose, **seen, "release": now, **said}


@contextmanager
def refused_unfit() -> Iterator[None]:
    """Raise BackupError where this host cannot start what is to be started aside."""
    try:
        yield
    except Unfit as error:
        raise BackupError(REFUSED, str(error)) from error


def _fill(server: Server, manifest: Manifest, spool: Path, logins: bool = False) -> None:
    have_roles(server, spool, logins)
    for database in manifest.databases:
        if database.name != "postgres":
            server.make(database, database.name)
        server.fill(database.name, spool / database.file)


def measured(server: Server, manifest: Manifest, aside: Aside, order: Mapping[str, Any]) -> dict[str, Any]:
    """Run the command, and tell what it did to the databases. Raises BackupError where it fails."""
    names = [database.name for database in manifest.databases]
    before = {name: server.shape(name) for name in names}
    began = time.monotonic()
    try:
        ran = aside.run(order["release"], order["command"], float(order["timeout"]))
    except Unfit as error:
        raise BackupError(REFUSED, str(error)) from error
    seconds = round(time.monotonic() - began, 1)
    if ran.returncode:
        output = tail(f"{ran.stderr.strip()}\n{ran.stdout.strip()}".strip(), SHOWN)
        why = f"did not end within {float(order['timeout']):.0f} s" if ran.timed_out else "fail"
        raise BackupError(REFUSED, f"the migrations {why} there:\n{output}")
    told = answered(ran.stdout)
    require_applied(told, f"set {order['set']} of {manifest.time}")
    known = {database.name: database.tables for database in manifest.databases}
    rewritten, changed = [], []
    for name in names:
        after_it = server.shape(name)
        rewritten += [
            {"table": table, "rows": known[name].get(table, (0, ""))[0]} for table in anew(before[name], after_it)
        ]
        changed += [{"table": table, "rows": rows} for table, rows in touched(before[name], after_it)]
    there = {table for shape in before.values() for table in shape}
    return {
        "seconds": round(float(told.get("seconds", seconds)), 2),
        "applied": list(told.get("applied") or ()),
        "locks": locks(told.get("transactions") or (), there),
        "rewritten": rewritten,
        "changed": changed,
    }


def answered(output: str) -> dict[str, Any]:
    """What a migration says at its end, {"migration": {..}} in its last line; empty for other commands."""
    try:
        found = json.loads(output.strip().splitlines()[-1])["migration"]
    except (IndexError, KeyError, TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def require_applied(told: Mapping[str, Any], name: str) -> None:
    """Raise BackupError where a set has another schema than the database, so that nothing ran that is to run there.

    Alembic says what it left; another command says nothing of that.
    """
    pending = told.get("pending")
    if not isinstance(pending, list) or (told.get("applied") and not pending):
        return
    left = ", ".join(str(one.get("revision")) for one in pending if isinstance(one, dict))
    why = f"there {left} would be applied, not what is pending in the database" if left else "there nothing is pending"
    raise BackupError(
        REFUSED,
        f"{name} is at {told.get('from') or 'no revision'}: {why}, so nothing was rehearsed. Make a set of what the "
        "database is now, with slipway.fleet.backup, and deploy again",
    )


def anew(before: Shape, now: Shape) -> list[str]:
    """The tables that were written anew: they are in another file."""
    return [table for table, (file, _) in before.items() if table in now and now[table][0] != file]


def touched(before: Shape, now: Shape) -> list[tuple[str, int]]:
    """The tables of which rows were changed or removed, and how many; without Alembic's own."""
    counts = ((table, now[table][1] - rows) for table, (_, rows) in before.items() if table in now)
    return [(table, count) for table, count in counts if count > 0 and not table.endswith(f".{ALEMBIC}")]


def locks(transactions: Sequence[Mapping[str, Any]], there: set[str]) -> list[dict[str, Any]]:
    """For each table that was there before and each kind of lock the longest time for which it can have been held."""
    longest: dict[tuple[str, str], float] = {}
    for one in transactions:
        for table, mode in one["locks"]:
            if table in there:
                longest[table, mode] = max(longest.get((table, mode), 0.0), float(one["seconds"]))
    return [{"table": table, "mode": mode, "seconds": round(held, 2)} for (table, mode), held in longest.items()]


def after(aside: Aside, release: str, deadline: float) -> dict[str, str]:
    """Why the release that serves does not pass its gate on the copy (`refusal`), or why nobody knows (`unproven`)."""
    if not release:
        return {"refusal": "", "unproven": "no release serves"}
    try:
        return {"refusal": aside.refusal(release, deadline), "unproven": ""}
    except Unfit as error:
        return {"refusal": "", "unproven": str(error)}


def order_of(path: Path) -> dict[str, Any]:
    """What is to be rehearsed, as the module wrote it. Raises BackupError."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackupError(FAILED, f"{path} says nothing that could be rehearsed: {error}") from error
    return {"set": "latest", "of": "", "timeout": 300.0, **found}
