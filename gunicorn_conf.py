"""Gunicorn's configuration, every knob from the environment. docs/gunicorn.md explains the choices.

Works for any ASGI or WSGI application; needs nothing but Gunicorn, and prometheus-client where metrics are wanted.

Secrets: each file in SECRETS_DIR (or CREDENTIALS_DIRECTORY, or /run/secrets) becomes an environment variable of this
process before the application is imported. The files are the only place on the host where secrets stand: nothing that
starts this process carries them.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

# What other servers and platforms call it.
_USUAL = {"WORKERS": ("WEB_CONCURRENCY", "WORKERS"), "LOG_LEVEL": ("LOG_LEVEL",)}
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, where there is one


def _text(name: str, default: str) -> str:
    return os.environ.get(_variable(name), default)


def _variable(name: str) -> str:
    """The variable that says a knob. What is usual elsewhere counts where Gunicorn's own is not set."""
    own = f"GUNICORN_{name}"
    return next((known for known in (own, *_USUAL.get(name, ())) if os.environ.get(known)), own)


def _number(name: str, default: int, least: int = 0) -> int:
    value = _text(name, str(default))
    if not value.isdigit() or int(value) < least:
        sys.exit(f"{_variable(name)} is {value!r}; it must be a whole number, at least {least}")
    return int(value)


def _flag(name: str, default: bool) -> bool:
    value = _text(name, str(default)).lower()
    if value not in _TRUE | _FALSE:
        sys.exit(f"GUNICORN_{name} is {value!r}; it must be true or false")
    return value in _TRUE


def _choice(name: str, default: str, *others: str) -> str:
    value = _text(name, default).lower()
    if value not in (default, *others):
        sys.exit(f"{_variable(name)} is {value!r}; it must be one of: {', '.join((default, *others))}")
    return value


def _octal(name: str, default: str) -> int:
    try:
        return int(_text(name, default), 8)
    except ValueError:
        sys.exit(f"GUNICORN_{name} is {_text(name, default)!r}; it must be an octal number such as 027")


def _load_secrets() -> None:
    """A variable named like a file loses to the file."""
    directory = Path(os.environ.get("SECRETS_DIR") or os.environ.get("CREDENTIALS_DIRECTORY") or "/run/secrets")
    if not directory.is_dir():
        return
    try:
        for path in directory.iterdir():
            if path.is_file():
                os.environ[path.name] = path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        sys.exit(
            f"the secret file {error.filename} cannot be read: {error.strerror}; it must belong to uid {os.getuid()}"
        )


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

# What is imported stays. To look for garbage in it meanwhile takes a quarter of the time of a start, so the collector
# rests while something is imported, and then never looks at those objects again (which keeps their pages shared).
gc.disable()

# --- Where it listens -------------------------------------------------------------------------------------------------
bind = _text("BIND", "0.0.0.0:8000").split(",")
backlog = _number("BACKLOG", 2048, least=64)
# Anybody may write to a Unix socket; the directory in which it lies says who comes near it.
umask = _octal("UMASK", "0")
reuse_port = _flag("REUSE_PORT", False)
_sockets_only = all(address.startswith("unix:") for address in bind)
forwarded_allow_ips = _text("FORWARDED_ALLOW_IPS", "*" if _sockets_only else "127.0.0.1")

