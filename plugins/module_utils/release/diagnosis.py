"""Names the cause of a refused release from what was seen of its slot. Takes time in proportion to what it reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

from ..host.reading import object_of
from .listening import EXPOSED
from .missed import NO_SECRETS, Secrets, secrets_missed
from .model import Gate, Probe, SlotStatus

_KILLED = 137  # 128 + SIGKILL, how Docker reports it
# Characters: what is looked at of a log, from its end, and of the text of an exception.
_LOOKED_AT = 1 << 17
_TEXT = 1000
# What probe.py says of a port that nobody answers on.
_PORT = re.compile(r"\bport (\d+) of the app\b")
_KINDS = ("Error", "Exception")
_IN_CODE = ("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError")
_UNLOADED = "Error loading ASGI app. "
# Uvicorn's words where code hands it an application and not its name, and WEB_CONCURRENCY says more than 1.
_ONE_WORKER = "You must pass the application as an import string"
# The kernel's words, and the file in Python's; of a container these are file systems of their own.
_FULL = re.compile(r"(?:\[Errno 28\] )?No space left on device(?:: ['\"]?(?P<path>/[^\s'\"]{0,200}))?")
_MEMORY = "/dev/shm"  # noqa: S108 - of a container
# Begins or ends a text in a line of JSON, or after `msg=`.
_QUOTE = re.compile(r'(?<!\\)"')
# What systemd itself says of a unit, in the unit's journal.
_OF_SYSTEMD = re.compile(r"(?:slipway-[^ ]+\.service: |(?:(?:Start|Stopp|Reload)(?:ing|ed)|Failed to start) slipway-)")
# A line of a level that says what is wrong, as Uvicorn, Gunicorn, Hypercorn, Granian and loggers of JSON write it.
_LEVEL = re.compile(
    r"(?:(?:^|[\s\[])(?:ERROR|CRITICAL|FATAL)(?=[\]\s:])[\]:]*|[\"=](?:error|critical|fatal)\b\"?)\s*(?P<said>\S.*)",
)
# What PostgreSQL says of a login that it does not take; and how those end that are named after a password.
_LOGIN = re.compile(
    r"(?:no pg_hba\.conf entry for [^\n]{0,100}user|password authentication failed for user|FATAL: +role) "
    r"\\?\"(?P<name>[^\"\\\n]{1,63})\\?\""
)
_OF_PASSWORD = re.compile(r"_[0-9a-f]{8}\Z")
# What Redis says of a password that it does not take, and redis-py makes of it.
_CACHE_LOGIN = "invalid username-password pair or user is disabled"
_ROTATE = "where the password in the vault is a new one, run slipway.fleet.rotate"
_FORMER_ONE = "where the release is of before a rotation, nothing leads back to it, so deploy again"
_OTHERWISE = "else compare user and password in the app's secrets with what the server has"
# Uvicorn's words for a worker that has ended, by itself or by Uvicorn.
_ENDED = re.compile(r"Child process \[\d+\] died")
# Python's words above the exception with which a process ends (multiprocessing.process, _bootstrap). One number alone
# is that of a child of the first process, as the workers of a server are; what a worker starts has its number, too.
_WORKER_ENDS = re.compile(r"^Process \w*Process-(\d+):$", re.MULTILINE)
# Uvicorn's words for a worker that has imported the app (uvicorn.server, _serve).
_IMPORTED = "Started server process ["


def last_exception(log: str) -> str:
    """The last `some.module.SomeError: text` of a log, plain or inside JSON; empty when there is none."""
    return exception_text(log).partition("\n")[0]


def exception_text(log: str) -> str:
    """The last exception, and below it the lines of its own that name fields of a model; empty when there is none."""
    lines = _lines(log)
    for position in range(len(lines) - 1, -1, -1):
        if found := _exception_in(*lines[position]):
            return "\n".join([found, *_fields([line for line, _ in lines[position + 1 :]])])
    return ""


def _lines(log: str) -> list[tuple[str, bool]]:
    """The lines of a log, those inside a line of JSON as well, and whether each begins within quotation marks."""
    found = []
    for whole in log[-_LOOKED_AT:].splitlines():
        quotes = 0
        for line in whole.replace("\\n", "\n").splitlines():
            found.append((line, quotes % 2 == 1))
            quotes += len(_QUOTE.findall(line))
    return found


def _fields(lines: list[str]) -> Iterator[str]:
    """The lines at the beginning that are a field, as one word, or what is wrong with it, which is indented."""
    for line, below in zip(lines, [*lines[1:], ""]):
        indented = line.startswith("  ")
        if not indented and (" " in line or not below.startswith("  ")):
            return
        yield line


def import_errors(log: str) -> Counter[str]:
    """How often a log has which error of code that cannot be imported: no patience mends it."""
    found = (_exception_in(line, quoted) or unloaded(line) for line, quoted in _lines(log))
    return Counter(error for error in found if error.startswith((*_IN_CODE, _UNLOADED)))


def ends_workers(log: str) -> str:
    """The import error with which more than one worker of a server has ended; empty where one has imported the app.

    Uvicorn notices that a worker has ended at once, or only when that has said nothing for timeout_worker_healthcheck
    (uvicorn.supervisors.multiprocess); until then it starts none anew.
    """
    text = log[-_LOOKED_AT:]
    if _IMPORTED in text:
        return ""
    workers = len(set(_WORKER_ENDS.findall(text)))
    repeated = [error for error, times in import_errors(text).items() if times > 1]
    # Where it has no exception Uvicorn ends the worker itself.
    return next((error for error in reversed(repeated) if workers > 1 or error.startswith(_UNLOADED)), "")


def unloaded(line: str) -> str:
    """What Uvicorn says of an app that it cannot import, where it has no exception; else empty."""
    _, begin, rest = line.partition(_UNLOADED)
    # In a line of JSON the text ends where the next field begins.
    return f"{begin}{rest[:_TEXT]}".replace('\\"', '"').partition('", "')[0].rstrip("}.")


def _exception_in(line: str, quoted: bool) -> str:
    """The last exception that one line names, which begins within quotation marks or not."""
    parts = line.split(": ")
    quotes = list(accumulate((len(_QUOTE.findall(part)) for part in parts), initial=int(quoted)))
    for position in range(len(parts) - 2, -1, -1):
        if not parts[position].endswith(_KINDS):
            continue
        if text := _until(parts[position + 1 : position + 21], quotes[position + 1] % 2 == 1):
            return f"{_last_word(parts[position])}: {text}"
    return ""


def _last_word(text: str) -> str:
    """The dotted name at the end of a text."""
    begin = len(text)
    while begin and (text[begin - 1].isalnum() or text[begin - 1] in "_."):
        begin -= 1
    return text[begin:].lstrip(".")


def _until(parts: list[str], quoted: bool) -> str:
    """The text of an exception, within quotation marks up to the one that ends it, and as it was before JSON."""
    text = ": ".join(parts)[:_TEXT]
    if quoted:
        text = _QUOTE.split(text, maxsplit=1)[0].rstrip("\\")
        with suppress(ValueError):
            text = str(json.loads(f'"{text}"', strict=False))
        text = text.replace('\\"', '"')
    return text.rstrip("\\").strip()


def last_words(log: str) -> str:
    """What a process said last: the message of a JSON line, else the line; empty when it said nothing itself."""
    lines = _own_lines(log)
    return _message(lines[-1]) if lines else ""


def last_error(log: str) -> str:
    """What a process said last as an error, by the level of the line; empty when it said no such thing."""
    for line in reversed(_own_lines(log)):
        if found := _LEVEL.search(line):
            message = _message(line)
            return found["said"].strip() if message == line else message
    return ""


def _own_lines(log: str) -> list[str]:
    """The lines of a log that are not empty, without what systemd says of the unit."""
    lines = (line.strip() for line in log[-_LOOKED_AT:].splitlines())
    return [line for line in lines if line and not _OF_SYSTEMD.match(line)]


def _message(line: str) -> str:
    try:
        entry = object_of(line)
    except ValueError:
        return line
    return str(entry.get("message") or entry.get("msg") or line)


def no_room(words: str) -> str:
    """What to write where an app says that its /tmp is full; empty where it does not, or means another directory."""
    path = match["path"] if (match := _FULL.search(words[-_LOOKED_AT:])) else None
    if match is None or (path and not path.startswith(("/tmp/", f"{_MEMORY}/"))):  # noqa: S108 - of a container
        return ""
    if path and path.startswith(_MEMORY):
        return f"; {_MEMORY} has 64 MiB in a container: have it write to /tmp, or to a volume"
    return (
        "; /tmp has fastapi_app_tmp_mib in a container: raise it, or name a volume's directory as TMPDIR in "
        "fastapi_app_environment"
    )


def no_login(words: str) -> str:
    """What to do where database or cache do not take a login; empty where none says such a thing.

    One whose name changes with the password is of a password that came or went. Another one may be of before the app
    had such logins (the owner of its database, who logs in no more after the first rotation), or of a server of others.
    """
    text = words[-_LOOKED_AT:]
    if match := _LOGIN.search(text):
        name = match["name"]
        if _OF_PASSWORD.search(name):
            return f"; the database does not take the login {name}: {_ROTATE}; {_FORMER_ONE}"
        return f"; the database does not take the login {name}: {_FORMER_ONE}; {_OTHERWISE}"
    if _CACHE_LOGIN in text:
        return f"; the cache does not take the password: {_ROTATE}; {_FORMER_ONE}; {_OTHERWISE}"
    return ""


def one_worker(log: str) -> str:
    """That an app can have one worker alone, with the line that says so; empty where it does not end for that."""
    if _ONE_WORKER not in log[-_LOOKED_AT:]:
        return ""
    return (
        "it starts Uvicorn from code of its own (`uvicorn.run(app)`), where Uvicorn takes no more than one worker: set "
        "fastapi_app_workers: 1"
    )


def ended_workers(log: str) -> str:
    """That Uvicorn has ended workers while they started, and how they get more time; empty where it has not.

    One that dies by itself is told of in the same words, and says why. Source: uvicorn.supervisors.multiprocess, which
    asks each worker and ends one that says nothing for timeout_worker_healthcheck, 5 s, an option since 0.37; `fastapi
    run` calls it without that.
    """
    if not _ENDED.search(log[-_LOOKED_AT:]) or last_exception(log):
        return ""
    return (
        "Uvicorn ended its workers while they started, since they said nothing for 5 s, as on a host that is too busy. "
        "Set fastapi_app_workers: 1, which nobody ends for that; or, where the app has Uvicorn 0.37 or newer, have "
        'fastapi_app_command: [uvicorn, "MODULE:app"], whose workers get fastapi_app_timeout (`fastapi run` has no '
        "such option)"
    )


def advice(gate: Gate, health: Probe) -> str:
    """What to look at where an app does not take a request as the edge makes it, or has no such path; else empty."""
    if health.status == 404:
        return "; set fastapi_app_health_path to a path that the app answers with one of fastapi_app_health_statuses"
    redirects, refuses = 300 <= health.status < 400, health.status == 400
    if not (redirects or refuses):
        return ""
    asked = f"; it was asked as the edge does, with Host: {gate.host} and X-Forwarded-Proto: {gate.proto}"
    if refuses:
        return f"{asked}: have a name first in fastapi_app_host_names that the app takes for its own"
    asked += f", and redirects to {health.location}" if health.location else ""
    to = urlsplit(health.location)
    if to.scheme == "https" and gate.proto != "https":
        return f"{asked}: set fastapi_app_edge_scheme: https where users come by TLS"
    if to.path and to.path != urlsplit(gate.path).path:
        return f"{asked}: set fastapi_app_health_path to a path that answers itself"
    return f"{asked}: look at fastapi_app_host_names and fastapi_app_edge_scheme"


def unseen(gate: Gate, check: str) -> str:
    """What HAProxy's check of a slot got whose own answers are good, and what to look at; `check` in its words."""
    if check.startswith("L7STS"):
        return (
            f"it got {check} where GET {gate.path} of the slot answers well; have the same in health_statuses and "
            "health_path of haproxy_apps as in fastapi_app_health_statuses and fastapi_app_health_path, and run "
            "slipway.fleet.provision"
        )
    got = f"it got {check}" if check else "it has not looked yet"
    return f"{got}; look at owner and mode of the directory of the slot's socket, which the group haproxy must reach"


