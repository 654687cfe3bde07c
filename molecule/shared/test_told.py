"""What the inventory tells an app reaches its process as it is written, whichever runtime it has."""

from __future__ import annotations

from hashlib import sha256

from beside import Beside

from tests.values import TEXTS, VALUES


def test_what_the_inventory_says_is_what_a_process_has(beside: Beside) -> None:
    """Fifty values, a home that can be written, many open files, and more processors than any host has."""
    given = {name: value for name, (value, _) in VALUES.items()}
    beside.staged(fastapi_app_environment=given | {"NOTHING": None}, fastapi_app_secrets={}, fastapi_app_cpus=512)
    found = beside.look()
    told = {name: bytes.fromhex(text).decode() for name, text in found["variables"].items()}
    assert {name: told.get(name) for name in VALUES} == {name: text for name, (_, text) in VALUES.items()}
    assert "NOTHING" not in told
    assert found["home"] == "/tmp"
    # The lab's hosts are containers, and may have fewer themselves.
    most = int(beside.host.check_output("bash -c 'ulimit -Hn'"))
    assert found["files"] == [min(most, 65536)] * 2


def test_secrets_are_variables_of_the_process(beside: Beside) -> None:
    secrets = {name: text for name, text in TEXTS.items() if text.strip()}
    beside.staged(fastapi_app_secrets=secrets)
    digests = beside.look()["digests"]
    wanted = {name: sha256(text.rstrip("\n").encode()).hexdigest() for name, text in secrets.items()}
    assert {name: digests.get(name) for name in secrets} == wanted
    beside.staged(fastapi_app_secrets=secrets, fastapi_app_secrets_as=["files"])
    assert not set(secrets) & set(beside.look()["variables"])