# --- Workers ----------------------------------------------------------------------------------------------------------
# Async workers: one for each processor. Sync ones wait for the database and the network, 2n + 1 is the rule for them.
worker_class = _text("WORKER_CLASS", "uvicorn_worker.UvicornWorker")
_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
workers = _number("WORKERS", 2 * _cpus + 1 if worker_class in ("sync", "gthread") else _cpus, least=1)
threads = _number("THREADS", 1, least=1)
worker_connections = _number("WORKER_CONNECTIONS", 1000, least=1)
preload_app = _flag("PRELOAD", False)
reload = _flag("RELOAD", False)
# 0: never. A worker that is replaced can lose requests, so a leak is to be mended, not hidden.
max_requests = _number("MAX_REQUESTS", 0)
max_requests_jitter = _number("MAX_REQUESTS_JITTER", max_requests // 10)

# --- Times, in seconds ------------------------------------------------------------------------------------------------
timeout = _number("TIMEOUT", 30)
graceful_timeout = _number("GRACEFUL_TIMEOUT", 30, least=1)
# From SIGTERM to the end of listening: the application is told and answers on its readiness path that it stops, so that
# who asks there goes elsewhere; requests that still come are served.
_stop_delay = _number("STOP_DELAY", 1)
# What a worker keeps of the graceful timeout for itself, so that it can write what it holds before it is killed.
_LAST_WORK = 2
# Longer than the edge keeps an idle connection to the application, so that it is never closed under a request.
keepalive = _number("KEEPALIVE", 75)

# --- Process ----------------------------------------------------------------------------------------------------------
proc_name = _text("PROC_NAME", os.environ.get("RELEASE_APP", "gunicorn"))
# Workers touch a file there to show that they live: in memory, since a slow disk would look like a dead worker.
worker_tmp_dir = _text("WORKER_TMP_DIR", str(_MEMORY) if _MEMORY.is_dir() else "") or None
control_socket_disable = True  # it would be a file to write in a read-only container, and nothing here uses it

# Where nothing else keeps the process; a unit or a container runs it in the foreground, as the right user.
daemon = _flag("DAEMON", False)
pidfile = _text("PIDFILE", "") or None
user = _text("USER", "") or None
group = _text("GROUP", "") or None
tmp_upload_dir = _text("UPLOAD_DIR", "") or None

# --- Logs -------------------------------------------------------------------------------------------------------------
loglevel = _choice("LOG_LEVEL", "info", "debug", "warning", "error", "critical")
errorlog = _text("ERROR_LOG", "-")
# The edge writes the access log; a second one costs more than half as much processor time as a small request.
_access = _text("ACCESS_LOG", "false")
accesslog = _access if _access.startswith("/") else "-" if _flag("ACCESS_LOG", False) else None
access_log_format = _text("ACCESS_LOG_FORMAT", '%(h)s "%(r)s" %(s)s %(b)s %(M)sms %({x-request-id}o)s')
_style = _choice("LOG_FORMAT", "json", "text")


def _output(path: str | None) -> dict[str, Any]:
    """A handler that writes to a file, or to stdout where none is named."""
    if path and path != "-":
        return {"class": "logging.handlers.WatchedFileHandler", "filename": path, "formatter": _style}
    return {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": _style}


logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": JsonFormatter},
        "text": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
    },
    "handlers": {"output": _output(errorlog), "access": _output(accesslog)},
    "root": {"level": loglevel.upper(), "handlers": ["output"]},
    "loggers": {
        "gunicorn.error": {"level": loglevel.upper(), "handlers": ["output"], "propagate": False},
        "gunicorn.access": {"level": "INFO", "handlers": ["access"] if accesslog else [], "propagate": False},
    },
}


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("gunicorn.error").critical("ended by an error", exc_info=(kind, error, trace))


# What ends the master, such as a preloaded application that cannot be imported.
sys.excepthook = _log_the_end

# --- Metrics ----------------------------------------------------------------------------------------------------------
_STARTS, _EXITS, _TIMEOUTS, _ABORTS = "starts", "exits", "timeouts", "aborts"
_HELP = {
    _STARTS: "Workers started",
    _EXITS: "Workers that ended, for whatever reason",
    _TIMEOUTS: "Workers that were silent for longer than the timeout and were ended for it",
    _ABORTS: "Workers that could still say where they hung when they were ended",
}
# Kept for the process: this file is read again at a reload, and prometheus-client takes a name once.
_counters: dict[str, Any] = vars(sys.modules.setdefault("gunicorn_conf_counters", ModuleType("gunicorn_conf_counters")))


def _prepare_metrics() -> None:
    """Give this master a directory in which each of its processes counts; the application adds them up.

    It must be known before anything imports prometheus_client. Each master has its own, or the two slots of a host
    would read and remove each other's.
    """
    if not (base := _text("METRICS_DIR", str(_MEMORY / "prometheus") if _MEMORY.is_dir() else "")):
        return
    own = Path(base, str(os.getpid()))
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR") == str(own):
        return  # this file is read again at a reload
    try:
        own.mkdir(parents=True, exist_ok=True)
        for other in Path(base).iterdir():
            if other == own:
                for left in own.iterdir():  # by an earlier master with the same number
                    left.unlink()
            elif other.name.isdigit() and not _lives(int(other.name)):
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:
        sys.exit(f"GUNICORN_METRICS_DIR is {base!r}, which cannot be used: {error}; name another or set it empty")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(own)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _count(event: str) -> None:
    """Add one to gunicorn_worker_<event>_total, where the application's environment has prometheus-client."""
    if event not in _counters:
        try:
            from prometheus_client import Counter  # noqa: PLC0415 - only after the directory is set
        except ImportError:
            return
        _counters[event] = Counter(f"gunicorn_worker_{event}_total", _HELP[event])
    _counters[event].inc()


