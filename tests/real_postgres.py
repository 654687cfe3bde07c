"""A PostgreSQL server that a test has for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.app.conftest import binary, until

# PostgreSQL refuses root, so root becomes postgres.
AS_USER = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []


class Server:
    """A PostgreSQL on a socket of its own."""

    def __init__(self, directory: Path, *own: str) -> None:
        """Its data and its socket in a new directory; `own` are settings besides, as `name=value`."""
        self.directory = directory
        directory.mkdir()
        if AS_USER:
            shutil.chown(directory, "postgres")
        options = ["--auth=trust", "--username=postgres", "--no-sync"]
        subprocess.run(
            [*AS_USER, binary("initdb"), "-D", f"{directory}/data", *options], check=True, cwd="/", capture_output=True
        )
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20"]
        settings += [word for setting in own for word in ("-c", setting)]
        self.process = subprocess.Popen(
            [*AS_USER, binary("postgres"), "-D", f"{directory}/data", "-k", str(directory), *settings],
            cwd="/",
            stderr=subprocess.DEVNULL,
        )
        # What stands before psql to come in as superuser.
        self.superuser = (*AS_USER, "env", f"PGHOST={directory}", f"PATH={Path(binary('psql')).parent}:/usr/bin:/bin")
        ready = [binary("pg_isready"), "-q", "-h", str(directory)]
        until(lambda: subprocess.run(ready, check=False).returncode == 0, "postgres")

    def sql(self, text: str, database: str = "postgres") -> str:
        command = [binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-U", "postgres"]
        done = subprocess.run([*command, database, "-c", text], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def databases(self) -> set[str]:
        return set(self.sql("SELECT datname FROM pg_database WHERE NOT datistemplate").split())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)
