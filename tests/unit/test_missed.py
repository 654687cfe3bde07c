"""A log that misses a secret gets the advice where to put it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import explain
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import WANTED, by_shell
from ansible_collections.slipway.fleet.plugins.module_utils.release.missed import Secrets, secret, secrets_missed
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.oneoff import cause
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import unit_word

NOBODY = Probe(error="/run/links/green.sock does not exist", nobody=True)
ENDED = SlotStatus(running=False, exit_code=1)
REQUIRED = """\
pydantic_core._pydantic_core.ValidationError: 3 validation errors for Settings
secret_key
  Field required [type=missing, input_value={}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.12/v/missing
log_level
  Field required [type=missing, input_value={}, input_type=dict]
SMTP_PASSWORD
  Field required [type=missing, input_value={}, input_type=dict]
"""
BOTH = "; set SECRET_KEY and SMTP_PASSWORD in fastapi_app_secrets, from the vault"


def test_what_is_nobodys_business_is_known_by_its_name() -> None:
    assert all(map(secret, ("SECRET_KEY", "DATABASE_URL", "POSTGRES_PASSWORD", "API_TOKEN", "SENTRY_DSN")))
    assert not any(map(secret, ("LOG_LEVEL", "ORIGINS", "POSTGRES_HOST", "LISTEN_PORT")))


@pytest.mark.parametrize(
    ("log", "there", "said"),
    [
        ("KeyError: 'DEPOT_KEY'", (), "; set DEPOT_KEY in fastapi_app_secrets, from the vault"),
        (
            "KeyError: 'DEPOT_KEY'",
            ("DEPOT_KEY",),
            "; of DEPOT_KEY there is a file below /run/secrets and no variable, as fastapi_app_secrets_as says: have",
        ),
        (REQUIRED, (), BOTH),
        (json.dumps({"message": "boom", "exc": REQUIRED}), (), BOTH),
        (REQUIRED, ("secret_key",), "; set SMTP_PASSWORD in fastapi_app_secrets, from the vault; of SECRET_KEY there"),
        ("RuntimeError: DATABASE_URL is not set", (), "; set DATABASE_URL in"),
        ("RuntimeError: DATABASE_URL must be set", (), "; set DATABASE_URL in"),
        ("ValueError: API_TOKEN environment variable is required", (), "; set API_TOKEN in"),
        ("INFO: SECRET_KEY is set, all is well", (), ""),
        ("KeyError: 'LOG_LEVEL'", (), ""),
        ("KeyError: 'user_token'", (), ""),
        ("KeyError: 'UserToken'", (), ""),
        ("", (), ""),
    ],
)
def test_what_to_write(log: str, there: tuple[str, ...], said: str) -> None:
    found = secrets_missed(log, Secrets(there))
    assert found.startswith(said)
    assert bool(found) is bool(said)


def test_it_follows_the_exception_and_the_last_words() -> None:
    for log, begin in (
        ("Traceback\nKeyError: 'DEPOT_KEY'\n", "KeyError: 'DEPOT_KEY'; set DEPOT_KEY in fastapi_app_secrets"),
        ("fatal: DEPOT_KEY is not set\n", "fatal: DEPOT_KEY is not set; set DEPOT_KEY in fastapi_app_secrets"),
    ):
        assert explain("the cause", ENDED, NOBODY, {"log": log}).startswith(begin)
        assert "/run/secrets" in explain("the cause", ENDED, NOBODY, {"log": log}, Secrets(("DEPOT_KEY",)))


REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"
WARNED = f"WARNING SENTRY_DSN is not set, error reporting is off\nTraceback (most recent call last):\n{REFUSED}\n"


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (WARNED, REFUSED),
        (json.dumps({"message": "SENTRY_DSN is not set", "exc": WARNED}), REFUSED),
        (f"{REQUIRED}{WARNED}", REFUSED),
        (f"{REFUSED}\nWARNING SENTRY_DSN is not set\n", REFUSED),
        (f"{WARNED}{REQUIRED}ERROR: SENTRY_DSN is not set\n", f"{REQUIRED.splitlines()[0]}{BOTH}"),
        (json.dumps({"message": "boom", "exc": WARNED + REQUIRED}), f"{REQUIRED.splitlines()[0]}{BOTH}"),
    ],
)
def test_what_the_app_does_without_is_no_part_of_the_cause(log: str, said: str) -> None:
    assert explain("the cause", ENDED, NOBODY, {"log": log}) == f"{said} (the cause)"
    assert cause(1, log, Secrets()) == said


def test_nor_is_what_was_said_before_the_last_words() -> None:
    warned = "SENTRY_DSN is not set\nno route to host\n"
    assert explain("the cause", ENDED, NOBODY, {"log": warned}) == "no route to host (the cause)"
    assert cause(1, warned, Secrets()) == "exit code 1"
    assert cause(1, "starting\nDEPOT_KEY is not set\n", Secrets()).startswith("exit code 1; set DEPOT_KEY in")


def test_a_secret_that_is_there_as_a_variable_is_looked_for_under_another_name() -> None:
    there = Secrets(("SECRET_KEY", "SMTP_PASSWORD"), variables=True)
    assert secrets_missed(REQUIRED, there) == (
        "; SECRET_KEY and SMTP_PASSWORD are there as variables, so the app looks under another name, as with a prefix "
        "(env_prefix) or an alias: name it so in fastapi_app_secrets"
    )
    assert secrets_missed("KeyError: 'DEPOT_KEY'", Secrets(("depot_key",), True)).startswith("; DEPOT_KEY is there as")


def test_a_release_s_secrets_are_known_by_their_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.secrets("one") == Secrets()
    (tmp_path / "releases/one/secrets").mkdir(parents=True)
    (tmp_path / "releases/one/secrets/DEPOT_KEY").write_text("x")
    assert store.secrets("one") == Secrets(("DEPOT_KEY",))


@pytest.mark.parametrize(
    ("name", "text", "variables"),
    [
        ("compose.yaml", f"{WANTED}\nservices:\n", True),
        ("compose.yaml", f"services:\n  # {WANTED}\n", False),
        ("unit.service", f"ExecStart={' '.join(map(unit_word, [*by_shell(), 'serve']))}\n", True),
        ("unit.service", "ExecStart=serve\n", False),
    ],
)
def test_whether_they_are_variables_is_known_by_what_starts_it(
    tmp_path: Path, name: str, text: str, variables: bool
) -> None:
    (tmp_path / "releases/one/secrets").mkdir(parents=True)
    (tmp_path / "releases/one" / name).write_text(text)
    assert Store(tmp_path).secrets("one").variables is variables


@pytest.mark.parametrize(
    "log", ["A" * 1_000_000, "A_" * 500_000, "KeyError: '" * 90_000, "validation error\nA\n  " * 60_000]
)
def test_no_log_takes_long(log: str) -> None:
    begin = time.process_time()
    secrets_missed(log)
    assert time.process_time() - begin < 2
