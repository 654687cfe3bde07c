"""A log that misses a secret gets the advice where to put it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import explain
from ansible_collections.slipway.fleet.plugins.module_utils.release.missed import secret, secrets_missed
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

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
    found = secrets_missed(log, there)
    assert found.startswith(said)
    assert bool(found) is bool(said)


def test_it_follows_the_exception_and_the_last_words() -> None:
    for log, begin in (
        ("Traceback\nKeyError: 'DEPOT_KEY'\n", "KeyError: 'DEPOT_KEY'; set DEPOT_KEY in fastapi_app_secrets"),
        ("fatal: DEPOT_KEY is not set\n", "fatal: DEPOT_KEY is not set; set DEPOT_KEY in fastapi_app_secrets"),
    ):
        assert explain("the cause", ENDED, NOBODY, {"log": log}).startswith(begin)
        assert "/run/secrets" in explain("the cause", ENDED, NOBODY, {"log": log}, ["DEPOT_KEY"])


def test_a_release_s_secrets_are_known_by_their_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.secrets("one") == []
    (tmp_path / "releases/one/secrets").mkdir(parents=True)
    (tmp_path / "releases/one/secrets/DEPOT_KEY").write_text("x")
    assert store.secrets("one") == ["DEPOT_KEY"]


@pytest.mark.parametrize(
    "log", ["A" * 1_000_000, "A_" * 500_000, "KeyError: '" * 90_000, "validation error\nA\n  " * 60_000]
)
def test_no_log_takes_long(log: str) -> None:
    begin = time.process_time()
    secrets_missed(log)
    assert time.process_time() - begin < 2
