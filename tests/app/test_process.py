"""The application as a process: Gunicorn on a Unix socket, signals, health, secrets, migrations."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from app.migrations import HEAD
from lab.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["uvicorn_worker.UvicornWorker", "asgi"]


@contextmanager
def server(environment: dict[str, str], **more: str) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    """Gunicorn with two workers, ready; its output is in `process.stdout`."""
    with tempfile.TemporaryDirectory(prefix="gunicorn") as directory:
        path = f"{directory}/app.sock"
        values = {
            "GUNICORN_BIND": f"unix:{path}",
            "GUNICORN_WORKERS": "2",
            "GUNICORN_PRELOAD": "true",  # as the image does
            "GUNICORN_METRICS_DIR": f"{directory}/metrics",
        }
        process = subprocess.Popen(
            ["gunicorn", "--config", "gunicorn_conf.py", "app.main:app"],
            env={**environment, **values, **more},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        transport = httpx.HTTPTransport(uds=path)
        try:
            with httpx.Client(transport=transport, base_url="http://app", timeout=30) as client:
                wait_until_it_listens(path, process)
                yield client, process
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=60)


def wait_until_it_listens(path: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, f"gunicorn ended: {process.communicate()[0]}"
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(path)
            return
        time.sleep(0.1)
    pytest.fail("gunicorn did not listen")


def socket_of(client: httpx.Client) -> str:
    return str(client._transport._pool._uds)  # type: ignore[attr-defined]


def new_connection(client: httpx.Client) -> httpx.Client:
    """A client with a connection of its own to the same server."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=socket_of(client)), base_url="http://app", timeout=30)