def elsewhere(health: Probe, listening: list[str]) -> str:
    """Where a slot listens whose own door nobody opens, and what to write; empty where that is not so, or not known."""
    if not health.nobody or any(address.startswith("socket ") and address[7:] in health.error for address in listening):
        return ""
    by_image = [address.split()[2] for address in listening if address.endswith(EXPOSED)]
    ports = [address.replace(EXPOSED, "") for address in listening if address.startswith("tcp")]
    wanted = _PORT.search(health.error)
    if wanted and f"tcp port {wanted[1]}" in ports:
        return ""
    if wanted and (words := unreached(wanted[1], listening)):
        return words
    if not (numbers := by_image or [address.split()[2] for address in ports]):
        return ""
    there = f"it listens on {', '.join(ports)} and not on"
    write = f"{f'the image EXPOSEs {numbers[0]}: ' if by_image else ''}write fastapi_app_port: {numbers[0]}"
    if not wanted:
        return f"{there} the slot's socket; {write}"
    return (
        f"{there} port {wanted[1]}; have it listen there, as the variable PORT tells it (@PORT@ in fastapi_app_command "
        f"with fastapi_app_runtime: systemd), or {write} where it has a container"
    )


def unreached(port: str, listening: list[str]) -> str:
    """Why nobody reaches an app on its port that listens nearby, and what to write; empty where it does not."""
    if any(address.startswith("socket /run/slipway/") for address in listening):
        return "it listens on the slot's socket; write fastapi_app_port_by_image: false, and no fastapi_app_port"
    if any(address.startswith(f"tcp port {port} on ") for address in listening):
        return (
            f"it listens on port {port} of loopback alone, where nothing outside its container reaches it; have it "
            "listen on 0.0.0.0, as the variable HOST tells it"
        )
    return ""


