"""Whom a shared database server lets in: a part of pg_hba.conf for each app, which is also the record of what is whose.

The file is written whole and by one rename. A part begins with `# app NAME` and has a line for each database of the app
and the role that comes to it. Lines before the first part are those of an app from before there were parts; its next
provisioning gives them its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..host.errors import SlipwayError

# The part of an app from before apps had their names in the file.
UNNAMED = ""
# How an app comes in: by the socket of the host, or over a network.
SOCKET, NETWORK = "local", "host"

_PART = re.compile(r"^# app ([a-z0-9][a-z0-9_-]*)$")
_LINE = re.compile(r"^(local|host) (\S+) (\S+) (?:all )?scram-sha-256$")
_HEADER = """\
# Ansible managed
# By the role postgres: whom the server lets in, and which app has what. Provisioning an app changes its own part.
# The superuser comes through the socket, from where the server runs, and needs no password.
local all postgres peer
"""


class AccessError(SlipwayError):
    """What an app wants of the server is another one's; the text says whose, and what to do."""


@dataclass(frozen=True)
class Login:
    """A database, and the role that comes to it; of `+NAME` its members do."""

    database: str
    user: str


@dataclass(frozen=True)
class Access:
    """The logins of each app in the order of the file, and by which ways they come."""

    parts: Mapping[str, tuple[Login, ...]]
    ways: tuple[str, ...] = ()

    @property
    def apps(self) -> tuple[str, ...]:
        """Those that have a name."""
        return tuple(app for app in self.parts if app != UNNAMED)


def parse(text: str) -> Access:
    """What a file lets in, also one from before there were parts. Other lines than the role's are nobody's."""
    parts: dict[str, list[Login]] = {}
    ways: list[str] = []
    app = UNNAMED
    for line in text.splitlines():
        if named := _PART.match(line):
            app = named[1]
            parts.setdefault(app, [])
        elif found := _LINE.match(line):
            way, login = found[1], Login(found[2], found[3])
            ways += [way] if way not in ways else []
            mine = parts.setdefault(app, [])
            mine += [login] if login not in mine else []
    return Access({name: tuple(logins) for name, logins in parts.items()}, tuple(ways))


def render(access: Access) -> str:
    """The text of the file."""
    lines = [_HEADER]
    for app in sorted(
        access.parts, key=lambda name: name != UNNAMED
    ):  # the nameless one first: it has no line to begin with
        if app == UNNAMED:
            lines.append("# An app from before apps had names here: its next provisioning gives it its name.\n")
        else:
            lines.append(f"# app {app}\n")
        for login in access.parts[app]:
            lines += [
                f"{way} {login.database} {login.user} {'all ' if way == NETWORK else ''}scram-sha-256\n"
                for way in access.ways
            ]
    return "".join(lines)


def admitted(found: Access, app: str, logins: Sequence[Login], ways: Iterable[str]) -> Access:
    """The same with what an app has now. What it had before stays: nobody is locked out, and no data is forgotten.

    Raises AccessError where a database or a role is another app's.
    """
    if wrong := list(_conflicts(found, app, logins)):
        raise AccessError(f"nothing was changed in the database server: {'; '.join(wrong)}")
    before = [login for login in found.parts.get(UNNAMED, ()) if login in logins]
    left = tuple(login for login in found.parts.get(UNNAMED, ()) if login not in logins)
    mine = tuple(dict.fromkeys([*found.parts.get(app, ()), *before, *logins]))
    parts = {**found.parts, app: mine, UNNAMED: left}
    if not left:
        del parts[UNNAMED]
    return Access(parts, tuple(ways))


def _conflicts(found: Access, app: str, logins: Sequence[Login]) -> Iterator[str]:
    for other, theirs in found.parts.items():
        if other == app:
            continue
        for login in logins:
            if login.user.startswith("+") or (other == UNNAMED and login in theirs):
                continue  # members have a line beside that of their role
            both = [f"database {login.database}"] if login.database in {one.database for one in theirs} else []
            both += [f"role {login.user}"] if login.user in {one.user for one in theirs} else []
            if both:
                yield f"{' and '.join(both)} of this server {_whose(other, app, theirs)}"


def _whose(other: str, app: str, theirs: Sequence[Login]) -> str:
    if other == UNNAMED:
        pairs = ", ".join(f"{login.database} {login.user}" for login in theirs)
        return (
            f"is an app's from before apps had names here (by database and user: {pairs}), and {app} has not the same "
            f"two of it. Give {app} others (postgres_database, postgres_user, postgres_databases)"
        )
    return (
        f"is {other}'s. Give {app} another one (postgres_database, postgres_user, postgres_databases); where "
        f"{other} is the former name of this app, write `# app {app}` for `# app {other}` in the server's pg_hba.conf "
        "and run this again"
    )
