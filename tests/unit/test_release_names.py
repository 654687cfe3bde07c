"""Filters that name a release, and what goes into a build context."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.filter import release as names
from ansible_collections.slipway.fleet.plugins.filter.release import (
    release_id,
    secret_files,
    secrets_digest,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import last_exception
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import parse_listening
from ansible_collections.slipway.fleet.plugins.module_utils.release.preflight import compose_version


def test_a_release_is_named_by_its_content() -> None:
    name = release_id("sha256:1", "config")
    assert name == release_id("sha256:1", "config")
    assert len({name, release_id("sha256:2", "config"), release_id("sha256:1", "other")}) == 3
    assert len(name) == 12
    with pytest.raises(AnsibleFilterError, match="fastapi_image first"):
        release_id("", "config")


def test_the_digest_changes_with_a_secret_and_not_with_their_order() -> None:
    one = secrets_digest({"A": "1", "B": "2"}, "links")
    assert one == secrets_digest({"B": "2", "A": "1"}, "links")
    assert one != secrets_digest({"A": "1", "B": "3"}, "links")
    assert one != secrets_digest({"A": "1", "B": "2"}, "other app")


def test_secret_files_belong_to_the_app_alone() -> None:
    for entry in secret_files({"KEY": 5}, "/r/secrets", 999):
        assert (entry["owner"], entry["group"]) == ("999", "999")
    directory, file = secret_files({"KEY": 5}, "/r/secrets")
    assert (directory["mode"], file["mode"]) == ("0500", "0400")
    assert not {"owner", "group"} & {*directory, *file}, "whose they are is known on the host alone"
    assert (file["dest"], file["content"], file["secret"]) == ("/r/secrets/KEY", "5", True)


def test_newlines_at_the_end_of_a_secret_are_left_out_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Display, "warning", lambda _self, text: said.append(text))
    secrets = {"KEY": "pa$s\n", "PEM": "one\ntwo\r\n\n", "PLAIN": " x "}
    contents = {file["dest"]: file["content"] for file in secret_files(secrets, "/r")[1:]}
    assert contents == {"/r/KEY": "pa$s", "/r/PEM": "one\ntwo", "/r/PLAIN": " x "}
    (warning,) = said
    assert "KEY, PEM is left out" in warning
    assert "pa$s" not in warning
    assert secrets_digest(secrets, "links") == secrets_digest({**secrets, "KEY": "pa$s"}, "links")


@pytest.mark.parametrize("name", ["../x", "a b", "", "1A", "A/B"])
def test_a_secret_name_cannot_leave_its_directory(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="letters, digits and underscores"):
        secret_files({name: "v"}, "/r")


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            "Traceback\n  x\nModuleNotFoundError: No module named 'nope'\n",
            "ModuleNotFoundError: No module named 'nope'",
        ),
        ('{"message": "worker", "exc": "Traceback\\nValueError: bad port\\n"}', "ValueError: bad port"),
        ("a.b.FirstError: 1\nc.LastError: 2", "c.LastError: 2"),
        ("all is well", ""),
    ],
)
def test_the_last_exception_of_a_log(log: str, found: str) -> None:
    assert last_exception(log) == found


def test_listening_addresses_from_the_kernel_tables() -> None:
    tables = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0\n"
        "   2: 0B00007F:9ED9 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100 0 0 10 0\n"
        "   1: 0100007F:8000 0100007F:1234 01 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0\n"
        "   3: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0\n"
        "   4: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 "
        "00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0\n"
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000002 00000000 00010000 0001 01 30 /run/slipway/links/blue/app.sock\n"
    )
    assert parse_listening(tables) == [
        "socket /run/slipway/links/blue/app.sock",
        "tcp port 80",
        "tcp port 8000 on 127.0.0.1",
        "tcp port 9000",
    ]


@pytest.mark.parametrize(("text", "version"), [("2.26.1-4", (2, 26)), ("v2.9", (2, 9)), ("5.0.0", (5, 0))])
def test_compose_versions(text: str, version: tuple[int, ...]) -> None:
    assert compose_version(text) == version


def test_the_digest_of_secrets_is_computed_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosts of a run are processes of their own that share a directory; the digest stands there, no secret."""
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    digest = names._scrypt.__wrapped__("a secret", "shortlinks")
    (kept,) = tmp_path.iterdir()
    assert kept.read_text() == digest
    assert kept.stat().st_mode & 0o077 == 0
    monkeypatch.setattr("hashlib.scrypt", None)
    assert names._scrypt.__wrapped__("a secret", "shortlinks") == digest
    assert hashlib.blake2b(b'["a secret", "shortlinks"]').hexdigest() not in kept.name