def _exception(log: str, health: Probe, cause: str, secrets: Secrets) -> str:
    """The cause with the last exception of a log; empty where there is none, or the app answers."""
    found = exception_text(log)
    if not found or 0 < health.status < 500:
        return ""
    told = f"{last_exception(log)}{secrets_missed(found, secrets)}{no_room(found)}{no_login(found)}"
    # A server answers 500 where an exception of the app came as far as it; other codes are what the app wanted to say.
    return f"{told} ({cause})" if health.status in (0, 500) else f"{cause}; the last exception in its log: {told}"


def explain(
    cause: str, status: SlotStatus, health: Probe, evidence: dict[str, Any], secrets: Secrets = NO_SECRETS
) -> str:
    """One sentence that says why the slot never got ready; `secrets` are those of its release.

    Ordered from what explains most: a process killed for memory also shows a missing socket, an exception explains
    both an exit and a failing health check, and listening elsewhere explains a missing socket.
    """
    log = str(evidence.get("log", ""))
    memory = "perhaps out of memory" in log[-_LOOKED_AT:].lower()
    if status.out_of_memory or status.exit_code == _KILLED or memory:
        return f"out of memory: the kernel killed it at its memory limit ({cause})"
    if exception := _exception(log, health, cause, secrets):
        return exception
    alone = "" if status.running else one_worker(log)
    if workers := alone or (ended_workers(log) if health.nobody else ""):
        return f"{workers} ({cause})"
    if (where := elsewhere(health, evidence.get("listening", []))) and where not in cause:
        return f"{where} ({cause})"
    # What is said as an error explains an end, and a server with nobody behind it.
    words = last_error(log) if health.nobody else ""
    if not status.running and health.error:
        words = words or last_words(log)
    if words and words[:200] not in cause:
        return f"{words[:200]}{secrets_missed(words, secrets)}{no_room(words)}{no_login(words)} ({cause})"
    return cause
