"""Taking away the logins that an app had before, once it comes by those of now and nobody uses the former ones."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

from .access import AccessError
from .databases import Database, former, there
from .server import Server, literal, quoted


def retire(server: Server, wanted: Sequence[Database], wait: float, check: bool) -> list[str]:
    """Take them away, and say what was done.

    A login that was made here is dropped, and what it made is the owner's; an owner stays, and logs in no more. Each
    step can be the last one: what is left is found again.

    Args:
        server: reached as superuser
        wanted: the app's databases, with the logins of now
        wait: seconds for sessions of former logins to end by themselves
        check: change nothing

    Raises AccessError with nothing taken away where a login of now is none or sessions are left, and ServerError.
    """
    found = there(server)
    now = sorted({database.login or database.user for database in wanted})
    for name in now:
        role = found.roles.get(name)
        if not (role and role.login and role.kept):
            raise AccessError(f"nothing was taken away: {name} cannot log in itself; run slipway.fleet.provision")
    gone = former(found, wanted)
    said = [f"took away {' '.join(gone)}"] if gone else []
    if not gone or check:
        return said
    deadline = time.monotonic() + wait
    while (used := _sessions(server, gone)) and time.monotonic() < deadline:
        time.sleep(min(1.0, wait))
    if used:
        raise AccessError(
            "nothing was taken away: there are sessions of a former login, by which something works still. Have it log "
            f"in as {' or '.join(now)}, or wait until a slot that drains has ended, and run this again. Sessions: "
            f"{'; '.join(used)}"
        )
    ended = server.sql(
        "postgres",
        "BEGIN",
        *(f"ALTER ROLE {quoted(name)} NOLOGIN PASSWORD NULL" for name in gone),
        "COMMIT",
        # Who came in after it was asked who is there.
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ({_listed(gone)})",  # noqa: S608 - quoted
    )
    _drop(server, {name: owner for name, owner in gone.items() if name != owner})
    return said + ([f"ended sessions: {len(ended)}"] if ended else [])


def _sessions(server: Server, names: Collection[str]) -> list[str]:
    """How many there are of each role, and from where."""
    rows = server.sql(
        "postgres",
        "SELECT format('%s as %s from %s', count(*), usename, coalesce(host(client_addr), 'the host itself')) "  # noqa: S608 - quoted
        f"FROM pg_stat_activity WHERE usename IN ({_listed(names)}) "
        "GROUP BY usename, client_addr ORDER BY usename, client_addr",
    )
    return [said for (said,) in rows]


def _drop(server: Server, logins: Mapping[str, str]) -> None:
    """Drop logins; what they made while they did not act as the owner (SET ROLE NONE) becomes the owner's."""
    if not logins:
        return
    given = [
        statement
        for name, owner in logins.items()
        for statement in (f"REASSIGN OWNED BY {quoted(name)} TO {quoted(owner)}", f"DROP OWNED BY {quoted(name)}")
    ]
    elsewhere = server.sql(
        "postgres",
        "SELECT DISTINCT datname FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid "  # noqa: S608 - quoted
        "JOIN pg_roles r ON r.oid = d.refobjid AND d.refclassid = 'pg_authid'::regclass "
        f"WHERE datallowconn AND datname <> 'postgres' AND rolname IN ({_listed(logins)})",
    )
    for (database,) in elsewhere:
        server.sql(database, "BEGIN", *given, "COMMIT")
    server.sql("postgres", "BEGIN", *given, *(f"DROP ROLE {quoted(name)}" for name in logins), "COMMIT")


def _listed(names: Collection[str]) -> str:
    return ", ".join(literal(name) for name in names)
