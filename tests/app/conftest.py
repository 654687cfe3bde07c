"""A real PostgreSQL and a real Redis for the tests of the application, each in a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "a-password-for-these-tests"
KEY = "a-key-for-these-tests"
LIMIT = 60


def binary(name: str) -> str:
    """A program of PostgreSQL; Debian keeps them outside PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = str(versions[-1]) if versions else shutil.which(name)
    if not found:
        pytest.fail(f"{name} is not installed; apt-get install postgresql")
    return found


def until(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not start within {LIMIT} s")
        time.sleep(0.05)


def takes(path: Path) -> bool:
    """Whether a server takes connections on a socket, which is there a moment before."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(path))
        return True
    return False


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server on a Unix socket, without the password. PostgreSQL refuses root, so root becomes postgres."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        here = Path(directory)
        (here / "password").write_text(PASSWORD)
        here.chmod(0o755)
        if as_user:
            shutil.chown(here, "postgres")
        options = ["--auth=scram-sha-256", "--username=shortlinks", f"--pwfile={here}/password", "--no-sync"]
        subprocess.run(
            [*as_user, binary("initdb"), "-D", f"{here}/data", *options], check=True, cwd="/", capture_output=True
        )
        settings = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"]
        server = subprocess.Popen(
            [*as_user, binary("postgres"), "-D", f"{here}/data", "-k", str(here), *settings],
            cwd="/",
            stderr=subprocess.DEVNULL,
        )
        until(
            lambda: subprocess.run([binary("pg_isready"), "-q", "-h", directory], check=False).returncode == 0,
            "postgres",
        )
        yield f"postgresql+asyncpg://shortlinks@/postgres?host={directory}"
        server.terminate()
        server.wait(timeout=LIMIT)


@pytest.fixture
def redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """URL of a server on a Unix socket, and its process, which a test may end."""
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        path = Path(directory) / "redis.sock"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        until(lambda: takes(path), "redis-server")
        yield f"unix://{path}", server
        server.terminate()
        server.wait(timeout=LIMIT)


@pytest.fixture
def environment(
    postgres: str, redis: tuple[str, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The settings of the application, in this process's environment and to be given to others."""
    values = {
        "DATABASE_URL": postgres,
        "DATABASE_PASSWORD": PASSWORD,
        "REDIS_URL": redis[0],
        "SECRET_KEY": KEY,
        "RELEASE_ID": "r1",
        "RELEASE_SLOT": "blue",
        "SECRETS_DIR": "/nowhere",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **values}


@pytest.fixture(scope="session")
def schema(postgres: str) -> None:
    values = {"DATABASE_URL": postgres, "DATABASE_PASSWORD": PASSWORD, "SECRET_KEY": KEY, "SECRETS_DIR": "/nowhere"}
    command = ["alembic", "upgrade", "head"]
    subprocess.run(command, env={**os.environ, **values}, cwd=ROOT, check=True, capture_output=True)


@pytest.fixture
def migrated(environment: dict[str, str], schema: None) -> dict[str, str]:
    """The settings, with a database that has the newest schema."""
    del schema
    return environment


@pytest.fixture
async def client(migrated: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """The application in this process, started and stopped as a server does."""
    del migrated
    from app.main import create_app  # noqa: PLC0415 - app.main reads its settings when imported
    from app.settings import load_settings  # noqa: PLC0415 - as above

    application = create_app(load_settings())
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as session:
            yield session
