"""Naming a cause takes no longer than reading the log."""

from __future__ import annotations

import time

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import (
    elsewhere,
    ends_workers,
    explain,
    import_errors,
    last_exception,
    last_words,
    no_room,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import EXPOSED
from ansible_collections.slipway.fleet.plugins.module_utils.release.missed import NO_SECRETS
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.oneoff import cause


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("", ""),
        ("all is well\n", ""),
        ("Traceback\nImportError: no module 'nope'\n", "ImportError: no module 'nope'"),
        ("ValueError: first\nKeyError: 'last'\nstopped\n", "KeyError: 'last'"),
        ("sqlalchemy.exc.OperationalError: no such host", "sqlalchemy.exc.OperationalError: no such host"),
        ('{"message": "x", "exc": "Traceback\\\\nRuntimeError: boom\\\\n"}', "RuntimeError: boom"),
        ('{"exc": "a.b.OddException: it broke", "level": "error"}', "a.b.OddException: it broke"),
        ("[1] OSError: [Errno 98] in use: ('0.0.0.0', 80)", "OSError: [Errno 98] in use: ('0.0.0.0', 80)"),
        ('E.IntegrityError: constraint "entries_pkey"', 'E.IntegrityError: constraint "entries_pkey"'),
        ("re.PatternError: bad escape \\d at 0", "re.PatternError: bad escape \\d at 0"),
        (r'{"e": "File \"x.py\"\nE.KeyError: no \"a\u00e9\" here", "level": 4}', 'E.KeyError: no "a\u00e9" here'),
        (r'{"e": "{\"f\": \"T\\nOSError: no \\\"b\\\" here\\n\"}"}', 'OSError: no "b" here'),
        ('level=error msg="ValueError: it broke" at="noon"', "ValueError: it broke"),
        ("PermissionError: ", ""),
        ("NoError or Exception here", ""),
    ],
)  # fmt: skip
def test_the_last_exception(log: str, found: str) -> None:
    assert last_exception(log) == found


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("", {}),
        ("ValueError: first\nKeyError: 'last'\n", {}),
        ("ModuleNotFoundError: No module named 'x'\n" * 2, {"ModuleNotFoundError: No module named 'x'": 2}),
        ('{"exc": "Traceback\\nImportError: boom\\n"}', {"ImportError: boom": 1}),
        (
            'ERROR:    Error loading ASGI app. Could not import module "mian".\nINFO: Child process died\n',
            {'Error loading ASGI app. Could not import module "mian"': 1},
        ),
    ],
)
def test_import_errors_are_counted(log: str, found: dict[str, int]) -> None:
    assert import_errors(log) == found


HOSTILE = {
    "dotted words": "a." * 500_000,
    "one word": "a" * 1_000_000,
    "colons": ": " * 500_000,
    "kinds without a text": 'Error: "' * 120_000,
    "kinds": "Error: " * 140_000,
    "lines": "\n" * 1_000_000,
    "braces": "[" * 1_000_000,
}


@pytest.mark.parametrize("log", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_log_takes_long(log: str) -> None:
    begin = time.process_time()
    last_exception(log)
    last_words(log)
    import_errors(log)
    ends_workers(log)
    assert time.process_time() - begin < 2


IN_A_CONTAINER = "; /tmp has fastapi_app_tmp_mib in a container: raise it, or name a volume's directory as TMPDIR in "


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("OSError: [Errno 28] No space left on device: '/tmp/tmpx1'", IN_A_CONTAINER),
        ("OSError: [Errno 28] No space left on device", IN_A_CONTAINER),
        ("cp: error writing 'x': No space left on device", IN_A_CONTAINER),
        (
            "OSError: [Errno 28] No space left on device: '/dev/shm/sem'",
            "; /dev/shm has 64 MiB in a container: have it",
        ),
        ("OSError: [Errno 28] No space left on device: '/data/uploads/x'", ""),
        ("OSError: [Errno 28] No space left on device: '/tmpfs/x'", ""),
        ("OSError: [Errno 30] Read-only file system: '/tmp/x'", ""),
    ],
)
def test_a_full_tmp_is_told_with_its_variable(words: str, said: str) -> None:
    assert no_room(words).startswith(said)
    assert bool(no_room(words)) is bool(said)