_prepare_metrics()


# --- Life of the server and its workers -------------------------------------------------------------------------------
def on_starting(server: Any) -> None:
    server.log.info("starting", extra={"workers": workers, "worker_class": worker_class, "bind": bind})


def when_ready(server: Any) -> None:
    # Gunicorn looks its handler up by name when the signal comes.
    server.handle_term = lambda: _stop(server)
    _collect_garbage()
    server.log.info("listening", extra={"bind": bind})


def _collect_garbage() -> None:
    """From now on, and not in what is there already."""
    gc.freeze()
    gc.enable()


def _stop(server: Any) -> None:
    """Tell the workers that the end comes, wait, and then do what Gunicorn does at SIGTERM.

    SIGURG is ignored by processes that do not know it. SIGINT or SIGQUIT in the meantime ends the wait.
    """
    server.log.info("stopping", extra={"delay": _stop_delay, "graceful_timeout": graceful_timeout})
    server.kill_workers(signal.SIGURG)
    end = time.monotonic() + _stop_delay
    while (left := end - time.monotonic()) > 0:
        if {signal.SIGINT, signal.SIGQUIT} & _signals(server, left):
            break
    raise StopIteration


def _signals(server: Any, seconds: float) -> set[int]:
    """Signals that came within so many seconds; not all of the time need be over."""
    if hasattr(server, "wait_for_signals"):
        return set(server.wait_for_signals(timeout=seconds))
    time.sleep(min(seconds, 0.1))
    return set(server.SIG_QUEUE)  # a list, in older ones


def on_reload(server: Any) -> None:
    server.log.warning("reloading by signal; a release is another process beside this one, see docs/gunicorn.md")


def pre_fork(server: Any, worker: Any) -> None:
    del server, worker
    _count(_STARTS)


def post_fork(server: Any, worker: Any) -> None:
    gc.disable()  # the application is imported now, unless it was preloaded
    server.log.debug("worker forked", extra={"worker": worker.pid})


def post_worker_init(worker: Any) -> None:
    """Requests get the graceful timeout less what the worker needs afterwards; the master kills at its end."""
    own = max(graceful_timeout - _LAST_WORK, 1)
    if hasattr(worker, "config"):  # Uvicorn's worker: without a limit of its own it would wait until it is killed
        worker.config.timeout_graceful_shutdown = own
        if "GUNICORN_WORKER_CONNECTIONS" in os.environ:
            worker.config.limit_concurrency = worker_connections
        # It takes Gunicorn's handler away, and with it worker_abort.
        signal.signal(signal.SIGABRT, worker.handle_abort)
    else:
        worker.cfg.set("graceful_timeout", own)  # this process's copy
    _collect_garbage()
    worker.log.info("worker ready", extra={"worker": worker.pid})


def worker_int(worker: Any) -> None:
    worker.log.info("worker stops at once", extra={"worker": worker.pid})


def worker_abort(worker: Any) -> None:
    """Say where the worker hung. One that hangs outside Python never gets here and is killed a second later."""
    _count(_ABORTS)
    where = "".join(traceback.format_stack()[:-2])
    worker.log.error(
        "worker was silent for too long and ends", extra={"worker": worker.pid, "timeout": timeout, "stack": where}
    )
    if hasattr(worker, "config"):  # Uvicorn takes the exception that ends other workers for the request's own
        signal.raise_signal(signal.SIGTERM)


def worker_exit(server: Any, worker: Any) -> None:
    server.log.info("worker ended", extra={"worker": worker.pid})


def child_exit(server: Any, worker: Any) -> None:
    del server
    _count(_EXITS)
    if worker.aborted:
        _count(_TIMEOUTS)
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import multiprocess  # noqa: PLC0415 - only where metrics are on

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: Any) -> None:
    if own := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        shutil.rmtree(own, ignore_errors=True)
    server.log.info("stopped")
