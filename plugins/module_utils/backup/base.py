"""A base: a copy of the data of the live server while it works, from which its write-ahead log leads to later points.

The files are read where the server has them, between the two calls by which PostgreSQL lets that be done (its manual,
"Making a Base Backup Using the Low Level API"); so it takes no room on the host, and what did not change none in the
archive.
"""

from __future__ import annotations

import time
from typing import Any

from . import files
from .archive import Archive, stamp
from .model import REFUSED, BackupError
from .points import Base
from .postgres import Server
from .records import at_time, now
from .saving import Host, serving
from .wal import Log, Seen, State, keep, survey

# What PostgreSQL says is left out: of the running server alone, or made anew when one starts.
LEFT_OUT = (
    *("pg_wal", "postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "pg_replslot/*"),
    *("pg_dynshmem/*", "pg_notify/*", "pg_serial/*", "pg_snapshots/*", "pg_stat_tmp/*", "pg_subtrans/*"),
    *("base/pgsql_tmp/*", "base/*/pg_internal.init", "global/pg_internal.init"),
)


def make_base(host: Host, archive: Archive, log: Log, fast: bool) -> dict[str, Any]:
    """Make a base, and have the log up to its end; what is told. Raises BackupError. Another one is not disturbed.

    With `fast` the server writes at once what it has in memory, which is felt; else in its own time.
    """
    state = State(host.settings)
    with state.alone(what="base"):
        began = time.monotonic()
        try:
            made = _make(host, archive, log, state, fast)
        except BackupError as error:
            state.note(base_error=f"{error} ({now()})")
            raise
        return {"base": made.time, "seconds": round(time.monotonic() - began, 1)}


def _make(host: Host, archive: Archive, log: Log, state: State, fast: bool) -> Base:
    server = host.live
    if server is None:
        raise BackupError(REFUSED, "no database server is backed up on this host")
    keep(host, archive, log, wait=True)
    seen = log.look()
    about = _about(host, server, seen)
    mark = stamp()
    with server.copying(fast) as (started, done):
        data = str(log.directory)
        content = archive.keep_data(log.directory, [f"{data}/{path}" for path in LEFT_OUT], mark)
        label = done()
    whole = at_time(time.time() + 1)
    base = Base("", seen.stream, started // seen.size, (int(label["stop"]) - 1) // seen.size, whole, seen.major)
    more = {"content": content, "data": data, "label": label["label"], "time": whole}
    archive.keep_base(base, {**about, **more}, mark)
    while now() <= whole:  # a point is reached when all that was committed until then is kept
        time.sleep(0.1)
    keep(host, archive, log, wait=True)
    with state.alone(wait=True):
        survey(archive, state, log.look())
        state.note(base_error=None)
    return base


def _about(host: Host, server: Server, seen: Seen) -> dict[str, Any]:
    """What a restore has to know before it has the data."""
    databases = server.databases()
    return {
        "major": seen.major,
        "size": seen.size,
        "databases": [database.name for database in databases],
        "bytes": sum(database.bytes for database in databases),
        "apps": {path.name: serving(path) for path in files.apps(host.settings)},
    }