def test_an_app_that_fills_its_tmp_while_it_starts_is_refused_with_what_to_write() -> None:
    log = "Traceback (most recent call last):\nOSError: [Errno 28] No space left on device: '/tmp/model'\n"
    found = explain("it exited", SlotStatus(), NOBODY, {"log": log})
    assert found.startswith("OSError: [Errno 28] No space left on device: '/tmp/model'; /tmp has fastapi_app_tmp_mib")
    assert found.endswith("(it exited)")


STARTED = """INFO:     Started server process [7]
ERROR:    Error loading ASGI app. Could not import module "parcel.mian".
"""
ENDED = """slipway-parcel@green.service: Deactivated successfully.
Stopped slipway-parcel@green.service - parcel in slot green.
slipway-parcel@green.service: Consumed 1.2s CPU time.
"""


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (STARTED, 'Error loading ASGI app. Could not import module "parcel.mian".'),
        (STARTED + ENDED, 'Error loading ASGI app. Could not import module "parcel.mian".'),
        ("[2026-11-28 00:00:00 +0000] [7] [ERROR] Can't connect to ('', 80)\n", "Can't connect to ('', 80)"),
        ('{"level": "error", "message": "no licence"}\n', "no licence"),
        ("no licence\n" + ENDED, "no licence"),
        (ENDED, ""),
        ("GET /error: 200\nerrors are none\n", "errors are none"),
    ],
)
def test_what_an_app_says_itself_before_it_ends(log: str, said: str) -> None:
    assert explain("it ended", SlotStatus(), NOBODY, {"log": log}) == (f"{said} (it ended)" if said else "it ended")


def test_a_server_whose_workers_cannot_start_says_why_while_it_runs() -> None:
    found = explain("nothing answers", SlotStatus(running=True), NOBODY, {"log": STARTED})
    assert found == 'Error loading ASGI app. Could not import module "parcel.mian". (nothing answers)'


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ('E.DBAPIError: no pg_hba.conf entry for host "172.19.0.6", user "parcel_ca8e2163", database "parcel"', True),
        ('psycopg.OperationalError: password authentication failed for user "parcel_ca8e2163"', True),
        ('E.OperationalError: FATAL:  role "parcel_ca8e2163" does not exist', True),
        ('E.ProgrammingError: relation "parcel_ca8e2163" does not exist', False),
    ],
)
def test_a_login_that_the_database_does_not_take(words: str, told: bool) -> None:
    found = explain("not ready", SlotStatus(running=True), Probe(500, ""), {"log": f"Traceback\n{words}\n"})
    assert found.startswith(words)
    assert ("the database does not take the login parcel_ca8e2163: " in found) is told
    assert ("slipway.fleet.rotate" in cause(1, f"Traceback\n{words}\n", NO_SECRETS)) is told


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ('E.DBAPIError: no pg_hba.conf entry for host "172.19.0.6", user "parcel", database "parcel"', "login parcel"),
        ('psycopg.OperationalError: password authentication failed for user "parcel"', "login parcel"),
        ('E.InvalidAuthorizationSpecificationError: FATAL: role "my-app" is not permitted to log in', "login my-app"),
        ('E.OperationalError: FATAL:  role "managed" does not exist', "login managed"),
        ("redis.exceptions.AuthenticationError: invalid username-password pair or user is disabled.", "password"),
        ("E.ResponseError: WRONGPASS invalid username-password pair or user is disabled.", "password"),
    ],
)
def test_a_login_that_is_not_named_after_its_password(words: str, what: str) -> None:
    """Rolled back to it is one of before the first rotation; of a server of others it may be wrong in the secret."""
    log = f"Traceback\n{words}\n"
    server = "cache" if what == "password" else "database"
    for found in (
        explain("not ready", SlotStatus(running=True), Probe(500, ""), {"log": log}),
        cause(1, log, NO_SECRETS),
    ):
        assert f"; the {server} does not take the {what}: " in found
        assert "the release is of before a rotation, nothing leads back to it, so deploy again" in found
        assert "compare user and password in the app's secrets" in found


def test_the_exception_of_a_health_path_is_told() -> None:
    """Of one that says itself that it is not ready it may be another's."""
    log = "Traceback (most recent call last):\nRuntimeError: health is broken\n"
    health = Probe(500, "Internal Server Error")
    assert explain("not ready", SlotStatus(running=True), health, {"log": log}) == (
        "RuntimeError: health is broken (not ready)"
    )
    health = Probe(503, "not ready")
    assert explain("not ready", SlotStatus(running=True), health, {"log": log}) == (
        "not ready; the last exception in its log: RuntimeError: health is broken"
    )


