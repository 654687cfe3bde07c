"""A server that nobody but its superuser gets into, by lines at the top of pg_hba.conf, while its data is taken."""

from __future__ import annotations

import time
from pathlib import Path

from ..backup.postgres import Server
from ..host.durable import write_durably
from ..host.shared import alone
from ..postgres.admitting import access_file, have_read
from .model import UpgradeError

_BEGIN = "# An upgrade of the database lets nobody in meanwhile: playbooks/upgrade_database.yml"
_END = "# What holds when it is over"
_NOBODY = """\
local all all reject
host all all all reject
local replication all reject
host replication all all reject
"""
_OTHERS = "backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()"
# Seconds that sessions have to end once they were told to.
ENDS_IN = 60.0


def close(root: Path, server: Server, door: str) -> None:
    """Let nobody in but the superuser, and end the sessions of all others: what is written then is all there is.

    `door` are lines for who comes in all the same. Raises UpgradeError where sessions do not end, and SlipwayError.
    """
    file = access_file(root)
    with alone(root):
        text = opened(file.read_text(encoding="utf-8"))
        write_durably(file, f"{_BEGIN}\nlocal all postgres peer\n{door}{_NOBODY}{_END}\n{text}")
        have_read(server, file)
    deadline = time.monotonic() + ENDS_IN
    while server.sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OTHERS}"):  # noqa: S608 - no input
        if time.monotonic() > deadline:
            raise UpgradeError(f"sessions of the database do not end within {ENDS_IN:.0f} s")
        time.sleep(0.1)


def let_in(root: Path, server: Server) -> None:
    """Let in whom the file lets in besides. Raises SlipwayError and OSError."""
    file = access_file(root)
    with alone(root):
        text = file.read_text(encoding="utf-8")
        if opened(text) != text:
            write_durably(file, opened(text))
        have_read(server, file)


def opened(text: str) -> str:
    """The file without the lines at its top."""
    if not text.startswith(_BEGIN):
        return text
    return text.partition(f"{_END}\n")[2]
