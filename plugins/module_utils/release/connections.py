"""Whether the database server of a host takes the connections of both slots of a release, beside those of other apps.

How many connections a worker opens is its app's own matter (the size of its pool), so what is open now is counted in
the server, and no worker counts for less than one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..host.errors import SlipwayError
from ..postgres.access import UNNAMED, Access, parse
from ..postgres.admitting import access_file
from ..postgres.server import SUPERUSERS, Server
from .neighbours import App, runs_natively

# Seconds that the server has to answer; a preflight does not wait longer for what it can do without.
ANSWERS_IN = 5.0
_ASKED = (
    "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int",
    """SELECT datname, count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND usename <> 'postgres' GROUP BY datname""",
)


@dataclass(frozen=True)
class Seen:
    """How many connections a server takes from apps, how many are open to each database, and whose those are."""

    limit: int
    open: Mapping[str, int] = field(default_factory=dict)
    access: Access = field(default_factory=lambda: Access({}))


def quickly(words: Any, timeout: float, **more: Any) -> command.Ran:
    return command.run(words, min(timeout, ANSWERS_IN), **more)


def seen(postgres: Path, server: Callable[..., Server] = Server) -> Optional[Seen]:
    """What the server of a host says, None where there is none that answers. `postgres` is its directory."""
    try:
        access = parse(access_file(postgres).read_text(encoding="utf-8"))
        provider = "native" if runs_natively(postgres) else "compose"
        rows = server(SUPERUSERS[provider], run=quickly).sql("postgres", *_ASKED)
    except (SlipwayError, OSError, ValueError):
        return None
    return Seen(int(rows[0][0]), {name: int(count) for name, count in rows[1:]}, access)


def connections_lack(
    found: Optional[Seen], app: str, workers: int, hosts: int, overlap: bool, others: Mapping[str, App]
) -> Optional[str]:
    """Which number to change where a server takes fewer connections than may be open; None where it takes them.

    Args:
        found: what the server says
        app: the app that is released
        workers: of a slot, with the processes beside it
        hosts: on how many the app runs
        overlap: whether both slots run beside each other for a while
        others: the other apps of the host
    """
    if found is None or not workers:
        return None
    parts = found.access.parts
    mine = parts.get(app) or (parts.get(UNNAMED, ()) if set(parts) == {UNNAMED} else ())
    if not mine:
        return None  # its database is elsewhere
    own = sum(found.open.get(database, 0) for database in {login.database for login in mine})
    slot = max(-(-own // max(hosts, 1)), workers)
    mine_all = max(own, slot) + (slot if overlap else 0)
    theirs = {
        name: max(
            sum(found.open.get(database, 0) for database in {login.database for login in logins}),
            others[name].workers if name in others else 0,
        )
        for name, logins in parts.items()
        if logins != mine
    }
    needed = mine_all + sum(theirs.values())
    if needed <= found.limit:
        return None
    beside = "".join(f", {count} of {name or 'another app'}" for name, count in theirs.items() if count)
    return (
        f"database connections: the server of this host takes {found.limit} from apps, and {needed} may be open while "
        f"this is released ({mine_all} of {app}, {slot} for a slot{beside}); who comes then is refused. Lower "
        "fastapi_app_workers or the pool of each worker, or raise postgres_max_connections and provision"
    )
