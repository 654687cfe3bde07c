"""PostgreSQL on this host, asked as its superuser by the server's own psql."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Callable

from ..host import command
from ..host.errors import SlipwayError

# How the superuser comes in (roles/postgres): through the socket inside the container, or as the host's user.
CONTAINER = "slipway-postgres-postgres-1"
SUPERUSERS = {
    "compose": ("docker", "exec", "-i", CONTAINER),
    "native": ("runuser", "-u", "postgres", "--"),
}
PSQL = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1")
# Seconds for one statement, and for a dump or a restore.
STATEMENT, LIMIT = 900.0, 86400.0
# Bytes of what psql counts, a line a table.
COUNTED = 1 << 28
SEPARATOR = "\t"

Run = Callable[..., command.Ran]


class ServerError(SlipwayError):
    """The server refused, or was not there to; the text has its words."""


class Server:
    """`superuser` are the words before psql that make it the superuser's; `name` is how messages call the server.

    `user` are the words by which its programs log in.
    """

    user: tuple[str, ...] = ("--username", "postgres")

    def __init__(self, superuser: Sequence[str], name: str = "the database server", run: Run = command.run) -> None:
        self._superuser, self.name, self._run = tuple(superuser), name, run

    def sql(self, database: str, *statements: str) -> list[list[str]]:
        """The rows of the statements, a transaction each. Raises what `failed` makes with the server's words."""
        words = [word for statement in statements for word in ("-c", statement)]
        ran = self._run([*self._psql(database), *words], STATEMENT)
        if ran.returncode:
            raise self.failed(f"{self.name} refused ({database}): {ran.said}")
        return [line.split(SEPARATOR) for line in ran.stdout.splitlines() if line]

    def words(self, program: str, *arguments: str) -> list[str]:
        """The command that runs a program of the server's as its superuser."""
        return [*self._superuser, program, *arguments]

    def answers(self) -> bool:
        """Whether it runs here and lets its superuser in."""
        try:
            return self.sql("postgres", "SELECT 1") == [["1"]]
        except SlipwayError:
            return False

    def _feed(self, words: Sequence[str], script: str) -> str:
        with tempfile.TemporaryFile() as source:
            source.write(script.encode())
            source.seek(0)
            ran = self._run(words, LIMIT, source=source, limit=COUNTED)
        if ran.returncode:
            raise self.failed(f"{self.name} refused: {ran.said}")
        return ran.stdout

    def run_globals(self, script: str) -> None:
        """Make the roles of a script. Raises what `failed` makes."""
        self._feed(
            self._psql("postgres"), f"SET log_statement = 'none'; SET log_min_error_statement = 'panic';\n{script}"
        )

    def failed(self, text: str) -> SlipwayError:
        """What is raised where the server refuses."""
        return ServerError(text)

    def _psql(self, database: str) -> list[str]:
        return [*self._superuser, *PSQL, "--field-separator", SEPARATOR, *self.user, "--dbname", database]


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
