# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What an image is started with, what was seen of it then, and what is tried next. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import one_worker
from ansible_collections.slipway.fleet.plugins.module_utils.release.missed import fields, looked_at, named
from ansible_collections.slipway.fleet.plugins.module_utils.release.users import ROOT, Owner

MOST_MEMORY = 4096  # MiB
# What an image is given for a variable that it misses, until it says what that must be.
PLACEHOLDER = "placeholder"
# And for an address, which many a library reads at once: nobody listens there. By a word of the variable's name.
_NOBODY = "127.0.0.1:9"
# SQLAlchemy's words for a driver that an app has not, or that is not asynchronous: the next one is tried.
_DATABASES = {
    f"postgresql{driver}://slipway:{PLACEHOLDER}@{_NOBODY}/none": missing
    for driver, missing in (
        # Without one SQLAlchemy 2.0 takes psycopg2, and 2.1 psycopg.
        ("", ("No module named 'psycopg2'", "No module named 'psycopg'", "requires an async driver")),
        ("+asyncpg", ("No module named 'asyncpg'",)),
        ("+psycopg", ("No module named 'psycopg'",)),
        ("+psycopg2", ()),
    )
}
_DATABASE, *_ = _DATABASES
_REDIS = f"redis://{_NOBODY}/0"
_ADDRESS = re.compile(r"(?:^|_)(?:URL|URI|DSN)$")
_ADDRESSES = (
    (re.compile(r"REDIS|VALKEY|CACHE|BROKER|CELERY"), _REDIS),
    (re.compile(r"AMQP|RABBIT"), f"amqp://{_NOBODY}/"),
    (re.compile(r"MONGO"), f"mongodb://{_NOBODY}/none"),
    (re.compile(r"SENTRY"), f"https://{PLACEHOLDER}@{_NOBODY}/1"),
    (re.compile(r"DATABASE|DB|POSTGRES|PG|SQL|DSN"), _DATABASE),
)
# What libraries say of a value that is no address, and what is one for them.
_NO_ADDRESS = (("Could not parse SQLAlchemy URL", _DATABASE), ("Redis URL must specify", _REDIS))
_SCHEME = re.compile(r"URL scheme should be '([a-z][a-z0-9+]*)'")
# What is given instead, by a word of what pydantic says of a value.
_KINDS = (
    ("integer", "1"),
    ("number", "1"),
    ("boolean", "false"),
    ("URL", "http://localhost/"),
    ("email", "someone@example.org"),
    ("JSON", "[]"),
    ("list", "[]"),
    ("dictionary", "{}"),
)
_READ_ONLY = re.compile(r"Read-only file system:? ?['\"]?(?P<path>/?[^\s'\"]*)")
# SQLite's words for a file that it may not make or write, whether the system is read-only or its user may not
# (sqlite3ErrStr in main.c: SQLITE_CANTOPEN, SQLITE_READONLY).
_NO_DATABASE = ("unable to open database file", "attempt to write a readonly database")
_DENIED = re.compile(r"(?:stat (?P<stat>/\S+): )?permission denied:? ?['\"]?(?P<path>/?[^\s'\"]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Trial:
    """How an image is started: as a release with these lines in its inventory would be."""

    user: Owner
    memory_mib: int
    port: int = 0  # 0 is the slot's Unix socket
    read_only: bool = True
    proto: str = "http"
    workers: int = 0  # as many as a release has where nothing is written
    variables: Mapping[str, str] = field(default_factory=dict)  # that it missed


@dataclass(frozen=True)
class Answer:
    """Of a path; status 0 where nobody answered."""

    status: int
    location: str = ""
    text: str = ""  # the beginning of its body

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Seen:
    """What an image did in a trial."""

    running: bool
    exit_code: int = 0
    out_of_memory: bool = False
    log: str = ""
    listening: tuple[str, ...] = ()  # as module_utils/release/listening.py says it
    commands: tuple[tuple[str, ...], ...] = ()  # of its processes
    answers: Mapping[str, Answer] = field(default_factory=dict)
    seconds: float = 0.0  # from its start until the first answer
    memory_mib: int = 0  # at rest
    alembic: str = ""  # the directory with its alembic.ini
    assets: tuple[str, ...] = ()  # directories of a front end whose files have other names in each build
    written: tuple[str, ...] = ()  # outside /tmp, where it may


@dataclass(frozen=True)
class Shipped:
    """What an image says of itself."""

    ports: tuple[int, ...] = ()  # EXPOSE
    user: str = ""  # USER
    command: tuple[str, ...] = ()  # entry point and command
    health_check: str = ""  # HEALTHCHECK
    named_path: str = ""  # fastapi_app_health_path of who asks
    in_registry: bool = False  # as far as its digest there is known


def first_trial(shipped: Shipped, usual: Trial) -> Trial:
    """A port where the image names one, else the socket of a slot."""
    return replace(usual, port=shipped.ports[0] if len(shipped.ports) == 1 else 0)


def door_of(trial: Trial, seen: Seen, socket: str) -> bool:
    """Whether it listens where it was told to."""
    wanted = f"tcp port {trial.port}" if trial.port else f"socket {socket}"
    return wanted in seen.listening


def next_trial(trial: Trial, seen: Seen, shipped: Shipped, socket: str) -> Trial | None:
    """The trial with one thing changed, for which there is a reason in what was seen; None where there is none."""
    if seen.running and door_of(trial, seen, socket):
        return _as_users_come(trial, seen)
    if seen.out_of_memory:
        return replace(trial, memory_mib=trial.memory_mib * 2) if trial.memory_mib * 2 <= MOST_MEMORY else None
    if (port := port_of(seen)) and port != trial.port:
        return replace(trial, port=port)
    return _with_what_it_lacks(trial, seen, shipped)


def _with_what_it_lacks(trial: Trial, seen: Seen, shipped: Shipped) -> Trial | None:
    """After an end, or where its workers end one after the other: what its log asks for."""
    if one_worker(seen.log) and not trial.workers:
        return replace(trial, workers=1)
    if given := missed(seen.log, trial.variables):
        return replace(trial, variables={**trial.variables, **given})
    # Where its maker ran it as root, files may be root's. One with a user of its own is no less that user here.
    rootly = shipped.user.partition(":")[0] in ("", *ROOT) and trial.user != (0, 0)
    if denied(seen.log) and rootly:
        return replace(trial, user=(0, 0))
    unwritten = any(words in seen.log for words in _NO_DATABASE)
    if trial.read_only and (unwritten or read_only(seen.log)):
        return replace(trial, read_only=False)
    return replace(trial, user=(0, 0)) if unwritten and rootly else None


def _as_users_come(trial: Trial, seen: Seen) -> Trial | None:
    """Where it sends everybody to HTTPS, as through an edge that has a certificate."""
    redirects = [answer for answer in seen.answers.values() if 300 <= answer.status < 400]
    if trial.proto != "http" or not redirects or any(answer.good for answer in seen.answers.values()):
        return None
    secure = all(answer.location.startswith("https://") for answer in redirects)
    return replace(trial, proto="https") if secure else None


def port_of(seen: Seen) -> int:
    """The port on which others reach it; 0 where there is none, or where there are several and none is known."""
    ports = [int(address.split()[2]) for address in seen.listening if re.fullmatch(r"tcp port \d+", address)]
    return ports[0] if ports else 0


def loopback_port(seen: Seen) -> int:
    """A port of loopback alone, which nobody reaches from outside its container."""
    ports = [address.split()[2] for address in seen.listening if " on " in address]
    return int(ports[0]) if ports and not port_of(seen) else 0


def missed(log: str, given: Mapping[str, str]) -> dict[str, str]:
    """Variables that it misses, or whose placeholder it does not take, with what it is given next."""
    text = looked_at(log)
    found: dict[str, str] = {}
    for field_name, what in fields(text):
        name = field_name if field_name in given else field_name.upper()
        if "required" in what.lower() and name not in given:
            found[name] = placeholder_for(name)
        elif stands_in(given.get(name, "")) and (value := _value_for(what)) and value != given[name]:
            found[name] = value
    for name in named(text):
        if name not in given:
            found.setdefault(name, placeholder_for(name))
    if not found and (spoilt := re.search(r"error parsing value for field \"?(\w+)", text)):
        name = spoilt[1].upper()
        if stands_in(given.get(name, "")):
            found[name] = "[]"
    return found or _unnamed(text, given)


def placeholder_for(name: str) -> str:
    """What a variable gets that is missed; where its name says that it is an address, one that can be read."""
    if not _ADDRESS.search(name.upper()):
        return PLACEHOLDER
    return next((value for word, value in _ADDRESSES if word.search(name.upper())), f"http://{_NOBODY}/")


def stands_in(value: str) -> bool:
    """Whether a value is none that anybody could use."""
    return value == PLACEHOLDER or _NOBODY in value


def _unnamed(text: str, given: Mapping[str, str]) -> dict[str, str]:
    """What is given next where the log does not say for which variable."""
    for name, value in given.items():
        if any(words in text for words in _DATABASES.get(value, ())):
            names = list(_DATABASES)
            return {name: names[names.index(value) + 1]}
    waiting = [name for name, value in given.items() if value == PLACEHOLDER]
    if not waiting:
        return {}
    # The one that came last, as it got on with the others.
    if f"int() with base 10: '{PLACEHOLDER}'" in text:
        return {waiting[-1]: "8000" if waiting[-1].endswith("PORT") else "1"}
    return next(({waiting[-1]: value} for words, value in _NO_ADDRESS if words in text), {})


def _value_for(what: str) -> str:
    if scheme := _SCHEME.search(what):
        return f"{scheme[1]}://{_NOBODY}/none"
    return next((value for word, value in _KINDS if word in what), "")


def read_only(log: str) -> list[str]:
    """Paths to which it could not write, as the system is read-only."""
    return sorted({match["path"] for match in _READ_ONLY.finditer(log)})


def denied(log: str) -> list[str]:
    """Paths that its user may not use."""
    return sorted({match["stat"] or match["path"] for match in _DENIED.finditer(log)})
