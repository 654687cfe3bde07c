"""What an app has in a server: roles, databases that nobody else connects to, extensions. Made once, then left alone.

Nothing here removes or renames anything, and nothing is changed in what is not the app's. An app logs in as the role
that owns its databases, or as a member of that role under a name that changes with the password; such a one has a
comment by which it is known as made here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .access import Access, AccessError, Login
from .scram import fits, verifier
from .server import Server, literal, quoted

# The comment of a login, before the name of the role whose member it is.
MARK = "slipway login of "
_ROLES = r"""SELECT 'role', rolname, rolsuper, rolcanlogin, coalesce(rolpassword, ''),
coalesce(substring(shobj_description(oid, 'pg_authid') FROM '^slipway login of (\w+)$'), '') FROM pg_authid"""


@dataclass(frozen=True)
class Database:
    """A database that an app wants: the role that owns it, and the extensions that the superuser makes in it.

    `login` is the member of that role by which the app comes to it; empty where it comes as the role itself.
    """

    name: str
    user: str
    extensions: tuple[str, ...] = ()
    login: str = ""

    @property
    def lines(self) -> tuple[Login, ...]:
        """Whom the server lets in to it."""
        owner = Login(self.name, self.user)
        return (owner, Login(self.name, f"+{self.user}")) if self.login else (owner,)


@dataclass(frozen=True)
class Role:
    """A role of the server: whether it is a superuser, and may log in, and what is kept of its password.

    `of` is the role whose login it was made as; empty for any other one.
    """

    superuser: bool
    login: bool
    kept: str
    of: str = ""


@dataclass(frozen=True)
class There:
    """What there is in a server: roles, the owner of each database, and which of those everybody may connect to."""

    roles: Mapping[str, Role]
    owners: Mapping[str, str]
    public: Collection[str]


def there(server: Server) -> There:
    """Raises ServerError where the server does not answer."""
    rows = server.sql(
        "postgres",
        _ROLES,
        "SELECT 'database', datname, pg_get_userbyid(datdba), "
        "has_database_privilege('public', oid, 'CONNECT, TEMPORARY') FROM pg_database",
    )
    roles = [row[1:] for row in rows if row[0] == "role"]
    databases = [row[1:] for row in rows if row[0] == "database"]
    return There(
        roles={name: Role(superuser == "t", login == "t", kept, of) for name, superuser, login, kept, of in roles},
        owners={name: owner for name, owner, _ in databases},
        public={name for name, _, public in databases if public == "t"},
    )


def member(login: str, user: str) -> tuple[str, ...]:
    """Statements that make a login: in all but the password it is the role, so what it makes is that one's."""
    return (
        f"CREATE ROLE {quoted(login)} LOGIN IN ROLE {quoted(user)}",
        f"ALTER ROLE {quoted(login)} SET role TO {quoted(user)}",
        f"COMMENT ON ROLE {quoted(login)} IS {literal(MARK + user)}",
    )


def former(found: There, wanted: Sequence[Database]) -> dict[str, str]:
    """The roles by which the app comes to its databases besides those of now, each with the one that owns them."""
    now = {database.user: database.login or database.user for database in wanted}
    owners = {name: role.of or (name if role.login else "") for name, role in sorted(found.roles.items())}
    return {name: owner for name, owner in owners.items() if owner in now and name != now[owner]}


def refuse_others(found: There, known: Access, wanted: Sequence[Database]) -> None:
    """Raise AccessError for what no app may have, and for roles that no app has recorded and that own nothing of it."""
    recorded = {login for logins in known.parts.values() for login in logins}
    users = {login.user for login in recorded}
    wrong = unfit(found, wanted, recorded)
    for user in dict.fromkeys(database.user for database in wanted):
        role = found.roles.get(user)
        owns = any(found.owners.get(one.name) == user for one in wanted)
        if role and not role.superuser and user not in users and not owns:
            wrong.append(
                f"the server has a role {user} already, which no app has by its pg_hba.conf; name another user "
                "here, or drop that one if nobody needs it"
            )
    if wrong:
        raise AccessError(f"nothing was changed in the database server: {'; '.join(wrong)}")


def unfit(found: There, wanted: Sequence[Database], recorded: Collection[Login]) -> list[str]:
    """What is there and cannot be an app's: a superuser, and a database of another role than that which comes to it.

    Nobody connects to a database but its owner once it is closed to others. `recorded`: what apps have by pg_hba.conf.
    """
    wrong = []
    for database in wanted:
        name, user, owner = database.name, database.user, found.owners.get(database.name)
        if owner not in (None, user):
            how = f"as the server's superuser: {_given(found, database, recorded, {one.user for one in wanted})}"
            if name in {login.database for login in recorded}:
                wrong.append(
                    f"database {name} of the server is {owner}'s, and {user} could not connect to it. Name {owner} as "
                    f"its user here, or, {how}"
                )
            else:
                wrong.append(
                    f"the server has a database {name} already, which no app has by its pg_hba.conf and which is "
                    f"{owner}'s; give it another name here, or have {user} own it, {how}"
                )
        if (role := found.roles.get(user)) and role.superuser:
            wrong.append(f"{user} is a superuser of the server, which no app may be; name another user")
    return wrong


