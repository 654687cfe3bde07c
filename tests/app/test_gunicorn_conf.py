"""Every knob and hook of gunicorn_conf.py with a real Gunicorn, and each Gunicorn that it is said to work with."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "gunicorn_conf.py"
# The oldest that is promised, the last one before its signals changed, and the one that is installed.
VERSIONS = ["21.2.0", "23.0.0", "24.1.1", ""]
APPS = """
import asyncio, pathlib, time


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    if scope["path"] == "/write":
        pathlib.Path("written").touch()
    if scope["path"] == "/slow":
        await asyncio.sleep(2)
    while scope["path"] == "/held" and not pathlib.Path("go").exists():
        await asyncio.sleep(0.02)
    if scope["path"] == "/hang":
        time.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi(environ, start_response):
    if environ["PATH_INFO"] == "/write":
        pathlib.Path("written").touch()
    if environ["PATH_INFO"] == "/slow":
        time.sleep(2)
    if environ["PATH_INFO"] == "/hang":
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
# A line of the log that is there to its end.
WHOLE = re.compile(r"\{.*\n")
WORKERS = {"uvicorn_worker.UvicornWorker": "asgi", "sync": "wsgi", "gthread": "wsgi"}


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


@pytest.fixture(scope="session")
def gunicorns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """For each version a directory in which it is found before the one that is installed."""
    found = {"": ""}
    for version in filter(None, VERSIONS):
        found[version] = str(tmp_path_factory.mktemp(f"gunicorn-{version}"))
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--target", found[version], f"gunicorn=={version}"], check=True, timeout=120)
    return found


def environment(apps: Path, **variables: str) -> dict[str, str]:
    """Without what the tests themselves were started with."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GUNICORN_", "WEB_", "WORKERS"))}
    return {**kept, "PYTHONPATH": str(apps), "SECRETS_DIR": "/nowhere", "GUNICORN_METRICS_DIR": "", **variables}


def settings(apps: Path, **variables: str) -> dict[str, Any]:
    """Gunicorn's settings as it reads them from the configuration."""
    command = [sys.executable, "-m", "gunicorn", "--print-config", "--config", str(CONFIGURATION), "apps:wsgi"]
    ran = subprocess.run(
        command, env=environment(apps, **variables), capture_output=True, text=True, check=False, timeout=60, cwd=apps
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found: dict[str, Any] = {}
    for line in ran.stdout.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            with suppress(ValueError, SyntaxError):
                found[name.strip()] = ast.literal_eval(value.strip())
            found.setdefault(name.strip(), value.strip())
    return found


KNOBS: list[tuple[str, str, str, Any]] = [
    ("GUNICORN_BIND", "127.0.0.1:1,unix:/x", "bind", ["127.0.0.1:1", "unix:/x"]),
    ("GUNICORN_BACKLOG", "77", "backlog", 77),
    ("GUNICORN_REUSE_PORT", "true", "reuse_port", True),
    ("GUNICORN_WORKERS", "7", "workers", 7),
    ("GUNICORN_WORKER_CLASS", "gthread", "worker_class", "gthread"),
    ("GUNICORN_THREADS", "5", "threads", 5),
    ("GUNICORN_WORKER_CONNECTIONS", "55", "worker_connections", 55),
    ("GUNICORN_PRELOAD", "yes", "preload_app", True),
    ("GUNICORN_RELOAD", "on", "reload", True),
    ("GUNICORN_MAX_REQUESTS", "900", "max_requests", 900),
    ("GUNICORN_MAX_REQUESTS_JITTER", "9", "max_requests_jitter", 9),
    ("GUNICORN_TIMEOUT", "44", "timeout", 44),
    ("GUNICORN_GRACEFUL_TIMEOUT", "33", "graceful_timeout", 33),
    ("GUNICORN_KEEPALIVE", "22", "keepalive", 22),
    ("GUNICORN_PROC_NAME", "named", "proc_name", "named"),
    ("GUNICORN_WORKER_TMP_DIR", "/tmp", "worker_tmp_dir", "/tmp"),
    ("GUNICORN_FORWARDED_ALLOW_IPS", "10.0.0.1", "forwarded_allow_ips", ["10.0.0.1"]),
    ("GUNICORN_LOG_LEVEL", "warning", "loglevel", "warning"),
    ("GUNICORN_ERROR_LOG", "/dev/null", "errorlog", "/dev/null"),
    ("GUNICORN_ACCESS_LOG", "true", "accesslog", "-"),
    ("GUNICORN_ACCESS_LOG", "/dev/null", "accesslog", "/dev/null"),
    ("GUNICORN_ACCESS_LOG_FORMAT", "%(h)s", "access_log_format", "%(h)s"),
    ("GUNICORN_UMASK", "027", "umask", 0o27),
    ("GUNICORN_DAEMON", "true", "daemon", True),
    ("GUNICORN_PIDFILE", "/run/x.pid", "pidfile", "/run/x.pid"),
    ("GUNICORN_USER", "nobody", "user", 65534),
    ("GUNICORN_GROUP", "nogroup", "group", 65534),
    ("GUNICORN_UPLOAD_DIR", "/tmp", "tmp_upload_dir", "/tmp"),
    ("WEB_CONCURRENCY", "6", "workers", 6),
    ("WORKERS", "4", "workers", 4),
    ("LOG_LEVEL", "ERROR", "loglevel", "error"),
]


def test_every_knob(apps: Path) -> None:
    """In as few starts as there are values of the same setting."""
    left = list(KNOBS)
    while left:
        now: dict[str, tuple[str, str, Any]] = {}
        for variable, value, setting, wanted in list(left):
            if setting not in now:
                now[setting] = (variable, value, wanted)
                left.remove((variable, value, setting, wanted))
        found = settings(apps, **{variable: value for variable, value, _ in now.values()})
        wrong = {name: (found.get(name), wanted) for name, (_, _, wanted) in now.items() if found.get(name) != wanted}
        assert not wrong


def test_of_several_names_its_own_wins(apps: Path) -> None:
    found = settings(apps, GUNICORN_WORKERS="3", WEB_CONCURRENCY="4", WORKERS="5", LOG_LEVEL="debug")
    assert (found["workers"], found["loglevel"]) == (3, "debug")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WORKERS", "many", "WORKERS is 'many'; it must be a whole number, at least 1"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud'; it must be one of: info"),
        ("GUNICORN_UMASK", "rwx", "GUNICORN_UMASK is 'rwx'; it must be an octal number such as 027"),
        ("GUNICORN_PRELOAD", "perhaps", "GUNICORN_PRELOAD is 'perhaps'; it must be true or false"),
        ("GUNICORN_METRICS_DIR", "/dev/null", "GUNICORN_METRICS_DIR is '/dev/null', which cannot be used"),
    ],
)
def test_what_makes_no_sense_is_named(apps: Path, variable: str, value: str, said: str) -> None:
    command = [sys.executable, "-m", "gunicorn", "--check-config", "--config", str(CONFIGURATION), "apps:wsgi"]
    ran = subprocess.run(
        command, env=environment(apps, **{variable: value}), capture_output=True, text=True, check=False, cwd=apps
    )
    assert ran.returncode != 0
    assert said in ran.stdout + ran.stderr


