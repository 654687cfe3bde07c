"""What a server keeps of a password."""

from __future__ import annotations

import base64

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.scram import fits, verifier

# RFC 7677, section 3: user, password pencil; the salt and the iterations of its example.
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY="
    ":wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)


def test_a_verifier_is_that_of_the_standard() -> None:
    assert verifier("pencil", SALT) == PENCIL
    assert fits("pencil", PENCIL)
    assert not fits("pencils", PENCIL)


def test_each_has_a_salt_of_its_own() -> None:
    one, other = verifier("pencil"), verifier("pencil")
    assert one != other
    assert fits("pencil", one)
    assert fits("pencil", other)


def test_it_fits_whatever_the_server_counted_to() -> None:
    assert fits("pencil", verifier("pencil", iterations=1000))


@pytest.mark.parametrize(
    "kept", ["", "md5a3556571e93b0d20722ba62be61e8c2d", "SCRAM-SHA-256$x:y$z:w", "SCRAM-SHA-256$1:A$A:A"]
)
def test_what_is_no_verifier_fits_nothing(kept: str) -> None:
    assert not fits("pencil", kept)