def _given(found: There, database: Database, recorded: Collection[Login], users: Collection[str]) -> str:
    """The statements that make a database its user's.

    A user whom an inventory gives another name is renamed: tables and all else that it owns stay its own.
    """
    name, user, owner = database.name, database.user, found.owners[database.name]
    if user not in found.roles and Login(name, owner) in recorded and owner not in users:
        return f"ALTER ROLE {quoted(owner)} RENAME TO {quoted(user)}"
    first = "" if user in found.roles else f"CREATE ROLE {quoted(user)}; "
    return f"{first}ALTER DATABASE {quoted(name)} OWNER TO {quoted(user)}"


def refuse_strangers(found: There, wanted: Sequence[Database]) -> None:
    """Raise AccessError for a login that is there as another role."""
    for database in wanted:
        role = found.roles.get(database.login)
        if role and role.of != database.user:
            raise AccessError(
                "nothing was changed in the database server: "
                f"the server has a role {database.login} already, which was not made as a login "
                f"of {database.user}; name another login here"
            )


def refuse_unknown(server: Server, wanted: Sequence[Database]) -> None:
    """Raise AccessError for extensions that the server has not, with those that it has. Raises ServerError."""
    named = {name for database in wanted for name in database.extensions}
    if not named:
        return
    known = [name for (name,) in server.sql("postgres", "SELECT name FROM pg_available_extensions ORDER BY 1")]
    if unknown := sorted(named - set(known)):
        raise AccessError(
            "nothing was changed in the database server: "
            f"the server has no extension {', '.join(unknown)}; it has: {', '.join(known)}. "
            "Others come with another image (postgres_image) or package"
        )


class Making:
    """Has what an app wants in a server; in check mode says what it would do."""

    def __init__(self, server: Server, passwords: Mapping[str, str], check: bool) -> None:
        self._server, self._passwords, self._check = server, passwords, check
        self.said: list[str] = []
        self.former: list[str] = []

    def all(self, wanted: Sequence[Database], passwordless: bool, careful: bool = False) -> None:
        """Have it all, and know by which names the app can log in besides.

        Args:
            wanted: the app's databases
            passwordless: the superuser needs no password, and one that it has is taken away
            careful: change no password by which something may log in now

        Raises AccessError before anything is changed, and ServerError where the server refuses.
        """
        refuse_unknown(self._server, wanted)
        found = there(self._server)
        # Again, since the server may not have run when the app was admitted.
        if wrong := unfit(found, wanted, [Login(database.name, database.user) for database in wanted]):
            raise AccessError(f"nothing was changed in the database server: {'; '.join(wrong)}")
        refuse_strangers(found, wanted)
        logins = {database.user: database.login for database in wanted}
        if careful:
            self._refuse_gap(found, logins)
        for user, password in sorted(self._passwords.items()):
            self._role(user, logins.get(user, ""), password, found)
        for database in wanted:
            self._database(database, found)
        superuser = found.roles.get("postgres")
        if passwordless and superuser and superuser.kept:
            self._do("took the password of postgres away", "ALTER ROLE postgres PASSWORD NULL")
        self.former = list(former(found, wanted))

    def _refuse_gap(self, found: There, logins: Mapping[str, str]) -> None:
        """Raise AccessError where a login that has a password would get another one."""
        for user, password in sorted(self._passwords.items()):
            name = logins.get(user) or user
            role = found.roles.get(name)
            if role and role.login and role.kept and not fits(password, role.kept):
                raise AccessError(
                    "nothing was changed in the database server: "
                    f"{name} has another password than the one given here, and what serves would "
                    "be refused from now until its next release, since it logs in by that name. Let the name change "
                    'with the password: docs/rotation.md, "Database". Or take the gap: slipway.fleet.site'
                )

    def _do(self, said: str, *statements: str, database: str = "postgres") -> None:
        if not self._check:
            self._server.sql(database, *statements)
        self.said.append(said)

    def _role(self, user: str, login: str, password: str, found: There) -> None:
        name = login or user
        role = found.roles.get(name)
        if user not in found.roles:
            self._do(f"made role {user}", f"CREATE ROLE {quoted(user)} {'NOLOGIN' if login else 'LOGIN'}")
        if login and role is None:
            # In one transaction: none is there without its mark.
            self._do(f"made login {login}", "BEGIN", *member(login, user), "COMMIT")
        if role and not role.login:
            self._do(f"let {name} log in", f"ALTER ROLE {quoted(name)} LOGIN")
        if role is None or not fits(password, role.kept):
            if not self._check:
                self._server.run_globals(f"ALTER ROLE {quoted(name)} PASSWORD {literal(verifier(password))};\n")
            self.said.append(f"set the password of {name}")

    def _database(self, database: Database, found: There) -> None:
        name, user = database.name, database.user
        if name not in found.owners:
            self._do(f"made database {name}", f"CREATE DATABASE {quoted(name)} OWNER {quoted(user)}")
        if name not in found.owners or name in found.public:
            self._do(f"closed {name} to other roles", f"REVOKE ALL ON DATABASE {quoted(name)} FROM PUBLIC")
        for extension in self._lacking(database, found):
            # With those that it needs; the superuser owns it, so that the app can use it and not change it.
            statement = f"CREATE EXTENSION IF NOT EXISTS {quoted(extension)} CASCADE"
            self._do(f"made extension {extension} in {name}", statement, database=name)

    def _lacking(self, database: Database, found: There) -> Iterator[str]:
        if not database.extensions:
            return
        present: set[str] = set()
        if database.name in found.owners:
            present = {name for (name,) in self._server.sql(database.name, "SELECT extname FROM pg_extension")}
        yield from (name for name in database.extensions if name not in present)
