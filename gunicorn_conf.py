"""Gunicorn's configuration, every knob from the environment. docs/gunicorn.md explains the choices.

Works for any ASGI or WSGI application; needs nothing but Gunicorn, and prometheus-client where metrics are wanted.

Secrets: each file in SECRETS_DIR (or CREDENTIALS_DIRECTORY, or /run/secrets) becomes an environment variable of this
process before the application is imported. The files are the only place on the host where secrets stand: nothing that
starts this process carries them.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def _text(name: str, default: str) -> str:
    return os.environ.get(f"GUNICORN_{name}", default)


def _number(name: str, default: int, least: int = 0) -> int:
    value = _text(name, str(default))
    if not value.isdigit() or int(value) < least:
        sys.exit(f"GUNICORN_{name} is {value!r}; it must be a whole number, at least {least}")
    return int(value)


def _flag(name: str, default: bool) -> bool:
    value = _text(name, str(default)).lower()
    if value not in _TRUE | _FALSE:
        sys.exit(f"GUNICORN_{name} is {value!r}; it must be true or false")
    return value in _TRUE


def _load_secrets() -> None:
    """A variable named like a file loses to the file."""
    directory = Path(os.environ.get("SECRETS_DIR") or os.environ.get("CREDENTIALS_DIRECTORY") or "/run/secrets")
    if directory.is_dir():
        for path in directory.iterdir():
            if path.is_file():
                os.environ[path.name] = path.read_text(encoding="utf-8").rstrip("\n")


class JsonFormatter(logging.Formatter):
    """A log record as one line of JSON: time, level, logger, message, and whatever the caller gave as `extra`."""

    _known = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in self._known}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


_load_secrets()

# --- Where it listens -------------------------------------------------------------------------------------------------
bind = _text("BIND", "0.0.0.0:8000").split(",")
backlog = _number("BACKLOG", 2048, least=64)
reuse_port = _flag("REUSE_PORT", False)
# Who may connect to a Unix socket is decided by its directory, and whoever may is the edge.
_only_sockets = all(address.startswith("unix:") for address in bind)
forwarded_allow_ips = _text("FORWARDED_ALLOW_IPS", "*" if _only_sockets else "127.0.0.1")

# --- Workers ----------------------------------------------------------------------------------------------------------
# Async workers: one for each processor. Sync ones wait for the database and the network, 2n + 1 is the rule for them.
worker_class = _text("WORKER_CLASS", "uvicorn_worker.UvicornWorker")
_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = _number("WORKERS", 2 * _cpus + 1 if worker_class in ("sync", "gthread") else _cpus, least=1)
threads = _number("THREADS", 1, least=1)
worker_connections = _number("WORKER_CONNECTIONS", 1000, least=1)
preload_app = _flag("PRELOAD", False)
# 0: never. A worker that is replaced can lose requests, so a leak is to be mended, not hidden.
max_requests = _number("MAX_REQUESTS", 0)
max_requests_jitter = _number("MAX_REQUESTS_JITTER", max_requests // 10)

# --- Times, in seconds ------------------------------------------------------------------------------------------------
timeout = _number("TIMEOUT", 30)
graceful_timeout = _number("GRACEFUL_TIMEOUT", 30)
# Longer than the edge keeps an idle connection to the application, so that it is never closed under a request.
keepalive = _number("KEEPALIVE", 75)

# --- Process ----------------------------------------------------------------------------------------------------------
proc_name = _text("PROC_NAME", os.environ.get("RELEASE_APP", "gunicorn"))
# Workers touch a file there to show that they live: in memory, since a slow disk would look like a dead worker.
worker_tmp_dir = _text("WORKER_TMP_DIR", "/dev/shm" if Path("/dev/shm").is_dir() else "") or None  # noqa: S108 - as said
control_socket_disable = True  # it would be a file to write in a read-only container, and nothing here uses it

# --- Logs -------------------------------------------------------------------------------------------------------------
loglevel = _text("LOG_LEVEL", "info").lower()
# The edge writes the access log; a second one costs a third of the processor time of a small request.
accesslog = "-" if _flag("ACCESS_LOG", False) else None
access_log_format = _text("ACCESS_LOG_FORMAT", '%(h)s "%(r)s" %(s)s %(b)s %(M)sms')
_style = _text("LOG_FORMAT", "json")
_output: dict[str, Any] = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": _style}
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": JsonFormatter},
        "text": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
    },
    "handlers": {"output": _output},
    "root": {"level": loglevel.upper(), "handlers": ["output"]},
    "loggers": {
        "gunicorn.error": {"level": loglevel.upper(), "handlers": ["output"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["output"] if accesslog else [], "propagate": False},
    },
}

# --- Metrics ----------------------------------------------------------------------------------------------------------
# Each process writes its own file there; /metrics adds them up. Set before the application imports prometheus_client.
_metrics = Path(_text("METRICS_DIR", "/dev/shm/prometheus" if worker_tmp_dir else ""))  # noqa: S108 - memory
_STARTS, _ABORTS, _EXITS = "starts", "aborts", "exits"
_HELP = {
    _STARTS: "Workers started",
    _ABORTS: "Workers that were silent for longer than the timeout and were aborted",
    _EXITS: "Workers that ended",
}
_counters: dict[str, Any] = {}


def _count(event: str) -> None:
    """Add one to gunicorn_worker_<event>_total, where the application's environment has prometheus-client."""
    if event not in _counters:
        try:
            from prometheus_client import Counter  # noqa: PLC0415 - only after the directory is set
        except ImportError:
            return
        _counters[event] = Counter(f"gunicorn_worker_{event}_total", _HELP[event])
    _counters[event].inc()


def _prepare_metrics() -> None:
    if not _metrics.name:
        return
    shutil.rmtree(_metrics, ignore_errors=True)  # what an earlier master left
    _metrics.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_metrics)


# --- Life of the server and its workers -------------------------------------------------------------------------------
def on_starting(server: Any) -> None:
    _prepare_metrics()
    server.log.info("starting", extra={"workers": workers, "worker_class": worker_class, "bind": bind})


def when_ready(server: Any) -> None:
    server.log.info("listening", extra={"bind": bind})


def on_reload(server: Any) -> None:
    server.log.warning("reloading by signal; a release is another process beside this one, see docs/gunicorn.md")


def pre_fork(server: Any, worker: Any) -> None:
    del worker
    _count(_STARTS)


def post_fork(server: Any, worker: Any) -> None:
    server.log.debug("worker forked", extra={"worker": worker.pid})


def post_worker_init(worker: Any) -> None:
    worker.log.info("worker ready", extra={"worker": worker.pid})


def worker_int(worker: Any) -> None:
    worker.log.info("worker stops at once", extra={"worker": worker.pid})


def worker_abort(worker: Any) -> None:
    _count(_ABORTS)
    worker.log.error(
        "worker aborted: silent for longer than the timeout", extra={"worker": worker.pid, "timeout": timeout}
    )


def worker_exit(server: Any, worker: Any) -> None:
    server.log.info("worker ended", extra={"worker": worker.pid})


def child_exit(server: Any, worker: Any) -> None:
    _count(_EXITS)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess  # noqa: PLC0415 - only where metrics are on

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    server.log.info("stopped")
