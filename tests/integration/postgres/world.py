"""A host with a PostgreSQL server, and what the module slipway.fleet.postgres does to it for apps."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.postgres import access
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file
from ansible_collections.slipway.fleet.plugins.modules import postgres

from tests import real_postgres
from tests.app.conftest import binary

SHOP = "shop-password-0123"
KEPT = {"postgres_max_connections": 100}


class World:
    """A host with a server, and what apps do to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kept: dict[Path, str] = {}
        # Before the server is there, as on a fresh host: what it will read when it starts.
        assert self.run("admit", "first", server=Server(("false",)))["takes"]
        self.real = real_postgres.Server(directory / "server", f"hba_file={access_file(directory)}")
        self.server = Server(self.real.superuser)

    def run(self, operation: str, app: str, check: bool = False, server: Any = None, **options: Any) -> dict[str, Any]:
        named = options.pop("databases", {app: {}})
        databases = [{"name": name, "user": name, "extensions": [], **said} for name, said in named.items()]
        all_of_it = {
            "operation": operation,
            "app": app,
            "provider": "native",
            "network": False,
            "databases": databases,
            "passwords": {},
            "settings": KEPT,
            "shared_settings": "refuse",
            "careful": False,
            "wait": 0,
            "directory": str(self.directory),
            **options,
        }
        found: dict[str, Any] = postgres.act(all_of_it, check, server or self.server)
        return found

    def provision(self, app: str, password: str = SHOP, **options: Any) -> list[str]:
        """What was made."""
        users = {said.get("user", name) for name, said in options.get("databases", {app: {}}).items()}
        self.run("admit", app, **options)
        said: list[str] = self.run("make", app, passwords=dict.fromkeys(users, password), **options)["said"]
        return said

    def databases(self) -> set[str]:
        return {database.name for database in self.server.databases()}

    def login(self, database: str, user: str, password: str, *statements: str) -> subprocess.CompletedProcess[str]:
        """What psql says to an app that asks for this, or for who it is."""
        words = [binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", str(self.real.directory), "-U", user, database]
        asked = [word for statement in statements or ["SELECT current_user"] for word in ("-c", statement)]
        return subprocess.run(
            [*words, *asked], env={"PGPASSWORD": password}, capture_output=True, text=True, check=False
        )

    def comes_in(self, database: str, user: str, password: str) -> bool:
        done = self.login(database, user, password)
        assert done.returncode == 0 or "FATAL" in done.stderr, done.stderr
        return done.returncode == 0


@contextmanager
def started() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="pg") as directory:
        if os.geteuid():  # whoever runs the server is not postgres then, and no peer of that name
            patch.setattr(access, "_HEADER", access._HEADER.replace("peer", "trust"))
        Path(directory).chmod(0o755)
        found = World(Path(directory))
        yield found
        found.real.stop()
