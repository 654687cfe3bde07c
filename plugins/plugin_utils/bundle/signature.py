# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Who made a bundle, for which fleet, and when: a statement over the sums of all its parts, signed with an SSH key.

`ssh-keygen -Y` signs and verifies (OpenSSH 8.1 and later, ssh-keygen(1)): whoever deploys over SSH has it, it takes the
keys of agents and of hardware tokens, and no service on the internet.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, Ran, run
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import object_of

# Why a signature was made; one that was made for something else counts for nothing here.
NAMESPACE = "slipway-bundle"
SIGNERS, KEY, OLDEST = "slipway_bundle_signers", "slipway_bundle_signing_key", "slipway_bundle_oldest"
# Seconds; a hardware token waits for a finger.
LIMIT = 120.0


class SignatureError(SlipwayError):
    """The bundle is not one of those who may make it; the text says why and what to do."""


@dataclass(frozen=True)
class Statement:
    """What is signed: the fleet (the name of its inventory), when the bundle was made (UTC), SHA-256 of its sums."""

    fleet: str
    made: str
    sums: str

    def text(self) -> bytes:
        """As it is signed."""
        return (json.dumps(asdict(self), sort_keys=True) + "\n").encode()


def stated(fleet: str, sums: bytes) -> Statement:
    """The statement of a bundle that is made now."""
    made = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Statement(fleet, made, hashlib.sha256(sums).hexdigest())


def read(text: bytes) -> Statement:
    """The statement in a bundle. Raises SignatureError."""
    try:
        found = object_of(text)
        statement = Statement(**{name: str(found[name]) for name in ("fleet", "made", "sums")})
        _moment(statement.made)
    except (KeyError, ValueError) as error:
        raise SignatureError(f"the statement of the bundle is damaged ({error}); copy the bundle again") from error
    return statement


def sign(text: bytes, key: Path) -> bytes:
    """The signature of a statement with a private key, or with that of an agent by its public one."""
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        file = Path(directory) / "statement"
        file.write_bytes(text)
        ran = _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, str(file))
        if ran.returncode:
            raise SignatureError(f"{KEY} is {key}, with which nothing could be signed: {ran.said[-500:]}")
        return (file.parent / "statement.sig").read_bytes()


def signer(text: bytes, signature: bytes, signers: Path) -> str:
    """Who signed a statement, by the names in a file of those who may. Raises SignatureError where none of them did."""
    if not signers.is_file():
        raise SignatureError(
            f"{SIGNERS} is {signers}, and there is no such file; a line is NAME ssh-ed25519 AAAA... "
            "(ssh-keygen(1), ALLOWED SIGNERS)"
        )
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        file, statement = Path(directory) / "sig", Path(directory) / "statement"
        file.write_bytes(signature)
        statement.write_bytes(text)
        known = ("-f", str(signers), "-n", NAMESPACE, "-s", str(file))
        found = _ssh_keygen("find-principals", "-f", str(signers), "-s", str(file), "-n", NAMESPACE)
        for name in found.stdout.splitlines() if found.returncode == 0 else ():
            with open(statement, "rb") as source:
                if _ssh_keygen("verify", "-I", name, *known, source=source).returncode == 0:
                    return name
    raise SignatureError(
        f"the bundle is not signed by one of those in {signers} ({SIGNERS}), so nothing was done. Find out who made it "
        "before you use it"
    )


def require(statement: Statement, sums: bytes, fleet: str, oldest: str) -> None:
    """Raise SignatureError where the statement is of another bundle or fleet, or made before `oldest` (UTC)."""
    if statement.sums != hashlib.sha256(sums).hexdigest():
        raise SignatureError("the signature in the bundle is that of another one, so nothing was done; copy it again")
    if statement.fleet != fleet:
        raise SignatureError(
            f"the bundle was made for the inventory {statement.fleet[:100]!r} and not for {fleet!r}, so nothing was "
            "done; take that of this inventory"
        )
    if oldest and _moment(statement.made) < _moment(oldest):
        raise SignatureError(
            f"the bundle was made at {statement.made}, and a newer one of {oldest} was used or asked for, so nothing "
            f"was done: an older one brings back what was mended since. Where you mean it, -e {OLDEST}={statement.made}"
        )


def _moment(text: str) -> datetime:
    """A time in ISO 8601, in UTC where it says nothing else. Raises ValueError."""
    found = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def require_moment(text: str) -> None:
    """Raise SignatureError unless it is a time, or empty."""
    try:
        _moment(text or "2026-01-01")
    except ValueError:
        raise SignatureError(f"{OLDEST} is {text!r}; write a time such as 2026-11-26 or 2026-11-26T10:00:00Z") from None


def newer(one: str, other: str) -> str:
    """The later of two times; either may be empty."""
    return max(filter(None, (one, other)), key=_moment, default="")


def _ssh_keygen(verb: str, *words: str, source: object = None) -> Ran:
    try:
        return run(["ssh-keygen", "-Y", verb, *words], LIMIT, source=source)  # type: ignore[arg-type]
    except CommandError as error:
        raise SignatureError(
            f"{SIGNERS} and {KEY} take ssh-keygen, which this machine has not; install OpenSSH's client"
        ) from error
