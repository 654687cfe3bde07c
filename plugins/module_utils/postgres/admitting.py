"""Letting an app into the server of a host: its part of pg_hba.conf, and whose settings the server has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..host.durable import make_public, read_json, write_durably
from ..host.errors import SlipwayError
from ..host.shared import alone
from .access import NETWORK, SOCKET, Access, AccessError, Login, admitted, parse, render
from .clusters import in_place
from .databases import Database, There, refuse_others, refuse_strangers, refuse_unknown, there
from .keeping import Kept, keeper, read, takes
from .server import Server, ServerError
from .volume import volume_of

# Seconds that a server has to read anew whom it lets in.
READS_IN = 10.0
# What is remembered of upgrades (module_utils/upgrade), beside compose.yaml.
UPGRADE = "upgrade.json"


def access_file(directory: Path) -> Path:
    """Where the server of a directory reads whom it lets in."""
    return directory / "config" / "pg_hba.conf"


def admit(
    directory: Path, options: Mapping[str, Any], wanted: Sequence[Database], server: Server, check: bool
) -> dict[str, Any]:
    """Have the app's part in the file, and the running server read it; the task's result.

    Args:
        directory: the server's directory on the host
        options: app, provider, network, settings and shared_settings, as the module slipway.fleet.postgres has them
        wanted: the app's databases
        server: reached as superuser, where it runs already
        check: change nothing

    Raises AccessError before anything is changed, Damaged, ServerError and OSError.
    """
    refuse_while_upgraded(directory)
    if not check:
        make_public(access_file(directory).parent)
    file, record = access_file(directory), directory / "server.json"
    with alone(directory):
        text = _text(file)
        found, known = parse(text), read(record)
        logins = tuple(line for database in wanted for line in database.lines)
        mine = Kept(options["app"], options["settings"])
        taken = takes(known, keeper(known, found, mine.app, logins), mine, options["shared_settings"])
        _same_provider(known, found, mine, str(options["provider"]), logins)
        ways = found.ways
        if taken or not ways:
            ways = ((SOCKET,) if options["provider"] == "native" else ()) + ((NETWORK,) if options["network"] else ())
        new = admitted(found, mine.app, logins, ways)
        if now := _now(server):
            refuse_others(now, found, wanted)
            refuse_strangers(now, wanted)
            refuse_unknown(server, wanted)
        files = [(file, text, render(new), 0o644)]
        if taken:
            files.append((record, _text(record), mine.text, 0o644))
        changes = [one for one in files if one[1] != one[2]]
        if not check:
            for path, _, after, mode in changes:
                write_durably(path, after, mode)
            if now:
                have_read(server, file)
    return {
        "changed": bool(changes),
        "takes": taken,
        "versions": in_place() if options["provider"] == "native" else [],
        "volume": volume_of(_text(directory / "compose.yaml")),
        "diff": [
            {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
            for path, before, after, _ in changes
        ],
    }


def refuse_while_upgraded(directory: Path) -> None:
    """Raise AccessError while an upgrade of the server is under way, or was cut: nobody is to be let in then."""
    if (read_json(directory / UPGRADE) or {}).get("run"):
        raise AccessError(
            "nothing was changed in the database server: "
            "an upgrade of this database server is under way, or was cut. Run "
            "slipway.fleet.upgrade_database from the inventory that began it; it goes on, or takes back what was begun"
        )


def _now(server: Server) -> Optional[There]:
    """What there is in the server; None where it does not run yet, or its superuser does not come in."""
    try:
        return there(server)
    except SlipwayError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise AccessError(
            "nothing was changed in the database server: "
            f"line {line} of {path} has a byte that is no UTF-8, "
            f"{error.object[error.start]:#04x}; write that line anew, or take it out"
        ) from error


def _others(found: Access, app: str, logins: Sequence[Login]) -> list[str]:
    """The other apps of a server. The part without a name is none where all of it is what this app has."""
    return [other for other, theirs in found.parts.items() if other != app and (other or set(theirs) - set(logins))]


def _same_provider(known: Optional[Kept], found: Access, mine: Kept, provider: str, logins: Sequence[Login]) -> None:
    """Raise AccessError where other apps are in a server that another provider runs: theirs would not be reached."""
    others = _others(found, mine.app, logins)
    seen = ("native" if SOCKET in found.ways else "compose") if found.ways else provider
    before = known.values.get("postgres_provider", seen) if known else seen
    if others and before != provider:
        raise AccessError(
            "nothing was changed in the database server: "
            f"the database server of this host is {before}'s and serves "
            f"{', '.join(app or 'an app without a name' for app in others)} too, and postgres_provider is {provider} "
            f"here. Set postgres_provider: {before}"
        )


def have_read(server: Server, file: Path) -> None:
    """Have the server read the file unless it has since it was written, and wait until it has.

    Raises ServerError where a line is wrong.
    """
    rows = server.sql(
        "postgres",
        "SELECT pg_conf_load_time(), 'before', pg_reload_conf() "
        f"WHERE pg_conf_load_time() <= to_timestamp({file.stat().st_mtime!r} + 1)",
        "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL",
    )
    if wrong := [": ".join(row) for row in rows if len(row) == 2]:
        raise ServerError(f"{file} has lines that the server does not take: line {'; line '.join(wrong)}")
    for row in rows:
        _wait_for_reload(server, before=row[0])


def _wait_for_reload(server: Server, before: str) -> None:
    """A server is told by a signal; a session has the time of what the server had read when the session began."""
    deadline = time.monotonic() + READS_IN
    while server.sql("postgres", "SELECT pg_conf_load_time()") == [[before]]:
        if time.monotonic() > deadline:
            raise ServerError(f"{server.name} was told to read anew whom it lets in, and did not within {READS_IN:g} s")
        time.sleep(0.05)