class Server:
    """A Gunicorn with one worker of two simple apps, and what it says."""

    def __init__(self, apps: Path, worker_class: str, **variables: str) -> None:
        self.path = apps / "app.sock"
        self.log = apps / "log"
        values = {"GUNICORN_BIND": f"unix:{self.path}", "GUNICORN_WORKERS": "1", "GUNICORN_WORKER_CLASS": worker_class}
        command = [sys.executable, "-m", "gunicorn", "--config", str(CONFIGURATION), f"apps:{WORKERS[worker_class]}"]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                env=environment(apps, **{**values, **variables}),
                cwd=apps,
                umask=0o027,
                stdout=stream,
                stderr=stream,
            )

    def said(self, message: str) -> list[dict[str, Any]]:
        """Lines of the log with this message."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if WHOLE.match(line)]
        return [line for line in lines if line["message"] == message]

    def until(self, message: str, times: int = 1) -> dict[str, Any]:
        """Wait for the message, for that many of it; returns the newest."""
        deadline = time.monotonic() + 60
        while len(self.said(message)) < times:
            assert time.monotonic() < deadline, f"no {message!r}: {self.log.read_text()}"
            assert self.process.poll() is None or self.said(message), f"it ended: {self.log.read_text()}"
            time.sleep(0.05)
        return self.said(message)[-1]

    def asked(self, path: str) -> socket.socket:
        """A request under way."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(self.path))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n".encode())
        return connection

    def worker(self) -> int:
        return int(self.said("worker ready")[-1]["worker"])


@contextmanager
def serving(apps: Path, worker_class: str, **variables: str) -> Iterator[Server]:
    server = Server(apps, worker_class, **variables)
    try:
        server.until("listening")
        server.until("worker ready")
        yield server
    finally:
        if server.process.poll() is None:
            server.process.terminate()
        server.process.wait(60)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"not within 60 s: {what}"
        time.sleep(0.05)


def status_of(connection: socket.socket) -> int:
    with connection, connection.makefile("rb") as stream:
        line = stream.readline()
        stream.read()
    return int(line.split()[1]) if line else 0


