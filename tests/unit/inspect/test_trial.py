"""What is tried next, by what was seen of an image."""

from __future__ import annotations

import pytest
import redis
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import (
    Answer,
    Seen,
    Shipped,
    Trial,
    denied,
    door_of,
    first_trial,
    missed,
    next_trial,
    placeholder_for,
    read_only,
    stands_in,
)
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

SOCKET = "/run/slipway/inspect/blue/app.sock"
USER, ROOT = (10001, 10001), (0, 0)
USUAL = Trial(USER, memory_mib=512)
NOBODY, OTHER = Shipped(user="0:0"), Shipped(user="web:web")
REQUIRED = """\
pydantic_core._pydantic_core.ValidationError: 2 validation errors for Settings
database_url
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.12/v/missing
SMTP_PORT
  Input should be a valid integer, unable to parse string as an integer [type=int_parsing, input_value='placeholder']
"""
SCHEME = """\
1 validation error for Settings
QUEUE_URL
  URL scheme should be 'amqp' or 'amqps' [type=url_scheme, input_value='http://127.0.0.1:9/', input_type=str]
"""
DATABASE = "postgresql://slipway:placeholder@127.0.0.1:9/none"
AS_OBJECT = "WARNING:  You must pass the application as an import string to enable 'reload' or 'workers'."


def driven(driver: str) -> str:
    return DATABASE.replace("://", f"+{driver}://")


def ended(log: str, code: int = 1) -> Seen:
    return Seen(running=False, exit_code=code, log=log)


def listens(*addresses: str, **answers: Answer) -> Seen:
    return Seen(running=True, listening=addresses, answers={f"/{name}": answer for name, answer in answers.items()})


@pytest.mark.parametrize(
    ("ports", "port"), [((), 0), ((80,), 80), ((80, 9000), 0)], ids=["no EXPOSE", "one port", "two ports"]
)
def test_the_first_trial_is_where_the_image_says(ports: tuple[int, ...], port: int) -> None:
    assert first_trial(Shipped(ports=ports), USUAL) == Trial(USER, 512, port=port)


@pytest.mark.parametrize(
    ("seen", "changed"),
    [
        (listens(f"socket {SOCKET}"), None),
        (listens("tcp port 8000"), {"port": 8000}),
        (listens("tcp port 8000 on 127.0.0.1"), None),
        (listens(), None),
        (ended("KeyError: 'API_TOKEN'"), {"variables": {"API_TOKEN": "placeholder"}}),
        (ended("PermissionError: [Errno 13] Permission denied: '/root/app'"), {"user": ROOT}),
        (ended("OSError: [Errno 30] Read-only file system: '/app/data'"), {"read_only": False}),
        (ended("Something else"), None),
        (Seen(running=False, exit_code=137, out_of_memory=True), {"memory_mib": 1024}),
        (ended(AS_OBJECT), {"workers": 1}),
    ],
)
def test_one_thing_is_changed_for_a_reason(seen: Seen, changed: dict[str, object] | None) -> None:
    wanted = None if changed is None else Trial(**{"user": USER, "memory_mib": 512, **changed})  # type: ignore[arg-type]
    assert next_trial(USUAL, seen, NOBODY, SOCKET) == wanted


@pytest.mark.parametrize("words", ["unable to open database file", "attempt to write a readonly database"])
def test_sqlite_says_of_a_system_that_is_read_only_and_of_a_file_of_root_the_same(words: str) -> None:
    failed = ended(f"sqlite3.OperationalError: {words}")
    writable = Trial(USER, 512, read_only=False)
    for image in (NOBODY, OTHER):
        assert next_trial(USUAL, failed, image, SOCKET) == writable
    assert next_trial(writable, failed, NOBODY, SOCKET) == Trial(ROOT, 512, read_only=False)
    assert next_trial(writable, failed, OTHER, SOCKET) is None
    assert next_trial(Trial(ROOT, 512, read_only=False), failed, NOBODY, SOCKET) is None


def test_what_was_tried_is_not_tried_again() -> None:
    denying = ended("Permission denied: '/app'")
    assert next_trial(Trial(ROOT, 512), denying, Shipped(), SOCKET) is None
    assert next_trial(USUAL, denying, OTHER, SOCKET) is None, "root is not tried where the image names another user"
    assert next_trial(Trial(USER, 512, read_only=False), ended("Read-only file system"), OTHER, SOCKET) is None
    assert next_trial(Trial(USER, 4096), Seen(running=False, out_of_memory=True), OTHER, SOCKET) is None
    assert next_trial(Trial(USER, 512, workers=1), ended(AS_OBJECT), OTHER, SOCKET) is None
    given = Trial(USER, 512, variables={"API_TOKEN": "placeholder"})
    assert next_trial(given, ended("KeyError: 'API_TOKEN'"), OTHER, SOCKET) is None


def test_who_sends_everybody_to_https_is_asked_as_https() -> None:
    on_port = Trial(USER, 512, port=80)
    secure, other = Answer(307, "https://localhost/x"), Answer(307, "/x/")
    following = next_trial(on_port, listens("tcp port 80", a=secure, b=Answer(404), c=secure), OTHER, SOCKET)
    assert following == Trial(USER, 512, port=80, proto="https")
    assert next_trial(on_port, listens("tcp port 80", a=secure, b=Answer(200)), OTHER, SOCKET) is None
    assert next_trial(on_port, listens("tcp port 80", a=other), OTHER, SOCKET) is None