@contextmanager
def slow_request(client: httpx.Client, seconds: float) -> Iterator[socket.socket]:
    """A request that takes so long, on a connection of its own; a worker has it before the block begins."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(120)
        connection.connect(socket_of(client))
        connection.sendall(f"GET /slow?seconds={seconds} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
        deadline = time.monotonic() + 60
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0]:
            assert time.monotonic() < deadline, "no worker took the request"
            time.sleep(0.01)
        yield connection


def status_of(connection: socket.socket) -> int:
    """The status of the answer; 0 where the connection ends without one."""
    with connection.makefile("rb") as stream:
        line = stream.readline()
        stream.read()
    return int(line.split()[1]) if line else 0


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_stop_lets_requests_end_and_writes_the_hits(migrated: dict[str, str], worker_class: str) -> None:
    patient = {"GUNICORN_WORKER_CLASS": worker_class, "HITS_FLUSH_INTERVAL": "60"}
    with server(migrated, **patient) as (client, process):
        slug = client.post("/links", json={"url": "https://example.org/"}).json()["slug"]
        for _ in range(10):
            client.get(f"/{slug}")
        with slow_request(client, 2) as slow:
            process.terminate()
            assert status_of(slow) == 200
        client.close()  # Gunicorn's own worker waits for idle connections too
        assert process.wait(timeout=60) == 0
    with server(migrated) as (client, _):
        assert client.get(f"/links/{slug}").json()["hits"] == 10


@pytest.mark.parametrize("worker_class", CLASSES)
def test_readiness_goes_first(migrated: dict[str, str], worker_class: str) -> None:
    """From SIGTERM on, for the delay, new connections are served and readiness says no; then a request ends."""
    settings = {"GUNICORN_WORKER_CLASS": worker_class, "GUNICORN_STOP_DELAY": "10"}
    with server(migrated, **settings) as (client, process), slow_request(client, 12) as slow:
        assert client.get("/readyz").status_code == 200
        process.terminate()
        refused = 0
        while refused < 6:  # whichever worker answers; new connections are served until the delay is over
            with new_connection(client) as own:
                answer = own.get("/readyz")
                refused = refused + 1 if answer.status_code == 503 else 0
                assert own.get("/version").status_code == 200
        client.close()  # Gunicorn's own worker waits for idle connections too
        assert status_of(slow) == 200
        assert process.wait(timeout=60) == 0


def consume(listener: ClientConnection) -> None:
    """Take what comes until the connection is closed."""
    while True:
        listener.recv(timeout=60)


@pytest.mark.parametrize("worker_class", CLASSES)
def test_websockets_get_new_links_and_are_told_to_come_again(migrated: dict[str, str], worker_class: str) -> None:
    with server(migrated, GUNICORN_WORKER_CLASS=worker_class) as (client, process):
        path = client._transport._pool._uds  # type: ignore[attr-defined]
        with unix_connect(path, "ws://app/live", open_timeout=60) as listener:
            made: set[str] = set()
            heard = None
            # A link that is made before the worker has seen what was there is not told.
            while heard is None:
                assert len(made) < 30, "none of them was told"
                made.add(client.post("/links", json={"url": "https://example.org/live"}).json()["slug"])
                with contextlib.suppress(TimeoutError):
                    heard = json.loads(listener.recv(timeout=2))
            assert heard["slug"] in made
            process.terminate()
            with pytest.raises(ConnectionClosed) as closed:
                consume(listener)
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 1012
        client.close()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("worker_class", CLASSES)
def test_hits_survive_a_request_that_outlives_the_stop(migrated: dict[str, str], worker_class: str) -> None:
    patient = {"GUNICORN_WORKER_CLASS": worker_class, "GUNICORN_WORKERS": "1", "HITS_FLUSH_INTERVAL": "60"}
    with server(migrated, **patient, GUNICORN_GRACEFUL_TIMEOUT="2") as (client, process):
        slug = client.post("/links", json={"url": "https://example.org/"}).json()["slug"]
        client.get(f"/{slug}")
        with slow_request(client, 50):
            process.terminate()
            assert process.wait(timeout=40) == 0
    with server(migrated) as (client, _):
        assert client.get(f"/links/{slug}").json()["hits"] == 1


@pytest.mark.parametrize("worker_class", CLASSES)
def test_a_worker_that_hangs_is_ended_and_counted(migrated: dict[str, str], worker_class: str) -> None:
    settings = {"GUNICORN_WORKER_CLASS": worker_class, "GUNICORN_TIMEOUT": "8", "GUNICORN_WORKERS": "1"}
    with server(migrated, **settings) as (client, process):
        client.get("/livez")
        worker = int(subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split()[0])
        os.kill(worker, signal.SIGSTOP)
        deadline = time.monotonic() + 90
        while "gunicorn_worker_timeouts_total 1.0" not in metrics(client):
            assert time.monotonic() < deadline
            time.sleep(0.5)


def metrics(client: httpx.Client) -> str:
    """What a new connection gets, and nothing while no worker answers."""
    with new_connection(client) as own, contextlib.suppress(httpx.HTTPError):
        return own.get("/metrics", timeout=5).text
    return ""


def versions_counted(text: str) -> int:
    """Requests of /version, by what the metrics say."""
    counted = re.search(r'http_requests_total\{method="GET",route="/version",status="200"\} (\d+)', text)
    return int(counted[1]) if counted else 0


def test_without_the_database_a_request_is_told_so(migrated: dict[str, str]) -> None:
    nowhere = {"DATABASE_URL": "postgresql+asyncpg://shortlinks@127.0.0.1:1/postgres"}
    with server({**migrated, **nowhere}) as (client, _):
        answer = client.post("/links", json={"url": "https://example.org/"})
        assert (answer.status_code, answer.json()) == (503, {"detail": "the database does not answer"})


@pytest.mark.parametrize("preload", ["true", "false"])
def test_metrics_of_all_workers_are_summed(migrated: dict[str, str], preload: str) -> None:
    with server(migrated, GUNICORN_PRELOAD=preload) as (client, process):
        for _ in range(40):
            with new_connection(client) as own:
                own.get("/version")
        # A request is counted a moment after it was answered, and one worker may have answered all of them.
        deadline = time.monotonic() + 60
        while versions_counted(text := metrics(client)) < 40 or "gunicorn_worker_starts_total 2.0" not in text:
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        assert versions_counted(text) == 40
        for worker in subprocess.check_output(["pgrep", "-P", str(process.pid)], text=True).split():
            os.kill(int(worker), signal.SIGKILL)
            break
        deadline = time.monotonic() + 60
        while "gunicorn_worker_starts_total 3.0" not in metrics(client):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_readiness_names_what_is_missing(environment: dict[str, str], postgres: str) -> None:
    nowhere = {"DATABASE_URL": "postgresql+asyncpg://shortlinks@127.0.0.1:1/postgres"}
    with server({**environment, **nowhere}) as (client, _):
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "database" in answer.json()["checks"]
        assert client.get("/livez").status_code == 200


def gunicorn_check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["gunicorn", "--check-config", "--config", "gunicorn_conf.py", "app.main:app"]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_check_needs_no_database_and_secrets_come_from_files(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "SECRET_KEY").write_text("a-key-from-a-file-of-its-own\n")
    (tmp_path / "DATABASE_PASSWORD").write_text("from a file\n")
    without = {name: value for name, value in environment.items() if name not in ("SECRET_KEY", "DATABASE_PASSWORD")}
    result = gunicorn_check({**without, "SECRETS_DIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is empty or a placeholder"),
        ({"SECRET_KEY": "changeme"}, "SECRET_KEY is empty or a placeholder"),
        ({"SECRET_KEY": "too-short"}, "SECRET_KEY needs at least 16 characters"),
        (
            {"SECRET_KEY": None},
            "SECRET_KEY is missing: set the variable SECRET_KEY or write the file /nowhere/SECRET_KEY",
        ),
        ({"DATABASE_PASSWORD": "password"}, "DATABASE_PASSWORD is empty or a placeholder"),
        ({"DATABASE_URL": None}, "DATABASE_URL is missing"),
        ({"GUNICORN_WORKERS": "many"}, "GUNICORN_WORKERS is 'many'; it must be a whole number, at least 1"),
        ({"GUNICORN_WORKERS": "0"}, "GUNICORN_WORKERS is '0'"),
        ({"GUNICORN_PRELOAD": "perhaps"}, "GUNICORN_PRELOAD is 'perhaps'; it must be true or false"),
    ],
)
def test_wrong_settings_are_named_and_secrets_not_shown(
    environment: dict[str, str], change: dict[str, str | None], words: str
) -> None:
    changed = {name: value for name, value in ({**environment, **change}).items() if value is not None}
    result = gunicorn_check(changed)
    assert result.returncode != 0
    assert words in result.stderr
    assert "a-password-for-these-tests" not in result.stderr
    assert "too-short" not in result.stderr


def test_a_preloaded_application_that_cannot_be_imported_says_why_in_one_line(environment: dict[str, str]) -> None:
    command = ["gunicorn", "--config", "gunicorn_conf.py", "app.main:app"]
    wrong = {**environment, "GUNICORN_PRELOAD": "true", "SECRET_KEY": "changeme"}
    result = subprocess.run(command, env=wrong, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    line = json.loads(result.stdout)
    assert line["message"] == "ended by an error"
    assert "SettingsError: SECRET_KEY is empty or a placeholder" in line["exception"]
    assert result.stderr == ""


def test_the_import_opens_nothing(environment: dict[str, str]) -> None:
    """So that it can be preloaded: a socket or a thread would not survive the fork of the workers."""
    code = """if True:
        import pathlib, threading
        import app.main
        opened = [path.readlink().name for path in pathlib.Path("/proc/self/fd").iterdir() if path.exists()]
        print(threading.active_count(), sum(name.startswith("socket:") for name in opened))
    """
    result = subprocess.run(
        ["python", "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["1", "0"]


@pytest.fixture
def empty_database(environment: dict[str, str], postgres: str) -> dict[str, str]:
    name = "fresh"
    directory = postgres.rpartition("=")[2]
    shell = {**os.environ, "PGPASSWORD": environment["DATABASE_PASSWORD"]}
    for statement in (f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}"):
        command = ["psql", "-h", directory, "-U", "shortlinks", "-d", "postgres", "-qc", statement]
        subprocess.run(command, env=shell, check=True, capture_output=True)
    return {**environment, "DATABASE_URL": postgres.replace("/postgres?", f"/{name}?")}


def test_before_the_migration_it_is_not_ready(empty_database: dict[str, str]) -> None:
    with server(empty_database) as (client, _):
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["checks"] == {"migrations": f"none applied, {HEAD} is needed; run alembic upgrade head"}


def test_the_head_is_the_newest_file() -> None:
    revisions = sorted(path.name.partition("_")[0] for path in (ROOT / "app/migrations/versions").glob("[0-9]*.py"))
    assert revisions[-1] == HEAD


def test_the_health_check_works_on_socket_and_port(migrated: dict[str, str]) -> None:
    for bind in ("unix:{}/own.sock", f"127.0.0.1:{free_port()}"):
        with tempfile.TemporaryDirectory() as directory:
            address = {"GUNICORN_BIND": bind.format(directory)}
            command = ["python", "-m", "app.healthcheck"]
            check = {**migrated, **address}
            assert subprocess.run(command, env=check, cwd=ROOT, capture_output=True, check=False).returncode == 1
            process = subprocess.Popen(
                ["gunicorn", "--config", "gunicorn_conf.py", "app.main:app"],
                env={**check, "GUNICORN_METRICS_DIR": f"{directory}/metrics"},
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
            )
            deadline = time.monotonic() + 60
            while subprocess.run(command, env=check, cwd=ROOT, capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline
            process.terminate()
            assert process.wait(timeout=60) == 0