@pytest.mark.parametrize("worker_class", WORKERS)
def test_every_hook(apps: Path, worker_class: str) -> None:
    """Uvicorn's worker takes SIGQUIT for itself; one with threads is not silent while a request hangs in a thread."""
    more = {"GUNICORN_LOG_LEVEL": "debug", "GUNICORN_TIMEOUT": "8", "GUNICORN_METRICS_DIR": str(apps / "metrics")}
    with serving(apps, worker_class, **more) as server:
        assert server.said("starting")[0]["workers"] == 1
        assert server.said("worker forked")
        assert status_of(server.asked("/")) == 200

        if worker_class != "uvicorn_worker.UvicornWorker":
            os.kill(server.worker(), signal.SIGQUIT)
            server.until("worker stops at once")
            server.until("worker ended", 1)
            server.until("worker ready", 2)

        if worker_class != "gthread":
            ready = len(server.said("worker ready"))
            with server.asked("/hang"):
                said = server.until("worker was silent for too long and ends")
            assert "time.sleep(60)" in said["stack"]
            server.until("worker ready", ready + 1)

        ready = len(server.said("worker ready"))

        server.process.send_signal(signal.SIGHUP)
        server.until("reloading by signal; a release is another process beside this one, see docs/gunicorn.md")
        server.until("worker ready", ready + 1)

        counted = {file.name for file in (apps / "metrics" / str(server.process.pid)).iterdir()}
        assert counted, "starts and exits are counted"
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert server.said("stopping")
        assert server.said("stopped")
        assert not (apps / "metrics" / str(server.process.pid)).exists()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("worker_class", ["uvicorn_worker.UvicornWorker", "gthread"])
def test_a_stop_lets_requests_end(apps: Path, gunicorns: dict[str, str], version: str, worker_class: str) -> None:
    path = ":".join(filter(None, (str(apps), gunicorns[version])))
    with serving(apps, worker_class, PYTHONPATH=path, GUNICORN_THREADS="4", GUNICORN_STOP_DELAY="5") as server:
        got: list[int] = []
        slow = server.asked("/slow")
        waiting = threading.Thread(target=lambda: got.append(status_of(slow)))
        waiting.start()
        assert status_of(server.asked("/write")) == 200, "so the slow one was taken as well"
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o777, "the edge writes to it"
        assert stat.S_IMODE((apps / "written").stat().st_mode) == 0o640, "as whatever started Gunicorn says"
        server.process.terminate()
        server.until("stopping")
        assert status_of(server.asked("/")) == 200, "it serves for the delay of a stop"
        waiting.join(60)
        assert got == [200]
        assert server.process.wait(60) == 0, server.log.read_text()
        assert server.said("stopped")


FILES = {"PIDFILE": "pid", "ERROR_LOG": "error", "ACCESS_LOG": "got"}


def test_files_and_sockets_are_as_they_are_named(apps: Path) -> None:
    """As a daemon, which leaves its starter and is found by its pid file."""
    places = {
        "GUNICORN_PIDFILE": apps / "pid",
        "GUNICORN_ERROR_LOG": apps / "error",
        "GUNICORN_ACCESS_LOG": apps / "got",
    }
    looks = {"GUNICORN_LOG_FORMAT": "text", "GUNICORN_ACCESS_LOG_FORMAT": "asked for %(U)s", "GUNICORN_UMASK": "027"}
    named = {name: str(path) for name, path in places.items()}
    server = Server(apps, "sync", GUNICORN_DAEMON="true", **looks, **named)
    assert server.process.wait(60) == 0, server.log.read_text()
    error = apps / "error"
    until(lambda: error.exists() and "worker ready" in error.read_text(), "it serves")
    master = int((apps / "pid").read_text())
    try:
        assert status_of(server.asked("/here")) == 200
        until(lambda: "asked for /here\n" in (apps / "got").read_text(), "the request is in its log")
        assert re.search(r"INFO +gunicorn.error worker ready$", error.read_text(), re.MULTILINE)
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o750
    finally:
        os.kill(master, signal.SIGTERM)
    until(lambda: "gunicorn.error stopped" in error.read_text(), "it stops")
    assert not (apps / "pid").exists()


@pytest.mark.parametrize("worker_class", WORKERS)
def test_a_worker_is_replaced_after_its_requests(apps: Path, worker_class: str) -> None:
    with serving(apps, worker_class, GUNICORN_MAX_REQUESTS="2") as server:
        first = server.worker()
        for _ in range(2):
            assert status_of(server.asked("/")) == 200
        server.until("worker ready", 2)
        assert server.worker() != first
        assert status_of(server.asked("/")) == 200


def test_above_its_connections_a_worker_of_uvicorn_says_so(apps: Path) -> None:
    with serving(apps, "uvicorn_worker.UvicornWorker", GUNICORN_WORKER_CONNECTIONS="2") as server:
        slow = server.asked("/held")
        got = {status_of(server.asked("/")) for _ in range(3)}
        assert 503 in got
        (apps / "go").touch()
        assert status_of(slow) == 200
        until(lambda: status_of(server.asked("/")) == 200, "there is room again")