@pytest.mark.parametrize(
    ("log", "given", "found"),
    [
        (REQUIRED, {}, {"DATABASE_URL": DATABASE}),
        (REQUIRED, {"SMTP_PORT": "placeholder", "DATABASE_URL": DATABASE}, {"SMTP_PORT": "1"}),
        ("KeyError: 'CELERY_BROKER_URL'", {}, {"CELERY_BROKER_URL": "redis://127.0.0.1:9/0"}),
        ("KeyError: 'SENTRY_DSN'", {}, {"SENTRY_DSN": "https://placeholder@127.0.0.1:9/1"}),
        ("KeyError: 'BASE_URL'", {}, {"BASE_URL": "http://127.0.0.1:9/"}),
        ("No module named 'psycopg2'", {"DATABASE_URL": DATABASE}, {"DATABASE_URL": driven("asyncpg")}),
        ("The asyncio extension requires an async driver", {"X_DSN": DATABASE}, {"X_DSN": driven("asyncpg")}),
        ("No module named 'asyncpg'", {"DATABASE_URL": driven("asyncpg")}, {"DATABASE_URL": driven("psycopg")}),
        ("No module named 'psycopg'", {"DATABASE_URL": driven("psycopg")}, {"DATABASE_URL": driven("psycopg2")}),
        ("No module named 'psycopg2'", {"DATABASE_URL": driven("psycopg2")}, {}),
        ("Could not parse SQLAlchemy URL from given URL", {"KEY": "x", "STORE": "placeholder"}, {"STORE": DATABASE}),
        ("Redis URL must specify one of", {"STORE": "placeholder"}, {"STORE": "redis://127.0.0.1:9/0"}),
        (SCHEME, {"QUEUE_URL": "http://127.0.0.1:9/"}, {"QUEUE_URL": "amqp://127.0.0.1:9/none"}),
        (SCHEME, {"QUEUE_URL": "amqp://127.0.0.1:9/none"}, {}),
        ("RuntimeError: STRIPE_KEY is not set", {}, {"STRIPE_KEY": "placeholder"}),
        ("ValueError: SECRET_KEY environment variable is required", {}, {"SECRET_KEY": "placeholder"}),
        ("decouple.UndefinedValueError: DB_HOST not found. Declare it as envvar", {}, {"DB_HOST": "placeholder"}),
        (
            'pydantic_settings.exceptions.SettingsError: error parsing value for field "origins" from source "Env"',
            {"ORIGINS": "placeholder"},
            {"ORIGINS": "[]"},
        ),
        (
            "ValueError: invalid literal for int() with base 10: 'placeholder'",
            {"API_TOKEN": "placeholder", "LISTEN_PORT": "placeholder"},
            {"LISTEN_PORT": "8000"},
        ),
        ("KeyError: 'user'", {}, {}),
        ("INFO: Application startup complete.", {}, {}),
    ],
)
def test_variables_that_it_misses_are_found_in_its_log(log: str, given: dict[str, str], found: dict[str, str]) -> None:
    assert missed(log, given) == found


def test_an_engine_that_is_made_at_import_takes_what_stands_in_for_its_address() -> None:
    """It died of `placeholder`; asyncpg is the driver that is here."""
    tried = placeholder_for("APP_DATABASE_URL")
    with pytest.raises(ImportError) as lacks:
        create_async_engine(tried)
    found = missed(f"ModuleNotFoundError: {lacks.value}", {"APP_DATABASE_URL": tried})
    engine = create_async_engine(found["APP_DATABASE_URL"])
    assert engine.url.drivername == "postgresql+asyncpg"
    assert redis.from_url(placeholder_for("REDIS_URL")).connection_pool.connection_kwargs["port"] == 9
    for make in (create_engine, redis.from_url):
        with pytest.raises(Exception, match="URL") as refused:
            make("placeholder")
        assert list(missed(str(refused.value), {"STORE": "placeholder"})) == ["STORE"]


def test_what_stands_in_is_shown_to_nobody_as_a_value() -> None:
    assert all(stands_in(placeholder_for(name)) for name in ("API_TOKEN", "DATABASE_URL", "BASE_URL", "MONGO_URI"))
    assert not stands_in("8000")


def test_paths_that_it_may_not_use_are_named() -> None:
    assert read_only("OSError: [Errno 30] Read-only file system: '/app/data/db.sqlite'") == ["/app/data/db.sqlite"]
    assert denied('exec: "x": stat /home/shop/x: permission denied: unknown') == ["/home/shop/x"]
    assert denied("[Errno 13] Permission denied: '/home/shop/entrypoint.sh'") == ["/home/shop/entrypoint.sh"]


def test_a_door_is_the_one_that_it_was_told() -> None:
    assert door_of(Trial(USER, 1, port=80), listens("tcp port 80"), SOCKET)
    assert not door_of(Trial(USER, 1, port=80), listens("tcp port 80 on 127.0.0.1"), SOCKET)
    assert not door_of(USUAL, listens("tcp port 80"), SOCKET)