NO_PORT = Probe(error="nothing answers on port 80 of the app (127.0.0.1:20010: connection closed)", nobody=True)
ON_ANOTHER = (
    "it listens on tcp port 8000 and not on port 80; have it listen there, as the variable PORT tells it (@PORT@ in "
    "fastapi_app_command with fastapi_app_runtime: systemd), or write fastapi_app_port: 8000 where it has a container"
)
ON_LOOPBACK = (
    "it listens on port 80 of loopback alone, where nothing outside its container reaches it; have it listen on "
    "0.0.0.0, as the variable HOST tells it"
)
TWO_PORTS = (
    "it listens on tcp port 8000 on 127.0.0.1, tcp port 9000 and not on the slot's socket; the image EXPOSEs 9000: "
    "write fastapi_app_port: 9000"
)
NOBODY = Probe(error="/run/links/green.sock does not exist", nobody=True)


@pytest.mark.parametrize(
    ("health", "listening", "said"),
    [
        (
            NOBODY,
            ["tcp port 9000"],
            "it listens on tcp port 9000 and not on the slot's socket; write fastapi_app_port: 9000",
        ),
        (
            NOBODY,
            ["tcp port 8000 on 127.0.0.1"],
            "it listens on tcp port 8000 on 127.0.0.1 and not on the slot's socket; write fastapi_app_port: 8000",
        ),
        (
            NOBODY,
            ["socket /x", "tcp port 8000 on 127.0.0.1", f"tcp port 9000{EXPOSED}"],
            TWO_PORTS,
        ),
        (NO_PORT, [f"tcp port 8000{EXPOSED}"], ON_ANOTHER.replace("write", "the image EXPOSEs 8000: write")),
        (NO_PORT, [f"tcp port 80{EXPOSED}"], ""),
        (
            NO_PORT,
            ["socket /run/slipway/links/green/app.sock"],
            "it listens on the slot's socket; write fastapi_app_port_by_image: false, and no fastapi_app_port",
        ),
        (NO_PORT, [f"tcp port 80 on 127.0.0.1{EXPOSED}"], ON_LOOPBACK),
        (NO_PORT, ["tcp port 80"], ""),
        (
            NO_PORT,
            ["tcp port 8000"],
            ON_ANOTHER,
        ),
        (
            NO_PORT,
            ["tcp port 80 on 127.0.0.1"],
            ON_LOOPBACK,
        ),
        (NO_PORT, ["socket /run/control.sock"], ""),
        (NOBODY, ["socket /run/links/green.sock", "tcp port 9000"], ""),
        (NOBODY, ["socket /run/control.sock"], ""),
        (NOBODY, [], ""),
        (Probe(error="TimeoutError: timed out"), ["tcp port 9000"], ""),
        (Probe(503, ""), ["tcp port 9000"], ""),
    ],
)
def test_where_it_listens_instead(health: Probe, listening: list[str], said: str) -> None:
    assert elsewhere(health, listening) == said


@pytest.mark.parametrize(
    ("log", "health", "said"),
    [
        (
            "INFO: Waiting for child process [7]\nINFO: Child process [7] died",
            NOBODY,
            "Uvicorn ended its workers while",
        ),
        ("INFO: Child process [7] died", Probe(503, ""), "the cause"),
        ("ValueError: no such key\nINFO: Child process [7] died", NOBODY, "ValueError: no such key (the cause)"),
        ("INFO: Child process [7] died\nINFO: Started server process [8]", NOBODY, "Uvicorn ended its workers while"),
        ("INFO: Uvicorn running", NOBODY, "the cause"),
        (
            "WARNING:  You must pass the application as an import string to enable",
            NOBODY,
            "it starts Uvicorn from code",
        ),
    ],
)
def test_why_uvicorn_has_no_workers(log: str, health: Probe, said: str) -> None:
    """An exception of theirs explains more."""
    found = explain("the cause", SlotStatus(running="must pass" not in log), health, {"log": log})
    assert found.startswith(said)
    if "ended its workers" in found:  # each version of Uvicorn has one of both
        assert all(way in found for way in ("fastapi_app_workers: 1", "Uvicorn 0.37 or newer", "fastapi_app_timeout"))
